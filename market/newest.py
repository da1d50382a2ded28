"""Candles from the newest back: so many, or a page of them by its offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection

from market import rollup_stores
from market.candles import epoch_ms, to_datetime
from market.rollup_stores import Store
from market.row_forms import Row
from market.series import TABLES, row_pages
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
        store = rollup_stores.read()[TABLES[resolution]]
        oldest = _stored_time(symbol, store, min(end_ms, store.until_ms), offset=count - 1)
        found = _all(symbol, resolution, oldest or 0, end_ms, now_ms)
    return found[-count:]


def newest_before(symbol: str, *, resolution: str, to_ms: int, now_ms: int) -> int | None:
    """When the newest candle before ``to_ms`` opens; None where there is none."""
    found = read_last(symbol, resolution=resolution, to_ms=to_ms, count=1, now_ms=now_ms)
    return found[0][0] * 1_000 if found else None


def read_newest(symbol: str, *, resolution: str, limit: int, offset: int, now_ms: int) -> Newest:
    """``limit`` candles, newest first, after the ``offset`` newest; ``total`` by the index."""
    store = rollup_stores.read()[TABLES[resolution]]
    stored, newest_ms = _count(symbol, store)
    # What has no row yet, because all of it still waits.
    start_ms = 0 if newest_ms is None else newest_ms + 1
    waiting = _all(symbol, resolution, start_ms, now_ms + 1, now_ms)
    found = [*reversed(waiting)][offset : offset + limit]
    skip, left = max(0, offset - len(waiting)), limit - len(found)
    if left and skip < stored:
        last_ms = _stored_time(symbol, store, store.until_ms, offset=skip)
        first_ms = _stored_time(symbol, store, store.until_ms, offset=min(skip + left, stored) - 1)
        if last_ms is not None and first_ms is not None:
            rows = _all(symbol, resolution, first_ms, last_ms + 1, now_ms)
            found += [*reversed(rows)][:left]
    return Newest(rows=found, total=stored + len(waiting))


def _count(symbol: str, store: Store) -> tuple[int, int | None]:
    """How many rows are stored, and when the newest opens."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT count(*), max(time) FROM {store.relation} WHERE symbol = %s AND time < %s",
            [symbol, to_datetime(store.until_ms)],
        )
        count, newest = cursor.fetchone()
    return count, None if newest is None else epoch_ms(newest)


def _stored_time(symbol: str, store: Store, before_ms: int, *, offset: int) -> int | None:
    """When the row opens that so many newer stored ones precede; None where there is none."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT extract(epoch FROM time)::bigint FROM {store.relation} "
            "WHERE symbol = %s AND time < %s ORDER BY time DESC OFFSET %s LIMIT 1",
            [symbol, to_datetime(before_ms), offset],
        )
        row = cursor.fetchone()
    return row[0] * 1_000 if row else None


def _all(symbol: str, resolution: str, start_ms: int, end_ms: int, now_ms: int) -> list[Row]:
    pages = row_pages(symbol, resolution=resolution, from_ms=start_ms, to_ms=end_ms, now_ms=now_ms)
    return [row for page in pages for row in page]
