"""Buckets made for a reader, of whatever is right below them: the rules are those of the rollups.

One statement folds what it is given as a refresh of the rollups does, but writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from market.candles import to_datetime
from market.models import DECIMALS, DIGITS
from market.ranges import TimeRange, join, subtract, widen
from market.rollup_levels import AGGREGATED, LEVELS, Level
from market.rollup_stores import Store
from market.tail import Minute

MINUTES = LEVELS[0].below
WIDTHS_MS = {MINUTES: 60_000, **{level.table: level.width_ms for level in LEVELS}}

# What a bucket is made of: ranges of stored candles by their table, each minute once.
Pieces = Mapping[str, Sequence[TimeRange]]

_COLUMNS = "open, high, low, close, volume, quote_volume, trade_count, sources, revision"
# A join to each range by itself, or the planner may read the whole table for one minute. Their
# bounds are said once more as constants: so a hypertable's other chunks are not even planned.
_STORED = (
    "SELECT part.* FROM unnest(%s::timestamptz[], %s::timestamptz[]) AS piece (start, until) "
    f"CROSS JOIN LATERAL (SELECT time, {_COLUMNS} FROM {{relation}} WHERE symbol = %s "
    "AND time >= start AND time < until AND time >= %s AND time < %s) AS part"
)
_NUMBER = f"numeric({DIGITS}, {DECIMALS})"  # as a flush would store it
_GIVEN = (
    f"SELECT time, open::{_NUMBER}, high::{_NUMBER}, low::{_NUMBER}, close::{_NUMBER}, "
    f"volume::{_NUMBER}, quote_volume::{_NUMBER}, trade_count, sources::text[], revision "
    "FROM unnest(%s::timestamptz[], %s::numeric[], %s::numeric[], %s::numeric[], %s::numeric[], "
    "%s::numeric[], %s::numeric[], %s::bigint[], %s::text[], %s::bigint[]) "
    f"AS given (time, {_COLUMNS})"
)
_FOLD = (
    "SELECT date_bin('{interval}', time, '2000-01-01T00:00:00Z') AS time, {aggregated} "
    "FROM ({parts}) AS part GROUP BY 1"
)


def ladder(
    resolution: str,
    ranges: Sequence[TimeRange],
    *,
    due: Sequence[TimeRange],
    stores: Mapping[str, Store],
) -> Pieces:
    """The fewest stored candles that make up ``ranges``, each of which begins with a bucket.

    Minutes that are ``due`` to be rolled up are not in the rollups yet: they are taken as such.
    """
    found: dict[str, list[TimeRange]] = {}
    for whole in ranges:
        start_ms = whole.start_ms
        for level in reversed(_levels_up_to(resolution)):
            width_ms = WIDTHS_MS[level.below]
            end_ms = min(whole.end_ms, stores[level.below].until_ms) // width_ms * width_ms
            if end_ms <= start_ms:
                continue
            piece = TimeRange(start_ms=start_ms, end_ms=end_ms)
            stale = touched(piece, due, step_ms=width_ms)
            found.setdefault(MINUTES, []).extend(stale)
            found.setdefault(level.below, []).extend(subtract(piece, stale))
            start_ms = end_ms
    return {table: join(parts) for table, parts in found.items() if parts}


def touched(whole: TimeRange, ranges: Sequence[TimeRange], *, step_ms: int) -> list[TimeRange]:
    """The buckets of ``whole`` that one of the ``ranges`` touches, oldest first, joined."""
    found = []
    for each in ranges:
        wide = widen(each, step_ms=step_ms)
        start_ms, end_ms = max(wide.start_ms, whole.start_ms), min(wide.end_ms, whole.end_ms)
        if start_ms < end_ms:
            found.append(TimeRange(start_ms=start_ms, end_ms=end_ms))
    return join(found)


def statement(
    symbol: str,
    *,
    resolution: str,
    pieces: Pieces,
    stores: Mapping[str, Store],
    minutes: Sequence[Minute] = (),
) -> tuple[str, list[Any]]:
    """SQL for the buckets of a resolution, with its parameters; the columns of the rollups.

    Made of stored ``pieces``, and of ``minutes`` that are given because they are not stored so.
    """
    levels = _levels_up_to(resolution)
    if sum(each.length_ms for each in pieces.get(MINUTES, ())) <= WIDTHS_MS["ohlcv_4h"]:
        # Few rows: one step does what level by level would, and is planned in a fraction of it.
        levels = levels[-1:]
    fed = _fed(symbol, pieces, minutes, stores)
    sql, parameters = "", []
    for level in levels:
        parts = [f"SELECT time, {_COLUMNS} FROM ({sql}) AS lower"] if sql else []
        last = level is levels[-1]
        for table in [each for each in fed if last or each == level.below]:
            part, given = fed.pop(table)
            parts.append(part)
            parameters += given
        if parts:
            sql = _FOLD.format(
                interval=level.interval, aggregated=AGGREGATED, parts=" UNION ALL ".join(parts)
            )
    return sql, parameters


def _fed(
    symbol: str, pieces: Pieces, minutes: Sequence[Minute], stores: Mapping[str, Store]
) -> dict[str, tuple[str, list[Any]]]:
    """What each table gives: SQL and parameters."""
    found: dict[str, tuple[str, list[Any]]] = {}
    for table, ranges in pieces.items():
        times = (
            [to_datetime(each.start_ms) for each in ranges],
            [to_datetime(each.end_ms) for each in ranges],
        )
        parameters = [*times, symbol, min(times[0]), max(times[1])]
        found[table] = _STORED.format(relation=stores[table].relation), parameters
    if minutes:
        given = [list(column) for column in zip(*map(_values, minutes), strict=True)]
        if MINUTES in found:
            sql, parameters = found[MINUTES]
            found[MINUTES] = f"{sql} UNION ALL {_GIVEN}", [*parameters, *given]
        else:
            found[MINUTES] = _GIVEN, given
    return found


def _values(minute: Minute) -> tuple[object, ...]:
    names = '","'.join(minute.sources)
    return (
        to_datetime(minute.open_ms),
        minute.open,
        minute.high,
        minute.low,
        minute.close,
        minute.volume,
        minute.quote_volume,
        minute.trade_count,
        f'{{"{names}"}}' if minute.sources else "{}",
        minute.revision,
    )


def _levels_up_to(resolution: str) -> list[Level]:
    names = [level.resolution for level in LEVELS]
    return list(LEVELS[: names.index(resolution) + 1])
