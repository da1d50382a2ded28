"""The newest minutes, which Redis still holds: merged over what is stored of them.

Prices and trades are merged each by itself, for either may be newer than what is stored. The
answer is what a flush would store right now.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from decimal import Decimal

import msgspec
from django.db import connection

from market import volumes
from market.candles import to_datetime
from market.ranges import TimeRange
from oracle import candle_book, trade_totals
from oracle.candle_book import OpenCandle
from oracle.trade_totals import Sums

_MINUTES = """
    SELECT extract(epoch FROM time)::bigint * 1000, open, high, low, close, volume, quote_volume,
        vwap, trade_count, sources, revision, backfilled
    FROM ohlcv_1m WHERE symbol = %s AND time >= %s AND time < %s
"""


class Minute(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A 1m candle as it is now. ``backfilled`` and ``revision`` are those of the stored one."""

    open_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal | None = None
    quote_volume: Decimal | None = None
    vwap: Decimal | None = None
    trade_count: int | None = None
    sources: tuple[str, ...]
    revision: int = 0
    backfilled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The part of a range that Redis may know better, from ``start_ms`` to its end.

    ``candles``: the oldest and the newest minute of which prices wait for a flush.
    ``totals_from_ms``: from there on the totals of trades may wait for one. None: none do.
    """

    start_ms: int
    end_ms: int
    candles: tuple[int, int] | None
    totals_from_ms: int | None


def find(*, from_ms: int, to_ms: int) -> Tail | None:
    """The part of ``[from_ms, to_ms)`` that Redis may know better; None where it knows nothing.

    To be asked before the database: a flush that commits in between leaves a candle in both, never
    in neither.
    """
    candles, totals_from_ms = candle_book.unflushed_span(), trade_totals.unflushed_from()
    starts = [candles and candles[0], totals_from_ms]
    start_ms = max(from_ms, min((each for each in starts if each is not None), default=to_ms))
    if start_ms >= to_ms:
        return None
    return Tail(start_ms=start_ms, end_ms=to_ms, candles=candles, totals_from_ms=totals_from_ms)


def merge(symbol: str, tail: Tail) -> list[Minute]:
    """Every minute of the symbol in the tail, oldest first."""
    waiting = _waiting(symbol, tail)  # before what is stored, as `find` says
    stored = _stored(symbol, TimeRange(start_ms=tail.start_ms, end_ms=tail.end_ms))
    merged = stored | {
        open_ms: _priced(candle, stored.get(open_ms)) for open_ms, candle in waiting.items()
    }
    wanted = [
        (symbol, open_ms)
        for open_ms in merged
        if _may_have_trades(open_ms, tail, stored=stored, waiting=waiting)
    ]
    for (_, open_ms), sums in volumes.read(wanted).known.items():
        held = merged[open_ms]
        if _is_known_better(sums, held, waits=open_ms in waiting):
            merged[open_ms] = _traded(held, sums)
    return [merged[open_ms] for open_ms in sorted(merged)]


def _may_have_trades(
    open_ms: int, tail: Tail, *, stored: Container[int], waiting: Container[int]
) -> bool:
    """Would a flush look at the trades of this minute?"""
    if open_ms not in stored or open_ms in waiting:
        return True
    return tail.totals_from_ms is not None and tail.totals_from_ms <= open_ms


def _is_known_better(sums: Sums, held: Minute, *, waits: bool) -> bool:
    """Would a flush put these trades in the place of the held ones? As `market.candles` does."""
    if held.backfilled:
        return waits
    return sums.trade_count >= (held.trade_count or 0)


def _waiting(symbol: str, tail: Tail) -> dict[int, OpenCandle]:
    if tail.candles is None:
        return {}
    found = candle_book.read_span(symbol, tail.candles, from_ms=tail.start_ms, to_ms=tail.end_ms)
    return {candle.open_ms: candle for candle in found}


def _stored(symbol: str, whole: TimeRange) -> dict[int, Minute]:
    with connection.cursor() as cursor:
        times = to_datetime(whole.start_ms), to_datetime(whole.end_ms)
        cursor.execute(_MINUTES, [symbol, *times])
        rows = cursor.fetchall()
    fields = Minute.__struct_fields__
    return {row[0]: Minute(**dict(zip(fields, row, strict=True))) for row in rows}


def _priced(fresh: OpenCandle, held: Minute | None) -> Minute:
    """A minute whose prices wait in Redis; what is stored of it besides is kept."""
    minute = Minute(
        open_ms=fresh.open_ms,
        open=fresh.open,
        high=fresh.high,
        low=fresh.low,
        close=fresh.close,
        sources=fresh.sources,
    )
    if held is None:
        return minute
    return msgspec.structs.replace(
        minute,
        volume=held.volume,
        quote_volume=held.quote_volume,
        vwap=held.vwap,
        trade_count=held.trade_count,
        revision=held.revision,
        backfilled=held.backfilled,
    )


def _traded(held: Minute, sums: Sums) -> Minute:
    return msgspec.structs.replace(
        held,
        volume=sums.volume,
        quote_volume=sums.quote_volume,
        vwap=sums.vwap,
        trade_count=sums.trade_count,
    )
