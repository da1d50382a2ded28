"""Rollups as continuous aggregates of TimescaleDB: hierarchical, and real-time.

What lies above an aggregate's threshold is aggregated when it is read; what lies below is stored,
and has to be refreshed where it changes.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connection

from market.candles import to_datetime
from market.ranges import TimeRange, widen
from market.rollup_levels import AGGREGATED, LEVELS, Level

_CREATE = """
    CREATE MATERIALIZED VIEW {table}
    WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
    SELECT symbol, time_bucket('{interval}', time) AS time, {aggregated}
    FROM {below} GROUP BY symbol, time_bucket('{interval}', time)
    WITH NO DATA
"""
# Not the watermark, which is raised when a refresh ends: this is raised when one begins, and what
# changes below it from then on is not in it. Microseconds; negative where nothing is stored.
_THRESHOLD = """
    SELECT threshold.watermark
    FROM _timescaledb_catalog.continuous_agg AS aggregate
    JOIN _timescaledb_catalog.continuous_aggs_invalidation_threshold AS threshold
        ON threshold.hypertable_id = aggregate.raw_hypertable_id
    WHERE aggregate.user_view_schema = current_schema AND aggregate.user_view_name = %s
        AND threshold.watermark > 0
"""
# What lies above the watermark is not stored. Negative where nothing is.
_STORED = """
    SELECT aggregate.user_view_name, format('%I.%I', store.schema_name, store.table_name),
        greatest(mark.watermark / 1000, 0)
    FROM _timescaledb_catalog.continuous_agg AS aggregate
    JOIN _timescaledb_catalog.hypertable AS store ON store.id = aggregate.mat_hypertable_id
    JOIN _timescaledb_catalog.continuous_aggs_watermark AS mark USING (mat_hypertable_id)
    WHERE aggregate.user_view_schema = current_schema
"""


def in_use() -> bool:
    """Are the rollups of this database continuous aggregates?"""
    with connection.cursor() as cursor:
        cursor.execute("SELECT relkind = 'v' FROM pg_class WHERE oid = to_regclass('ohlcv_5m')")
        row = cursor.fetchone()
    return bool(row and row[0])


def stored() -> Sequence[tuple[str, str, int]]:
    """Of each aggregate: its name, the table that it is stored in, and up to which time."""
    with connection.cursor() as cursor:
        cursor.execute(_STORED)
        found: Sequence[tuple[str, str, int]] = cursor.fetchall()
    return found


def create(level: Level) -> str:
    """The statement that creates a level's aggregate, empty."""
    return _CREATE.format(
        table=level.table, interval=level.interval, below=level.below, aggregated=AGGREGATED
    )


def refresh(touched: TimeRange) -> None:
    """Make the stored buckets that a range touches anew, lowest level first.

    Not inside a transaction. Safe to repeat, and beside another: TimescaleDB keeps the account of
    what changed, and makes only that anew.
    """
    for level in LEVELS:
        window = _stored(level, widen(touched, step_ms=level.width_ms))
        if window is None:
            continue
        with connection.cursor() as cursor:
            cursor.execute(
                "CALL refresh_continuous_aggregate(%s, %s::timestamptz, %s::timestamptz)",
                [level.table, to_datetime(window.start_ms), to_datetime(window.end_ms)],
            )


def _stored(level: Level, buckets: TimeRange) -> TimeRange | None:
    """The part of these buckets that is below the threshold; None when nothing is."""
    with connection.cursor() as cursor:
        cursor.execute(_THRESHOLD, [level.table])
        row = cursor.fetchone()
    if row is None:
        return None
    end_ms = min(buckets.end_ms, row[0] // 1_000 // level.width_ms * level.width_ms)
    if end_ms <= buckets.start_ms:
        return None
    return TimeRange(start_ms=buckets.start_ms, end_ms=end_ms)
