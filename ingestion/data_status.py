"""What history there is: of core symbols per timeframe, and of the index per symbol.

Rows are counted up to `EXACT_ROWS` and estimated beyond: of an exchange from how long a time was
asked for, of the index from its first and last candle. Both are upper bounds, for a quiet minute
has no row. Counting millions of rows for a page would take the database from who needs it, and so
would looking for gaps in years of the index: those are of the last 24 hours (`GAPS_BACK_MS`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection

from ingestion import data_sync
from ingestion.data_sync import Last
from market import gaps
from market.candles import epoch_ms
from market.coverage import Series
from market.gaps import Gap
from market.models import Candle1m, Coverage, ExchangeCandle, Listing
from market.ranges import TimeRange, subtract
from oracle.values import RESOLUTIONS

EXACT_ROWS = 10_000
GAPS_BACK_MS = 86_400_000

_ROWS = f"""
SELECT wanted.n, found.count
FROM unnest(%s::int[], %s::text[], %s::text[], %s::text[])
    AS wanted (n, exchange, symbol, timeframe)
CROSS JOIN LATERAL (
    SELECT count(*) FROM (
        SELECT 1 FROM {ExchangeCandle._meta.db_table} AS held
        WHERE held.exchange = wanted.exchange AND held.symbol = wanted.symbol
            AND held.timeframe = wanted.timeframe
        LIMIT {EXACT_ROWS + 1}
    ) AS few
) AS found
"""
_INDEX_ROWS = f"""
SELECT wanted.symbol, span.first, span.last, found.count
FROM unnest(%s::text[]) AS wanted (symbol)
CROSS JOIN LATERAL (
    SELECT min(time) AS first, max(time) AS last
    FROM {Candle1m._meta.db_table} AS held WHERE held.symbol = wanted.symbol
) AS span
CROSS JOIN LATERAL (
    SELECT count(*) FROM (
        SELECT 1 FROM {Candle1m._meta.db_table} AS held
        WHERE held.symbol = wanted.symbol LIMIT {EXACT_ROWS + 1}
    ) AS few
) AS found
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesStatus:
    """A series: what was asked for, with the holes in it, and how the last fetch went.

    ``whole`` is None where nothing was. ``exact``: the rows are counted, not estimated.
    """

    series: Series
    whole: TimeRange | None
    rows: int
    exact: bool
    gaps: tuple[TimeRange, ...]
    last: Last | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStatus:
    """A symbol of the index: its 1m candles, and the gaps of the last 24 hours."""

    symbol: str
    whole: TimeRange | None
    rows: int
    exact: bool
    gaps: tuple[Gap, ...]


def of_core_symbols(listings: Sequence[Listing]) -> dict[int, list[SeriesStatus]]:
    """The status of each timeframe of core symbols, by the listing's id."""
    series = {
        row.pk: [
            Series(exchange=row.exchange.name, symbol=row.symbol.name, timeframe=timeframe)
            for timeframe in row.timeframes
        ]
        for row in listings
    }
    every = list(dict.fromkeys(one for found in series.values() for one in found))
    counts, ranges, last = _counts(every), _ranges(every), data_sync.last(every)
    return {
        pk: [_status(one, counts[one], ranges[one], last.get(one)) for one in found]
        for pk, found in series.items()
    }


def _status(series: Series, count: int, ranges: list[TimeRange], last: Last | None) -> SeriesStatus:
    whole, holes = None, []
    if ranges:
        whole = TimeRange(start_ms=ranges[0].start_ms, end_ms=ranges[-1].end_ms)
        holes = subtract(whole, ranges)
    covered_ms = sum(part.length_ms for part in ranges)
    exact = count <= EXACT_ROWS
    return SeriesStatus(
        series=series,
        whole=whole,
        rows=count if exact else max(count, covered_ms // RESOLUTIONS[series.timeframe]),
        exact=exact,
        gaps=tuple(holes),
        last=last,
    )


def _counts(every: Sequence[Series]) -> dict[Series, int]:
    """How many rows each has, up to one more than EXACT_ROWS."""
    with connection.cursor() as cursor:
        cursor.execute(
            _ROWS,
            [
                list(range(len(every))),
                [one.exchange for one in every],
                [one.symbol for one in every],
                [one.timeframe for one in every],
            ],
        )
        return {every[n]: count for n, count in cursor.fetchall()}


def _ranges(every: Sequence[Series]) -> dict[Series, list[TimeRange]]:
    """What is covered of each, oldest first."""
    found: dict[Series, list[TimeRange]] = defaultdict(list)
    rows = Coverage.objects.filter(
        exchange__in={one.exchange for one in every}, symbol__in={one.symbol for one in every}
    ).order_by("start")
    for exchange, symbol, timeframe, start, end in rows.values_list(
        "exchange", "symbol", "timeframe", "start", "end"
    ):
        series = Series(exchange=exchange, symbol=symbol, timeframe=timeframe)
        found[series].append(TimeRange(start_ms=epoch_ms(start), end_ms=epoch_ms(end)))
    return found


def of_index(symbols: Sequence[str], *, now_ms: int) -> list[IndexStatus]:
    """The status of symbols of the index, by name."""
    found: dict[str, list[Gap]] = defaultdict(list)
    for gap in gaps.find(symbols, from_ms=now_ms - GAPS_BACK_MS, to_ms=now_ms, now_ms=now_ms):
        found[gap.symbol].append(gap)
    with connection.cursor() as cursor:
        cursor.execute(_INDEX_ROWS, [list(symbols)])
        rows = cursor.fetchall()
    statuses = []
    for symbol, first, last, count in sorted(rows):
        whole = None
        if first is not None:
            end_ms = epoch_ms(last) + RESOLUTIONS["1m"]
            whole = TimeRange(start_ms=epoch_ms(first), end_ms=end_ms)
        exact = count <= EXACT_ROWS or whole is None
        statuses.append(
            IndexStatus(
                symbol=symbol,
                whole=whole,
                rows=count if exact or whole is None else whole.length_ms // RESOLUTIONS["1m"],
                exact=exact,
                gaps=tuple(found[symbol]),
            )
        )
    return statuses
