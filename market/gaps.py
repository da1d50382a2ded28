"""Minutes without a candle: missing ones can be asked for, empty ones nobody has.

What waits in Redis is neither: look only at minutes that must have been flushed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from django.conf import settings
from django.db import connection

from market.candles import epoch_ms, to_datetime
from market.coverage import INDEX
from market.models import Coverage
from market.ranges import TimeRange, join, subtract
from oracle import candle_book
from oracle.candle_book import MINUTE_MS

# A flush comes each minute, and begins within seconds of it.
FLUSHED_AFTER_MS = 2 * MINUTE_MS

# One walk along the primary key for each symbol: nothing is sorted.
_HOLES = """
SELECT wanted.symbol, holes.start, holes."end"
FROM unnest(%(symbols)s::text[]) AS wanted (symbol) CROSS JOIN LATERAL (
    SELECT start, "end" FROM (
        SELECT lag(time + interval '1 minute', 1, %(from)s::timestamptz) OVER (ORDER BY time)
            AS start, time AS "end"
        FROM ohlcv_1m
        WHERE symbol = wanted.symbol AND time >= %(from)s AND time < %(to)s
    ) AS steps WHERE start < "end"
    UNION ALL
    SELECT COALESCE(max(time) + interval '1 minute', %(from)s), %(to)s
    FROM ohlcv_1m WHERE symbol = wanted.symbol AND time >= %(from)s AND time < %(to)s
    HAVING COALESCE(max(time) + interval '1 minute', %(from)s) < %(to)s
) AS holes
ORDER BY wanted.symbol, holes.start
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Minutes in a row that are not stored. ``empty``: asked for, and no exchange has any."""

    symbol: str
    whole: TimeRange
    empty: bool

    @property
    def minute_count(self) -> int:
        return self.whole.length_ms // MINUTE_MS


def settled_ms(*, now_ms: int) -> int:
    """Up to when every candle of live collection is in the database, if there is one at all."""
    unflushed_ms = candle_book.unflushed_from()
    end_ms = now_ms - settings.FLUSH_GRACE_MS - FLUSHED_AFTER_MS
    if unflushed_ms is not None:
        end_ms = min(end_ms, unflushed_ms)
    return end_ms // MINUTE_MS * MINUTE_MS


def find(symbols: Collection[str], *, from_ms: int, to_ms: int, now_ms: int) -> list[Gap]:
    """The gaps of symbols in ``[from_ms, to_ms)`` as far as it is settled, by symbol and time."""
    start_ms = -(-from_ms // MINUTE_MS) * MINUTE_MS
    end_ms = min(to_ms // MINUTE_MS * MINUTE_MS, settled_ms(now_ms=now_ms))
    if start_ms >= end_ms or not symbols:
        return []
    bounds = {"from": to_datetime(start_ms), "to": to_datetime(end_ms)}
    with connection.cursor() as cursor:
        cursor.execute(_HOLES, {"symbols": sorted(symbols), **bounds})
        holes = [
            (symbol, TimeRange(start_ms=epoch_ms(start), end_ms=epoch_ms(end)))
            for symbol, start, end in cursor.fetchall()
        ]
    covered = _covered({symbol for symbol, _ in holes}, start_ms=start_ms, end_ms=end_ms)
    return [gap for symbol, hole in holes for gap in _told_apart(symbol, hole, covered[symbol])]


def _covered(symbols: Collection[str], *, start_ms: int, end_ms: int) -> dict[str, list[TimeRange]]:
    found: dict[str, list[TimeRange]] = {symbol: [] for symbol in symbols}
    rows = Coverage.objects.filter(
        exchange=INDEX,
        symbol__in=found,
        timeframe="1m",
        start__lt=to_datetime(end_ms),
        end__gt=to_datetime(start_ms),
    ).values_list("symbol", "start", "end")
    for symbol, start, end in rows:
        found[symbol].append(TimeRange(start_ms=epoch_ms(start), end_ms=epoch_ms(end)))
    return found


def _told_apart(symbol: str, hole: TimeRange, covered: Iterable[TimeRange]) -> list[Gap]:
    missing = subtract(hole, join(covered))
    empty = subtract(hole, missing)
    gaps = [Gap(symbol=symbol, whole=each, empty=False) for each in missing]
    gaps += [Gap(symbol=symbol, whole=each, empty=True) for each in empty]
    return sorted(gaps, key=lambda gap: gap.whole)
