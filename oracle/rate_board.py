"""The published trade rates: written every 10 s, read by everyone, saved to the history later.

A rate is kept for an hour and says how old it is. What a tick publishes waits in Redis until the
database has it: UNSAVED_TICKS of them, should that be away for long.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec
from django.conf import settings

from oracle import keys
from oracle.connection import redis_client, run_script
from oracle.price_board import Freshness, Stamped
from oracle.values import Source, Status

KEEP_SECONDS = 3_600
STALE_MS = 30_000  # three ticks without a new rate
UNSAVED_TICKS = 6 * 360  # six hours
RESOURCE = "rates"

RateMethod = Literal["vwap", "median", "mean"]


class FxLeg(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A step of a derived rate: multiplied by ``factor``, as of ``as_of_ms``, on whose word.

    ``date`` is the day that an authority names (ISO); None where it is no authority's.
    """

    name: str  # "USD→RUB"
    factor: Decimal
    as_of_ms: int
    source: str
    date: str | None = None


class Rate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The volume-weighted price of a window's trades, with its receipt.

    ``timestamp_ms`` is the window's end and never re-stamped; ``as_of_ms`` the time of its oldest
    leg. ``volume`` (base) and ``quote_volume`` are those of the kept sources, in the symbol's
    currencies. A derived rate names the symbol it was ``derived_from`` and its ``legs``.
    """

    symbol: str
    price: Decimal
    method: RateMethod
    status: Status
    timestamp_ms: int
    as_of_ms: int
    window_ms: int
    volume: Decimal
    quote_volume: Decimal
    trade_count: int
    source_count: int
    outliers_removed: int
    sources: tuple[Source, ...]
    derived_from: str | None = None
    legs: tuple[FxLeg, ...] = ()
    simulated: bool = False


class Unsaved(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A rate as the price history will hold it."""

    symbol: str
    time_ms: int
    price: Decimal
    method: RateMethod
    sources: tuple[str, ...]
    volume: Decimal


class _Tick(msgspec.Struct, frozen=True, gc=False):
    simulated: bool
    rows: tuple[Unsaved, ...]


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """Ticks that are not saved yet: their rows, and what `forget` takes."""

    rows: tuple[Unsaved, ...]
    members: tuple[bytes, ...]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Rate).decode
_decode_tick = msgspec.json.Decoder(_Tick).decode


def publish(rates: Sequence[Rate], *, tick_ms: int, token: str) -> int | None:
    """Publish a tick's rates and keep them to be saved; how many older ticks were dropped for it.

    None, and nothing is done, when a newer fencing token has written before.
    """
    if not rates:
        return 0
    rows = tuple(_unsaved(rate, tick_ms) for rate in rates)
    dropped = run_script(
        "rates_publish",
        [
            keys.fence(RESOURCE),
            keys.rates_unsaved(),
            *(keys.rate(rate.symbol) for rate in rates),
        ],
        [
            token,
            keys.channel("rates"),
            KEEP_SECONDS,
            tick_ms,
            _encode(_Tick(settings.SIMULATED, rows)),
            UNSAVED_TICKS,
            *map(_encode, rates),
        ],
    )
    return None if dropped < 0 else int(dropped)


def read(symbols: Iterable[str]) -> dict[str, Rate]:
    """The rates there are of these symbols, in one round trip; none of the other world's."""
    names = list(symbols)
    if not names:
        return {}
    texts = redis_client().mget([keys.rate(name) for name in names])
    rates = {name: _decode(text) for name, text in zip(names, texts, strict=True) if text}
    return {name: rate for name, rate in rates.items() if rate.simulated == settings.SIMULATED}


def freshness(rate: Stamped, *, now_ms: int, max_age_ms: int = STALE_MS) -> Freshness:
    """The status and age of a rate at ``now_ms``: stale when not made anew for ``max_age_ms``."""
    stale = now_ms - rate.timestamp_ms > max_age_ms
    return Freshness(
        status="stale" if stale else rate.status, age_ms=max(0, now_ms - rate.as_of_ms)
    )


def unsaved(*, ticks: int) -> Waiting:
    """The oldest ``ticks`` that wait to be saved; the other world's are dropped, not saved."""
    members: Any = redis_client().zrange(keys.rates_unsaved(), 0, ticks - 1)
    found = [_decode_tick(member) for member in members]
    rows = [row for tick in found if tick.simulated == settings.SIMULATED for row in tick.rows]
    return Waiting(tuple(rows), tuple(members))


def forget(waiting: Waiting) -> None:
    """Take saved ticks off the list. Safe to call again."""
    if waiting.members:
        redis_client().zrem(keys.rates_unsaved(), *waiting.members)


def _unsaved(rate: Rate, tick_ms: int) -> Unsaved:
    kept = {source.exchange for source in rate.sources if source.kept}
    return Unsaved(
        symbol=rate.symbol,
        time_ms=tick_ms,
        price=rate.price,
        method=rate.method,
        sources=tuple(sorted(kept)),
        volume=rate.volume,
    )
