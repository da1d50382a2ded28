"""Rolling up: one touched minute beside much history, and a whole year of a symbol.

Floor of the minute: bare SELECTs that fold the same buckets, one a level. Floor of the year: one
bare SELECT that folds its minutes to five. Both write nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime

from django.db import connection, transaction

from bench.figures import Figure
from market import rollups
from market.ranges import TimeRange
from market.rollup_levels import AGGREGATED, LEVELS

MINUTE_MS = 60_000
YEAR_MINUTES = 525_600
START = datetime(2025, 1, 1, tzinfo=UTC)
START_MS = int(START.timestamp()) * 1_000
NOW_MS = START_MS + YEAR_MINUTES * MINUTE_MS
SYMBOL = "BTC/USDT"

_FILL = """
    INSERT INTO ohlcv_1m (symbol, time, open, high, low, close, volume, quote_volume, vwap,
        trade_count, source_count, sources, revision)
    SELECT %s, %s::timestamptz + number * interval '1 minute', 42150.5, 42180.3 + mod(number, 7),
        42145, 42170.2, 12.345678, 520000.12345678, 42150.5, 345, 5,
        '{binance,bybit,kraken,kucoin,okx}', 0
    FROM generate_series(0, %s - 1) AS number
"""
_FOLD = """
    SELECT count(made) FROM (
        SELECT date_bin('{interval}', time, '2000-01-01T00:00:00Z') AS bucket, {aggregated}
        FROM {below} WHERE symbol = %s AND time >= %s AND time < %s GROUP BY bucket
    ) AS made
"""


def measure_year() -> list[Figure]:
    """A year of 1m candles of one symbol, rolled up at all resolutions."""
    _empty()
    _run(_FILL, SYMBOL, START, YEAR_MINUTES)
    _run("ANALYZE ohlcv_1m")
    whole = TimeRange(start_ms=START_MS, end_ms=NOW_MS)
    floor = _seconds(lambda: _fold(whole, "ohlcv_1m"))
    _note(whole)
    taken = _seconds(lambda: rollups.refresh_due(now_ms=NOW_MS))
    return [
        Figure(
            name="rollup_year",
            value=taken,
            unit="s",
            floor=floor,
            floor_is="bare SELECT that folds the same minutes to five",
            limit=30,
        )
    ]


def measure_minute(*, rounds: int) -> list[Figure]:
    """The median of one touched minute, after that year."""
    if not _run("SELECT count(*) FROM ohlcv_1d"):
        measure_year()
    taken, bare = [], []
    for number in range(rounds + 2):
        start_ms = START_MS + (number * 7_919 + 1) % YEAR_MINUTES * MINUTE_MS
        minute = TimeRange(start_ms=start_ms, end_ms=start_ms + MINUTE_MS)
        _note(minute)
        refreshed = _seconds(lambda: rollups.refresh_due(now_ms=NOW_MS))
        folded = _seconds(lambda minute=minute: _fold_levels(minute))  # type: ignore[misc]
        if number >= 2:
            taken.append(refreshed * 1_000)
            bare.append(folded * 1_000)
    return [
        Figure(
            name="rollup_minute",
            value=statistics.median(taken),
            unit="ms",
            floor=statistics.median(bare),
            floor_is=f"bare SELECTs that fold the same buckets, median of {rounds}",
            limit=20,
        )
    ]


def _note(whole: TimeRange) -> None:
    with transaction.atomic():
        rollups.note_touched([(SYMBOL, whole)])


def _fold(whole: TimeRange, below: str, *, interval: str = LEVELS[0].interval) -> None:
    _run(
        _FOLD.format(interval=interval, aggregated=AGGREGATED, below=below),
        SYMBOL,
        datetime.fromtimestamp(whole.start_ms / 1_000, tz=UTC),
        datetime.fromtimestamp(whole.end_ms / 1_000, tz=UTC),
    )


def _fold_levels(minute: TimeRange) -> None:
    for level in LEVELS:
        start_ms = minute.start_ms // level.width_ms * level.width_ms
        bucket = TimeRange(start_ms=start_ms, end_ms=start_ms + level.width_ms)
        _fold(bucket, level.below, interval=level.interval)


def _empty() -> None:
    for table in ("ohlcv_1m", "rollup_due", *rollups.TABLES.values()):
        _run(f"TRUNCATE {table}")


def _run(statement: str, *values: str | int | datetime) -> int:
    """The first number of what it answers; 0 where that is nothing."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        row = cursor.fetchone() if cursor.description else None
    return int(row[0]) if row else 0


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
