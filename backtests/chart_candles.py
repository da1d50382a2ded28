"""Candles for a picture: of any range, as few as a screen can show."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from django.db import connection

from market import rollup_stores
from market.candles import epoch_ms, to_datetime
from market.coverage import INDEX, Series
from market.models import ExchangeCandle
from market.ranges import TimeRange
from oracle.values import RESOLUTIONS

MAX_BARS = 800
MAX_ROWS = 400_000  # read for one picture; of a longer range, the last ones
_MINUTE_MS, _DAY_MS = 60_000, 86_400_000
_STEPS_MS = tuple(
    minutes * _MINUTE_MS
    for minutes in (1, 2, 3, 5, 10, 15, 30, 60, 120, 180, 240, 360, 720, 1_440, 2_880, 10_080)
)

_BARS = """
SELECT bucket, (array_agg(open ORDER BY time))[1], max(high), min(low),
       (array_agg(close ORDER BY time DESC))[1], COALESCE(sum(volume), 0)
FROM (
    SELECT date_bin(%s, time, %s) AS bucket, time, open, high, low, close, volume
    FROM {table} WHERE {where}
) AS rows
GROUP BY bucket ORDER BY bucket
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """``rows``: time in ms, open, high, low, close, volume. ``step_ms``: what each covers."""

    whole: TimeRange
    step_ms: int
    rows: list[list[float]]


def read(series: Series, wanted: TimeRange) -> Bars:
    """The candles of a range, put together where there are more than MAX_BARS."""
    length_ms = RESOLUTIONS[series.timeframe]
    start_ms = max(wanted.start_ms, wanted.end_ms - MAX_ROWS * length_ms)
    whole = TimeRange(start_ms=start_ms // length_ms * length_ms, end_ms=wanted.end_ms)
    step_ms = _step_ms(whole, length_ms)
    table, where, params = _rows(series, whole)
    start = to_datetime(whole.start_ms)
    with connection.cursor() as cursor:
        cursor.execute(
            _BARS.format(table=table, where=f"{where} AND time >= %s AND time < %s"),
            [f"{step_ms} milliseconds", to_datetime(0), *params, start, to_datetime(whole.end_ms)],
        )
        rows = [[epoch_ms(at), *map(float, numbers)] for at, *numbers in cursor.fetchall()]
    return Bars(whole=whole, step_ms=step_ms, rows=rows)


def _step_ms(whole: TimeRange, length_ms: int) -> int:
    """The shortest length people know that makes the range at most MAX_BARS; whole days at last."""
    least = max(length_ms, whole.length_ms / MAX_BARS)
    for step_ms in _STEPS_MS:
        if step_ms >= least and step_ms % length_ms == 0:
            return step_ms
    return ceil(least / _DAY_MS) * _DAY_MS


def _rows(series: Series, whole: TimeRange) -> tuple[str, str, list[str]]:
    if series.exchange == INDEX:
        relation = rollup_stores.relation_of(series.timeframe, whole)
        return relation, "symbol = %s", [series.symbol]
    where = "exchange = %s AND timeframe = %s AND symbol = %s"
    params = [series.exchange, series.timeframe, series.symbol]
    return ExchangeCandle._meta.db_table, where, params
