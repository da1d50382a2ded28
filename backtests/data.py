"""The candles of a run: fetched where missing, pinned by their revision, read as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from django.db import connection

from backtests.jobs import Claim
from backtests.work import JobError, Running, StoppedError
from ingestion import exchange_candles
from ingestion.exchange_candles import CandleError, Progress
from market import revisions, rollup_stores
from market.candles import to_datetime
from market.coverage import INDEX, Series
from market.models import ExchangeCandle
from market.ranges import TimeRange
from market.revisions import Drift, Fingerprint, StaleRollupError
from oracle.values import RESOLUTIONS

if TYPE_CHECKING:
    import numpy as np

    from backtests.engine.candles import Candles

# PostgreSQL's binary COPY: a header, then rows of a field count and six fields of eight bytes, each
# after its length, then a trailer. https://www.postgresql.org/docs/15/sql-copy.html
_HEADER_BYTES, _TRAILER = 19, b"\xff\xff"
_BODY_BYTES = 1_000_000  # that are held before the rows in them are taken out
_FIELDS = ("time_ms", "open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Candles, and what says which they were. ``whole``: what of the wanted range is closed."""

    series: Series
    whole: TimeRange
    candles: Candles
    fingerprint: Fingerprint

    @property
    def expected_count(self) -> int:
        """How many candles a range without holes has."""
        return self.whole.length_ms // RESOLUTIONS[self.series.timeframe]

    @property
    def lack(self) -> str:
        """How an error about too few candles goes on: see `lacking`."""
        return lacking(self.series, self.whole, len(self.candles))

    @property
    def lineage(self) -> dict[str, Any]:
        """Which candles, as a result states it."""
        return {
            **asdict(self.series),
            "start": f"{to_datetime(self.whole.start_ms):%Y-%m-%dT%H:%M:%SZ}",
            "end": f"{to_datetime(self.whole.end_ms):%Y-%m-%dT%H:%M:%SZ}",
            "start_ms": self.whole.start_ms,
            "end_ms": self.whole.end_ms,
            "row_count": self.fingerprint.row_count,
            "expected_count": self.expected_count,
            "revision": self.fingerprint.shown,
            "checksum": self.fingerprint.checksum,
        }


def prepare(series: Series, wanted: TimeRange, *, now_ms: int, running: Running) -> Dataset:
    """Fetch what is missing, pin the revision and read the candles of a range.

    Raises JobError where it cannot be had, and StoppedError.
    """
    whole = _ensure(series, wanted, now_ms=now_ms, running=running)
    running.check()
    running.report(phase="read")
    found = read(series, whole, now_ms=now_ms, running=running)
    fingerprint = found.fingerprint
    revisions.pin(series, whole, now_ms=now_ms, found=fingerprint)
    # Of our own index nothing is fetched: its history may begin long after the range does.
    running.note(
        "info" if fingerprint.row_count == found.expected_count else "warn",
        f"data pinned: {fingerprint.row_count} of {found.expected_count} candles, "
        f"revision {fingerprint.shown}",
        revision=fingerprint.shown,
        row_count=fingerprint.row_count,
    )
    return found


def read(series: Series, whole: TimeRange, *, now_ms: int, running: Running) -> Dataset:
    """The candles of a range as they are, with their fingerprint.

    Raises JobError and StoppedError.
    """
    fingerprint = _fingerprint(series, whole, now_ms=now_ms, running=running)
    if not fingerprint.row_count:
        name, lack = exchange_candles.named(series, whole), lacking(series, whole, 0)
        raise JobError(f"no candles: {name} is empty{lack}")
    try:
        candles = _read(series, whole, fingerprint.row_count, running)
    except ValueError as error:
        raise JobError(f"{exchange_candles.named(series, whole)}: {error}") from error
    # A snapshot would do with one reading, but rollups that are due cannot be made inside of one.
    if fingerprint != _fingerprint(series, whole, now_ms=now_ms, running=running):
        raise _changed()
    return Dataset(series=series, whole=whole, candles=candles, fingerprint=fingerprint)


def lacking(series: Series, whole: TimeRange, count: int) -> str:
    """How many candles of a range are missing where ``count`` are there, and what may bring them.

    Empty where none is, and for an exchange's own: all that it gives is fetched, holes are quiet.
    """
    expected = whole.length_ms // RESOLUTIONS[series.timeframe]
    if series.exchange != INDEX or count >= expected:
        return ""
    start, end = to_datetime(whole.start_ms), to_datetime(whole.end_ms)
    return (
        f"; {expected - count:,} of the range's {expected:,} are missing: `python manage.py "
        f"backfill {series.symbol} --from {start:%Y-%m-%dT%H:%M} --to {end:%Y-%m-%dT%H:%M}` "
        "fetches what exchanges have of them"
    )


def drifted(lineage: Mapping[str, Any], found: Fingerprint) -> str | None:
    """How candles are others than a result's ``data`` says, or None."""
    pinned = Fingerprint(row_count=lineage["row_count"], checksum=lineage["checksum"])
    return None if found == pinned else str(Drift(pinned=pinned, found=found))


def _fingerprint(series: Series, whole: TimeRange, *, now_ms: int, running: Running) -> Fingerprint:
    try:
        return revisions.compute(series, whole, now_ms=now_ms, look=running.check)
    except StaleRollupError as error:
        raise JobError(str(error), retryable=True) from error


def _ensure(series: Series, wanted: TimeRange, *, now_ms: int, running: Running) -> TimeRange:
    def show(progress: Progress) -> None:
        running.report(
            phase="data",
            minutes_done=progress.done_ms // 60_000,
            minutes_total=progress.total_ms // 60_000,
        )

    try:
        ensured = exchange_candles.ensure_range(
            series.exchange,
            series.symbol,
            series.timeframe,
            start_ms=wanted.start_ms,
            end_ms=wanted.end_ms,
            now_ms=now_ms,
            requested_by=_asking(running.claim),
            stop=running.stop,
            on_progress=show,
        )
    except CandleError as error:
        raise JobError(str(error), retryable=error.retryable) from error
    except ValueError as error:
        raise JobError(str(error)) from error
    if ensured.stopped:
        raise StoppedError
    if ensured.whole is None:
        raise JobError(f"no candle of {series.timeframe} has closed in the range yet")
    return ensured.whole


def _asking(claim: Claim) -> str | None:
    """Who asks for the candles: of a walk-forward and its folds one does, and not once more with
    each attempt, or a symbol whose pages fail would be promoted for that."""
    return f"job {claim.job_id}" if claim.parent_id is None and claim.attempt == 1 else None


def _read(series: Series, whole: TimeRange, count: int, running: Running) -> Candles:
    """The ``count`` candles of a range as arrays, without a Python object for each.

    What came is taken out in between: all of it is half as large again as the arrays. Raises
    JobError where there are more or fewer by now.
    """
    import numpy as np

    from backtests.engine.candles import Candles

    query, params = _query(series, whole)
    columns: dict[str, Any] = {
        name: np.empty(count, np.int64 if name == "time_ms" else np.float64) for name in _FIELDS
    }
    row = _row()
    body, filled, header = bytearray(), 0, _HEADER_BYTES
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT binary)", params) as copy,
    ):
        for block in copy:
            body += block
            running.check()
            if len(body) > _BODY_BYTES:
                del body[:header]
                filled += _take(body, row, columns, filled)
                header = 0
    del body[:header]
    filled += _take(body, row, columns, filled)
    if body != _TRAILER:
        raise ValueError("the database's binary rows are not of eight bytes a field")
    if filled != count:
        raise _changed()
    return Candles(**columns)


def _row() -> np.dtype[np.void]:
    """A row as it comes: big-endian."""
    import numpy as np

    fields = [("count", ">i2")]
    for name in _FIELDS:
        kind = ">i8" if name == "time_ms" else ">f8"
        fields += [(f"{name}_length", ">i4"), (name, kind)]
    return np.dtype(fields)


def _take(body: bytearray, row: np.dtype[np.void], columns: Mapping[str, Any], filled: int) -> int:
    """Take the whole rows out of ``body``, into the columns behind the ``filled`` ones: how many.

    Raises JobError where the columns have no room for them.
    """
    import numpy as np

    count = len(body) // row.itemsize
    rows = np.frombuffer(body, dtype=row, count=count)
    for name, column in columns.items():
        if filled + count > len(column):
            raise _changed()
        column[filled : filled + count] = rows[name]
    del rows  # or the body could not be shortened
    del body[: count * row.itemsize]
    return count


def _changed() -> JobError:
    return JobError("the candles changed while they were read", retryable=True)


def _query(series: Series, whole: TimeRange) -> tuple[str, list[object]]:
    bounds: list[object] = [to_datetime(whole.start_ms), to_datetime(whole.end_ms)]
    columns = (
        "(extract(epoch FROM time) * 1000)::int8, open::float8, high::float8, low::float8, "
        "close::float8, COALESCE(volume, 0)::float8"
    )
    where = "symbol = %s AND time >= %s AND time < %s ORDER BY time"
    if series.exchange == INDEX:
        table = rollup_stores.relation_of(series.timeframe, whole)
        return f"SELECT {columns} FROM {table} WHERE {where}", [series.symbol, *bounds]
    table = ExchangeCandle._meta.db_table
    params = [series.exchange, series.timeframe, series.symbol, *bounds]
    return (
        f"SELECT {columns} FROM {table} WHERE exchange = %s AND timeframe = %s AND {where}",
        params,
    )
