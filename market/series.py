"""Candles as they are read, at every resolution: what is stored, with what is newer merged over it.

A rollup row is right unless something below it waits: a note that its minutes changed, or minutes
that Redis holds. Such a bucket is folded anew for the reader, by the rules of the rollups
themselves. So the answer is always that of folding all 1m candles, whatever is pending.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic

from django.db import connection

from market import folding, rollup_stores, rollups, tail
from market.candles import epoch_ms, to_datetime
from market.ranges import TimeRange, widen
from market.rollup_stores import Store
from market.row_forms import TEXTS, AnyRow, Form, Row
from market.tail import Minute, Tail
from oracle.values import RESOLUTIONS

TABLES = {"1m": "ohlcv_1m", **rollups.TABLES}
PAGE_ROWS = 5_000
LEAST_WINDOW_ROWS, WINDOWS_GROW = 1_000, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCandle:
    """A candle as it is read. Volumes are None where nobody was listening to trades."""

    open_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal | None
    quote_volume: Decimal | None
    vwap: Decimal | None
    trade_count: int | None
    source_count: int
    closed: bool
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The first candles of a range, oldest first; ``next_ms``: where the next page begins."""

    candles: tuple[StoredCandle, ...]
    next_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPage(Generic[AnyRow]):
    """The first rows of a range, oldest first; ``next_ms``: where the next page begins."""

    rows: Sequence[AnyRow]
    next_ms: int | None


def read_page(
    symbol: str, *, resolution: str, from_ms: int, to_ms: int, limit: int, now_ms: int
) -> Page:
    """The first ``limit`` candles that open in ``[from_ms, to_ms)``, oldest first.

    A candle whose end is not past ``now_ms`` is open.
    """
    page = read_rows(
        symbol, resolution=resolution, from_ms=from_ms, to_ms=to_ms, limit=limit, now_ms=now_ms
    )
    return Page(
        candles=tuple(candle(row, resolution, now_ms=now_ms) for row in page.rows),
        next_ms=page.next_ms,
    )


def rows(
    symbol: str, *, resolution: str, from_ms: int, to_ms: int, now_ms: int
) -> Iterator[StoredCandle]:
    """Every candle that opens in ``[from_ms, to_ms)``, oldest first, page by page."""
    span = {"from_ms": from_ms, "to_ms": to_ms, "now_ms": now_ms}
    for page in row_pages(symbol, resolution=resolution, **span):
        for row in page:
            yield candle(row, resolution, now_ms=now_ms)


def row_pages(
    symbol: str, *, resolution: str, from_ms: int, to_ms: int, now_ms: int
) -> Iterator[Sequence[Row]]:
    """The rows of a range, PAGE_ROWS at a time: each page is a question of its own.

    No statement lasts for longer than a page, and no transaction holds the database back.
    """
    next_ms: int | None = from_ms
    while next_ms is not None:
        page = read_rows(
            symbol,
            resolution=resolution,
            from_ms=next_ms,
            to_ms=to_ms,
            limit=PAGE_ROWS,
            now_ms=now_ms,
        )
        yield page.rows
        next_ms = page.next_ms


def read_rows(
    symbol: str, *, resolution: str, from_ms: int, to_ms: int, limit: int, now_ms: int
) -> RowPage[Row]:
    """The first ``limit`` candles that open in ``[from_ms, to_ms)``, oldest first, as texts."""
    span = {"from_ms": from_ms, "to_ms": to_ms, "limit": limit, "now_ms": now_ms}
    return read_in_form(TEXTS, symbol, resolution=resolution, **span)


def read_in_form(
    form: Form[AnyRow],
    symbol: str,
    *,
    resolution: str,
    from_ms: int,
    to_ms: int,
    limit: int,
    now_ms: int,
) -> RowPage[AnyRow]:
    """The first ``limit`` candles that open in ``[from_ms, to_ms)``, oldest first.

    Raises the database's and Redis's own errors.
    """
    whole = _buckets(resolution, from_ms, to_ms)
    if whole is None:
        return RowPage(rows=(), next_ms=None)
    newest = tail.find(from_ms=whole.start_ms, to_ms=whole.end_ms)
    series = _Series(symbol, resolution, form, whole, now_ms=now_ms)
    settled_ms = whole.end_ms
    if newest is not None:
        settled_ms = newest.start_ms // series.step_ms * series.step_ms
    found: list[AnyRow] = []
    if whole.start_ms < settled_ms:
        settled = TimeRange(start_ms=whole.start_ms, end_ms=settled_ms)
        found = series.settled(settled, limit + 1)
    if newest is not None and len(found) <= limit:
        found += series.unsettled(newest, TimeRange(start_ms=settled_ms, end_ms=whole.end_ms))
    more = len(found) > limit
    return RowPage(rows=found[:limit], next_ms=found[limit][0] * 1_000 if more else None)


def page_statement(
    form: Form[Any], symbol: str, store: Store, times: tuple[datetime, datetime], *, limit: int
) -> tuple[str, list[Any]]:
    """The SQL, with its parameters, for the first ``limit`` stored rows between two times."""
    sql = (
        f"SELECT {form.select} FROM {store.relation} "
        "WHERE symbol = %s AND time >= %s AND time < %s ORDER BY time LIMIT %s"
    )
    return sql, [symbol, *times, limit]


class _Series(Generic[AnyRow]):
    """A symbol's candles of one resolution, read in one form."""

    def __init__(
        self, symbol: str, resolution: str, form: Form[AnyRow], whole: TimeRange, *, now_ms: int
    ) -> None:
        self.symbol = symbol
        self.resolution = resolution
        self.form = form
        self.step_ms = RESOLUTIONS[resolution]
        self.stores = rollup_stores.TABLES if resolution == "1m" else rollup_stores.read()
        self.store = self.stores[TABLES[resolution]]
        # Before any row: what is rolled up in between is folded once more, and not read too early.
        self.due = [] if resolution == "1m" else rollups.due(symbol, whole, now_ms=now_ms)

    def settled(self, whole: TimeRange, limit: int) -> list[AnyRow]:
        """The first ``limit`` rows of buckets below which nothing waits in Redis."""
        newer, start_ms = self._not_stored(whole), whole.start_ms
        found: list[AnyRow] = []
        while start_ms < whole.end_ms and len(found) < limit:
            left = TimeRange(start_ms=start_ms, end_ms=whole.end_ms)
            rows, start_ms = self._part(left, limit - len(found), newer)
            found += rows
        return found[:limit]

    def unsettled(self, newest: Tail, whole: TimeRange) -> list[AnyRow]:
        """The rows of the buckets below which something waits."""
        minutes = tail.merge(self.symbol, newest)
        if self.resolution == "1m":
            return [self.form.of_minute(minute) for minute in minutes]
        pieces: folding.Pieces = {}
        if whole.start_ms < newest.start_ms:
            head = TimeRange(start_ms=whole.start_ms, end_ms=newest.start_ms)
            pieces = self._ladder([head])
        return self._fold(pieces, minutes) if pieces or minutes else []

    def _part(
        self, whole: TimeRange, limit: int, newer: Sequence[TimeRange]
    ) -> tuple[list[AnyRow], int]:
        """The rows from the beginning of ``whole`` up to where they end, at least ``limit``."""
        found = self._stored(whole, limit)
        end_ms = whole.end_ms
        if len(found) == limit:
            end_ms = found[-1][0] * 1_000 + self.step_ms
        part = TimeRange(start_ms=whole.start_ms, end_ms=end_ms)
        stale = folding.touched(part, [*self.due, *newer], step_ms=self.step_ms)
        if not stale:
            return found, end_ms
        stale, end_ms = _first(stale, length_ms=limit * self.step_ms, end_ms=end_ms)
        fresh = [row for row in found if row[0] * 1_000 < end_ms and not _is_in(row, stale)]
        pieces = self._ladder(stale)
        return sorted(fresh + (self._fold(pieces, ()) if pieces else [])), end_ms

    def _stored(self, whole: TimeRange, limit: int) -> list[AnyRow]:
        """The first ``limit`` rows that are stored, asked for in windows that grow.

        The first one most often holds all of them; of a hypertable it is planned in a fraction of
        the time of the whole range, chunk by chunk.
        """
        found: list[AnyRow] = []
        start_ms, end_ms = whole.start_ms, min(whole.end_ms, self.store.until_ms)
        length_ms = max(limit, LEAST_WINDOW_ROWS) * self.step_ms
        with connection.cursor() as cursor:
            while start_ms < end_ms and len(found) < limit:
                until_ms = min(start_ms + length_ms, end_ms)
                times, left = (to_datetime(start_ms), to_datetime(until_ms)), limit - len(found)
                cursor.execute(
                    *page_statement(self.form, self.symbol, self.store, times, limit=left)
                )
                found += cursor.fetchall()
                start_ms, length_ms = until_ms, length_ms * WINDOWS_GROW
        return found

    def _not_stored(self, whole: TimeRange) -> list[TimeRange]:
        """The buckets of ``whole`` that a continuous aggregate does not hold yet."""
        start_ms = max(whole.start_ms, self.store.until_ms)
        if start_ms >= whole.end_ms:
            return []
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT min(time), max(time) FROM {folding.MINUTES} "
                "WHERE symbol = %s AND time >= %s AND time < %s",
                [self.symbol, to_datetime(start_ms), to_datetime(whole.end_ms)],
            )
            first, last = cursor.fetchone()
        if first is None:
            return []
        minutes = TimeRange(start_ms=epoch_ms(first), end_ms=epoch_ms(last) + 1)
        return [widen(minutes, step_ms=self.step_ms)]

    def _ladder(self, ranges: Sequence[TimeRange]) -> folding.Pieces:
        return folding.ladder(self.resolution, ranges, due=self.due, stores=self.stores)

    def _fold(self, pieces: folding.Pieces, minutes: Sequence[Minute]) -> list[AnyRow]:
        sql, parameters = folding.statement(
            self.symbol,
            resolution=self.resolution,
            pieces=pieces,
            stores=self.stores,
            minutes=minutes,
        )
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {self.form.select} FROM ({sql}) AS bucket ORDER BY time", parameters
            )
            rows: list[AnyRow] = cursor.fetchall()
        return rows


def _first(
    ranges: Sequence[TimeRange], *, length_ms: int, end_ms: int
) -> tuple[list[TimeRange], int]:
    """The first of the ``ranges``, of so much length together, and where they end if cut there."""
    found: list[TimeRange] = []
    for each in ranges:
        if each.length_ms > length_ms:
            end_ms = each.start_ms + length_ms
            if length_ms:
                found.append(TimeRange(start_ms=each.start_ms, end_ms=end_ms))
            return found, end_ms
        found.append(each)
        length_ms -= each.length_ms
    return found, end_ms


def _is_in(row: tuple[Any, ...], ranges: Sequence[TimeRange]) -> bool:
    number = bisect_right(ranges, row[0] * 1_000, key=lambda each: each.start_ms)
    return number > 0 and row[0] * 1_000 < ranges[number - 1].end_ms


def _buckets(resolution: str, from_ms: int, to_ms: int) -> TimeRange | None:
    """From the first bucket that opens in ``[from_ms, to_ms)`` to the end of the last."""
    step_ms = RESOLUTIONS[resolution]
    start_ms, end_ms = -(-from_ms // step_ms) * step_ms, -(-to_ms // step_ms) * step_ms
    return TimeRange(start_ms=start_ms, end_ms=end_ms) if start_ms < end_ms else None


def candle(row: Row, resolution: str, *, now_ms: int) -> StoredCandle:
    """A row as numbers."""
    time, opened, high, low, close, volume, quote_volume, vwap, trades, sources, revision = row
    return StoredCandle(
        open_ms=time * 1_000,
        open=Decimal(opened),
        high=Decimal(high),
        low=Decimal(low),
        close=Decimal(close),
        volume=None if volume is None else Decimal(volume),
        quote_volume=None if quote_volume is None else Decimal(quote_volume),
        vwap=None if vwap is None else Decimal(vwap),
        trade_count=trades,
        source_count=sources,
        closed=is_closed(time, resolution, now_ms=now_ms),
        revision=revision,
    )


def is_closed(time: int, resolution: str, *, now_ms: int) -> bool:
    """Is the candle that opens at ``time`` (unix seconds) over?"""
    return time * 1_000 + RESOLUTIONS[resolution] <= now_ms
