"""Rollups in tables of ours: the touched buckets of each level made anew, level by level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.db import connection

from market.candles import to_datetime
from market.ranges import TimeRange, join, widen
from market.rollup_levels import AGGREGATED, COLUMNS, LEVELS, Level

_NAMES = ", ".join(("symbol", "time", *COLUMNS))
_UPDATES = ", ".join(f"{name} = EXCLUDED.{name}" for name in COLUMNS)
# A join to each range by itself, or the planner may read the whole level below for one minute.
_REFRESH = """
    INSERT INTO {table} ({names})
    SELECT made.* FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[])
        AS touched (symbol, start, until)
    CROSS JOIN LATERAL (
        SELECT symbol, date_bin('{interval}', time, '2000-01-01T00:00:00Z') AS bucket, {aggregated}
        FROM {below} AS below
        WHERE below.symbol = touched.symbol AND time >= start AND time < until
        GROUP BY below.symbol, bucket
    ) AS made
    ON CONFLICT (symbol, time) DO UPDATE SET {updates}
"""
# A bucket whose last candle was taken back makes no row above, and is none any more.
_REMOVE = """
    DELETE FROM {table} AS held
    USING unnest(%s::text[], %s::timestamptz[], %s::timestamptz[]) AS touched (symbol, start, until)
    WHERE held.symbol = touched.symbol AND held.time >= start AND held.time < until
        AND NOT EXISTS (
            SELECT FROM {below} AS below WHERE below.symbol = held.symbol
                AND below.time >= held.time AND below.time < held.time + interval '{interval}'
        )
"""
# `SELECT DISTINCT symbol` would read every row; this reads one a symbol, from the primary key.
_SYMBOLS = """
    WITH RECURSIVE found AS (
        (SELECT symbol FROM ohlcv_1m ORDER BY symbol LIMIT 1)
        UNION ALL
        SELECT (
            SELECT symbol FROM ohlcv_1m WHERE symbol > found.symbol ORDER BY symbol LIMIT 1
        ) FROM found WHERE symbol IS NOT NULL
    )
    SELECT symbol FROM found WHERE symbol IS NOT NULL
"""


def symbols() -> list[str]:
    """Every symbol that has a 1m candle."""
    with connection.cursor() as cursor:
        cursor.execute(_SYMBOLS)
        return [symbol for (symbol,) in cursor.fetchall()]


def refresh(touched: Mapping[str, Sequence[TimeRange]]) -> None:
    """Make the buckets that these ranges of symbols touch anew, in the caller's transaction.

    Of ranges whose 1m candles are all kept: what has none below is removed.
    """
    for level in LEVELS:
        _refresh_level(level, touched)


def _refresh_level(level: Level, touched: Mapping[str, Sequence[TimeRange]]) -> None:
    ranges = [
        (symbol, to_datetime(each.start_ms), to_datetime(each.end_ms))
        for symbol, parts in touched.items()
        for each in join(widen(part, step_ms=level.width_ms) for part in parts)
    ]
    if not ranges:
        return
    columns = [list(column) for column in zip(*ranges, strict=True)]
    with connection.cursor() as cursor:
        for statement in (_REFRESH, _REMOVE):
            text = statement.format(
                table=level.table,
                below=level.below,
                interval=level.interval,
                names=_NAMES,
                aggregated=AGGREGATED,
                updates=_UPDATES,
            )
            cursor.execute(text, columns)
