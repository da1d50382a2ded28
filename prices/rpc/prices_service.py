"""PricesService@2.0.0: prices of pairs, and how they have changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from market.symbols import slug
from prices import changes, history
from prices.live.entry import quote_json
from prices.rpc import errors
from prices.rpc.errors import RpcError
from prices.rpc.quotes import LAST_RATE_MS, quote_or_error
from prices.rpc.registry import Answer, Context, MethodEntry, Service
from prices.rpc.requests import failed_pairs, read_pair, read_pairs, read_span

CHANGE_MS = 30_000


async def get_price(context: Context, given: Mapping[str, Any], now_ms: int) -> Answer:
    """``{pair}`` → ``{pair, price, timestamp}``."""
    board = context.board
    name = read_pair(given.get("pair"), board)
    if not board.is_subscribed:
        await board.ensure((name,))
    quote = quote_or_error(board, name, now_ms)
    return quote if isinstance(quote, msgspec.Raw) else await _stored(context, name, quote, now_ms)


async def get_multiple_prices(context: Context, given: Mapping[str, Any], now_ms: int) -> Answer:
    """``{pairs}`` → a list of ``{pair, price, timestamp}``, or one error that names each pair."""
    names = read_pairs(given, context.board)
    await context.board.ensure(names)
    quotes, failed = [], {}
    for name in names:
        quote = quote_or_error(context.board, name, now_ms)
        if isinstance(quote, RpcError):
            quote = await _stored(context, name, quote, now_ms)
        if isinstance(quote, RpcError):
            failed[slug(name)] = quote
        else:
            quotes.append(bytes(quote))
    if failed:
        return failed_pairs(failed)
    return msgspec.Raw(b"[%b]" % b",".join(quotes))


async def _stored(context: Context, name: str, error: RpcError, now_ms: int) -> Answer:
    """The last stored rate, where it is young enough; ``error`` otherwise."""

    async def work() -> msgspec.Raw:
        points = await context.memo.in_thread(_newest, name, now_ms)
        if not points:
            raise error
        return quote_json(name, points[0].price, points[0].time_ms)

    try:
        return await context.memo.get(("stored", name), 1, work)
    except RpcError as none:
        return none


def _newest(name: str, now_ms: int) -> list[history.Point]:
    return history.history(name, from_ms=now_ms - LAST_RATE_MS, to_ms=now_ms + 1, limit=1)


async def get_price_change(context: Context, given: Mapping[str, Any], now_ms: int) -> Answer:
    """``{pair, period, from?, to?}`` → start, end and the change in percent."""
    name = read_pair(given.get("pair"), context.board)
    span = read_span(given, default="24hours", now_ms=now_ms)

    async def work() -> msgspec.Raw:
        found = await context.memo.in_thread(_change, name, span.from_ms, span.to_ms)
        return msgspec.Raw(context.render(found))

    # Periods that end now move on; their answer is good for a while all the same.
    return await context.memo.get(("change", name, *span.asked), CHANGE_MS / 1_000, work)


def _change(name: str, from_ms: int, to_ms: int) -> dict[str, Any]:
    found = changes.change(name, from_ms=from_ms, to_ms=to_ms)
    pair = slug(name)
    if found is None:
        raise RpcError.of(errors.PRICE_UNAVAILABLE, f"{pair} has no prices in that time", pair=pair)
    return {
        "pair": pair,
        "startDate": found.start_ms,
        "endDate": found.end_ms,
        "startPrice": found.start_price,
        "endPrice": found.end_price,
        "changePercent": found.percent,
    }


SERVICE = Service(
    name="PricesService",
    version="2.0.0",
    methods=(
        MethodEntry(name="getPrice", call=get_price, cache_ms=5_000, per_minute=100),
        MethodEntry(
            name="getMultiplePrices", call=get_multiple_prices, cache_ms=5_000, per_minute=50
        ),
        MethodEntry(
            name="getPriceChange", call=get_price_change, cache_ms=CHANGE_MS, per_minute=30
        ),
    ),
    streams=("streamPrices",),
)
