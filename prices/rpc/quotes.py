"""The price that a pair has for JSON-RPC: the trade rate, else the spot index."""

from __future__ import annotations

import msgspec

from market.symbols import slug
from prices.live.board import Board
from prices.rpc import errors
from prices.rpc.errors import RpcError

LAST_RATE_MS = 120_000


def quote_or_error(board: Board, name: str, now_ms: int) -> msgspec.Raw | RpcError:
    """``{pair, price, timestamp}``, or why there is none.

    A rate that is not renewed any more is still answered, up to LAST_RATE_MS, where there is no
    index to take its place.
    """
    rate = board.rate(name, now_ms)
    if rate is not None and rate.status(now_ms) != "stale":
        return rate.quote()
    price = board.price(name, now_ms)
    if price is not None and price.status(now_ms) != "stale":
        return price.quote()
    if rate is not None and now_ms - rate.head.timestamp_ms < LAST_RATE_MS:
        return rate.quote()
    newest = max(
        (entry.head.timestamp_ms for entry in (rate, price) if entry is not None), default=None
    )
    pair = slug(name)
    if newest is None:
        return RpcError.of(errors.PRICE_UNAVAILABLE, f"{pair} has no price now", pair=pair)
    return RpcError.of(
        errors.PRICE_STALE,
        f"the newest price of {pair} is {now_ms - newest} ms old",
        pair=pair,
        timestamp=newest,
        ageMs=now_ms - newest,
    )
