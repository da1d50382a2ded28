"""Candles from the newest back: so many, or a page of them by its offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection

from market.candles import epoch_ms, to_datetime
from market.series import PAGE_ROWS, TABLES, Row, read_rows, row_pages
from oracle.values import RESOLUTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """A page of rows, newest first, and how many there are in all."""

    rows: Sequence[Row]
    total: int


def read_last(
    symbol: str, *, resolution: str, to_ms: int, count: int, now_ms: int
) -> Sequence[Row]:
    """The newest ``count`` candles that open before ``to_ms``, oldest first, as text."""
    step_ms = RESOLUTIONS[resolution]
    end_ms = -(-to_ms // step_ms) * step_ms
    start_ms = max(0, end_ms - count * step_ms)
    found = _all(symbol, resolution, start_ms, end_ms, now_ms)
    if len(found) < count and start_ms > 0:  # some are missing in there: older ones then
        end = to_datetime(end_ms)
        oldest = _stored_time(symbol, resolution, "AND time < %s", [end], offset=count - 1)
        found = _all(symbol, resolution, oldest or 0, end_ms, now_ms)
    return found[-count:]


def newest_before(symbol: str, *, resolution: str, to_ms: int, now_ms: int) -> int | None:
    """When the newest candle before ``to_ms`` opens; None where there is none."""
    found = read_last(symbol, resolution=resolution, to_ms=to_ms, count=1, now_ms=now_ms)
    return found[0][0] * 1_000 if found else None


def read_newest(symbol: str, *, resolution: str, limit: int, offset: int, now_ms: int) -> Newest:
    """``limit`` candles, newest first, after the ``offset`` newest; ``total`` by the index."""
    stored, newest_ms = _count(symbol, resolution)
    # What has no row yet, because all of it still waits.
    page = read_rows(
        symbol,
        resolution=resolution,
        from_ms=0 if newest_ms is None else newest_ms + 1,
        to_ms=now_ms + 1,
        limit=PAGE_ROWS,
        now_ms=now_ms,
    )
    found = [*reversed(page.rows)][offset : offset + limit]
    skip, left = max(0, offset - len(page.rows)), limit - len(found)
    if left and skip < stored:
        last_ms = _stored_time(symbol, resolution, "", [], offset=skip)
        first_ms = _stored_time(symbol, resolution, "", [], offset=min(skip + left, stored) - 1)
        if last_ms is not None and first_ms is not None:
            rows = _all(symbol, resolution, first_ms, last_ms + 1, now_ms)
            found += [*reversed(rows)][:left]
    return Newest(rows=found, total=stored + len(page.rows))


def _count(symbol: str, resolution: str) -> tuple[int, int | None]:
    """How many rows are stored, and when the newest opens."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT count(*), max(time) FROM {TABLES[resolution]} WHERE symbol = %s", [symbol]
        )
        count, newest = cursor.fetchone()
    return count, None if newest is None else epoch_ms(newest)


def _stored_time(
    symbol: str, resolution: str, where: str, values: Sequence[Any], *, offset: int
) -> int | None:
    """When the stored row opens that so many newer ones precede; None where there is none."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT extract(epoch FROM time)::bigint FROM {TABLES[resolution]} "
            f"WHERE symbol = %s {where} ORDER BY time DESC OFFSET %s LIMIT 1",
            [symbol, *values, offset],
        )
        row = cursor.fetchone()
    return row[0] * 1_000 if row else None


def _all(symbol: str, resolution: str, start_ms: int, end_ms: int, now_ms: int) -> list[Row]:
    pages = row_pages(symbol, resolution=resolution, from_ms=start_ms, to_ms=end_ms, now_ms=now_ms)
    return [row for page in pages for row in page]
