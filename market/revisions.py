"""What data a result was computed from: the number of candles of a range and their checksum.

The checksum is SHA-256 over one line per candle, oldest first, each ended by a line feed::

    2024-01-01T00:00:00Z,42150.5000000000,42180.3000000000,42145.0000000000,42170.2000000000,1.25

Time is ISO 8601 in UTC. A number has ten decimals; one that needs more has all it needs, without
ending zeros: with ten alone, another digit of a price below 1e-10 would go unseen. A volume nobody
knows is empty. So it depends on nothing but the data: not on the server, the scale of a column, or
which rows are read together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from django.db import connection

from market import rollup_stores, rollups
from market.candles import epoch_ms, to_datetime
from market.coverage import INDEX, Series
from market.models import DataRevision, ExchangeCandle
from market.ranges import TimeRange

DECIMALS = 10
SHOWN = 16  # characters of a checksum that people are shown

_TIME = """to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""
_NUMBERS = ("open", "high", "low", "close", "volume")


class StaleRollupError(Exception):
    """Candles of this range are just being rolled up again: ask a moment later."""

    retryable = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What candles are: how many, and their SHA-256 in hexadecimal."""

    row_count: int
    checksum: str

    @property
    def shown(self) -> str:
        return self.checksum[:SHOWN]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The candles of a revision are others by now."""

    pinned: Fingerprint
    found: Fingerprint

    def __str__(self) -> str:
        rows = self.found.row_count - self.pinned.row_count
        return (
            f"data changed since it was pinned: {self.pinned.shown} is now {self.found.shown}, "
            + (f"{rows:+d} of {self.pinned.row_count} rows" if rows else "with as many rows")
        )


def compute(
    series: Series, whole: TimeRange, *, now_ms: int, look: Callable[[], None] = lambda: None
) -> Fingerprint:
    """Read every candle that opens in ``whole``, in one pass, whose memory does not grow.

    A million takes seconds: ``look`` is called all along and may raise, which ends it. Raises
    StaleRollupError for index candles that are being rolled up again at this moment.
    """
    if series.exchange == INDEX:
        _settle(series, whole, now_ms=now_ms)
    query, params = _query(series, whole)
    digest, row_count = hashlib.sha256(), 0
    statement = f"COPY ({query}) TO STDOUT"
    # The driver's own method: Django does not turn its errors into Django's by itself.
    with (
        connection.wrap_database_errors,
        connection.cursor() as cursor,
        cursor.copy(statement, params) as lines,
    ):
        for block in lines:
            digest.update(block)
            row_count += bytes(block).count(b"\n")
            look()
    return Fingerprint(row_count=row_count, checksum=digest.hexdigest())


def pin(
    series: Series, whole: TimeRange, *, now_ms: int, found: Fingerprint | None = None
) -> DataRevision:
    """Note what the candles of a range are now: ``found``, where that was just computed.

    A range has one row, brought up to date by each pin: who must know later what it was then keeps
    row count and checksum, as a run does. Raises StaleRollupError.
    """
    found = found or compute(series, whole, now_ms=now_ms)
    revision, _ = DataRevision.objects.update_or_create(
        exchange=series.exchange,
        symbol=series.symbol,
        timeframe=series.timeframe,
        start=to_datetime(whole.start_ms),
        end=to_datetime(whole.end_ms),
        defaults={
            "row_count": found.row_count,
            "checksum": found.checksum,
            "computed_at": to_datetime(now_ms),
        },
    )
    return revision


def drift(revision: DataRevision, *, now_ms: int) -> Drift | None:
    """How the candles differ from what ``revision`` says, or None. Raises StaleRollupError."""
    series = Series(
        exchange=revision.exchange, symbol=revision.symbol, timeframe=revision.timeframe
    )
    whole = TimeRange(start_ms=epoch_ms(revision.start), end_ms=epoch_ms(revision.end))
    pinned = Fingerprint(row_count=revision.row_count, checksum=revision.checksum)
    found = compute(series, whole, now_ms=now_ms)
    return None if found == pinned else Drift(pinned=pinned, found=found)


def _settle(series: Series, whole: TimeRange, *, now_ms: int) -> None:
    """Roll up what is due of the range: a rollup behind its minutes is no data to rely on."""
    if series.timeframe == "1m":
        return
    span = {"from_ms": whole.start_ms, "to_ms": whole.end_ms}
    if rollups.due_from(series.symbol, **span) is None:
        return
    rollups.refresh_due(now_ms=now_ms)
    if rollups.due_from(series.symbol, **span) is not None:
        raise StaleRollupError(f"{series.symbol} {series.timeframe} is being rolled up again")


def _query(series: Series, whole: TimeRange) -> tuple[str, list[object]]:
    """The SELECT of the canonical lines, each of one text column, in one snapshot."""
    texts = ", ".join(_text(name) for name in _NUMBERS)
    line = f"concat_ws(',', {_TIME}, {texts})"
    where, params = "symbol = %s AND time >= %s AND time < %s", [series.symbol]
    if series.exchange == INDEX:
        table = rollup_stores.relation_of(series.timeframe, whole)
    else:
        table = ExchangeCandle._meta.db_table
        where = f"exchange = %s AND timeframe = %s AND {where}"
        params = [series.exchange, series.timeframe, *params]
    bounds = [to_datetime(whole.start_ms), to_datetime(whole.end_ms)]
    return f"SELECT {line} FROM {table} WHERE {where} ORDER BY time", [*params, *bounds]


def _text(name: str) -> str:
    # numeric::text never has an exponent; concat_ws leaves out NULLs, so they become empty text.
    return (
        f"COALESCE(CASE WHEN scale(trim_scale({name})) > {DECIMALS} "
        f"THEN trim_scale({name})::text ELSE round({name}, {DECIMALS})::text END, '')"
    )
