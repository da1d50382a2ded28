"""Candles of `ohlcv_exchange`, fetched when they are asked for and never twice.

What was fetched is known from `market.coverage`, page by page and in the transaction that stores
the page: a run that died goes on where it stopped, and two at once do no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event

from django.db import connection, transaction

from ingestion import candle_sources, symbol_requests
from ingestion.candle_pages import CandlePage
from ingestion.candle_sources import CandleError as CandleError  # for who catches ours
from market import coverage, timeframes
from market.candles import to_datetime
from market.coverage import INDEX, Series
from market.models import ExchangeCandle
from market.ranges import TimeRange, join
from oracle.values import RESOLUTIONS, Candle

# So long after it closed is a candle asked for: before, an exchange that is behind would not have
# it yet, and its minute would be taken for an empty one.
SETTLE_MS = 60_000

_COLUMNS = ("exchange", "symbol", "timeframe", "time", "open", "high", "low", "close", "volume")
_KEY, _VALUES = _COLUMNS[:4], _COLUMNS[4:]


class PageError(CandleError):
    """A page that the exchange did not give: ``whole``. What came before it is stored."""

    def __init__(self, page: CandlePage, series: Series) -> None:
        super().__init__(f"{named(series, page.whole)}: {page.error}", retryable=page.retryable)
        self.whole = page.whole


class UnavailableError(CandleError):
    """The exchange keeps no candles so old. All that it keeps of the range is stored."""

    def __init__(self, lost: TimeRange, series: Series) -> None:
        first = to_datetime(lost.end_ms)
        super().__init__(
            f"{named(series, lost)}: {series.exchange} keeps none so old; the first it has now "
            f"opens at {first:%Y-%m-%dT%H:%MZ}",
            retryable=False,
        )
        self.lost = lost
        self.first_available_ms = lost.end_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far it is: of ``total_ms`` that were missing, ``done_ms`` are covered by now."""

    total_ms: int
    done_ms: int
    written_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensured:
    """What was done. ``whole``: what is now complete, or None where the range has no candle yet.

    ``stopped``: the caller's ``stop`` came before the end.
    """

    whole: TimeRange | None
    written_count: int = 0
    stopped: bool = False


def named(series: Series, whole: TimeRange) -> str:
    """A range of candles as an error names it."""
    start, end = to_datetime(whole.start_ms), to_datetime(whole.end_ms)
    return (
        f"{series.exchange} {series.symbol} {series.timeframe} "
        f"[{start:%Y-%m-%dT%H:%MZ}, {end:%Y-%m-%dT%H:%MZ})"
    )


def ensure_range(
    exchange: str,
    symbol: str,
    timeframe: str,
    *,
    start_ms: int,
    end_ms: int,
    now_ms: int,
    requested_by: str | None = None,
    stop: Event | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Ensured:
    """Fetch what is missing of the candles that open in ``[start_ms, end_ms)``, holes included.

    As far as they are closed and settled at ``now_ms``. ``exchange`` is ``index`` for our own
    candles, of which there is nothing to fetch; ``timeframe`` in any usual spelling.
    ``requested_by``: who asks out of turn, to be noted; None for what is fetched regularly.
    ``stop`` ends it between two pages, and any waiting within one. Raises ValueError for an empty
    range or an unknown timeframe, `PageError` at the first page that fails, `UnavailableError` at
    the end where the exchange keeps no candles so old, `CandleError` for an unknown exchange.
    """
    timeframe = timeframes.normalise(timeframe)
    series = Series(exchange=exchange, symbol=symbol, timeframe=timeframe)
    whole = settled(TimeRange(start_ms=start_ms, end_ms=end_ms), timeframe, now_ms=now_ms)
    if exchange != INDEX:
        candle_sources.check(exchange, timeframe)
    if requested_by is not None:
        symbol_requests.note(series, requested_by=requested_by, now_ms=now_ms)
    if whole is None or exchange == INDEX:
        return Ensured(whole=whole)
    missing = coverage.missing(series, whole)
    run = _Run(series=series, total_ms=sum(part.length_ms for part in missing))
    stop = stop or Event()
    for page in candle_sources.pages(series, missing, now_ms=now_ms, stop=stop):
        run.take(page)
        on_progress(run.progress)
        if stop.is_set():
            break
    if run.lost:
        raise UnavailableError(join(run.lost)[-1], series)
    left = run.done_ms < run.total_ms
    return Ensured(whole=whole, written_count=run.written_count, stopped=left)


def settled(whole: TimeRange, timeframe: str, *, now_ms: int) -> TimeRange | None:
    """The buckets that open in a range and are closed for good, or None."""
    step_ms = RESOLUTIONS[timeframe]
    start_ms = -(-whole.start_ms // step_ms) * step_ms
    end_ms = -(-whole.end_ms // step_ms) * step_ms
    end_ms = min(end_ms, (now_ms - SETTLE_MS) // step_ms * step_ms)
    return TimeRange(start_ms=start_ms, end_ms=end_ms) if start_ms < end_ms else None


@dataclass(slots=True, kw_only=True)
class _Run:
    """One call's pages: each stored, or told."""

    series: Series
    total_ms: int
    done_ms: int = 0
    written_count: int = 0
    lost: list[TimeRange] = field(default_factory=list)

    @property
    def progress(self) -> Progress:
        return Progress(
            total_ms=self.total_ms, done_ms=self.done_ms, written_count=self.written_count
        )

    def take(self, page: CandlePage) -> None:
        if page.error is not None:
            raise PageError(page, self.series)
        if page.unavailable:
            self.lost.append(page.whole)
        else:
            self.written_count += store(self.series, page.whole, page.candles)
        self.done_ms += page.whole.length_ms


@transaction.atomic
def store(series: Series, whole: TimeRange, candles: Sequence[Candle]) -> int:
    """Store a page and cover its range; how many rows are new or other than before."""
    written = _upsert(series, candles) if candles else 0
    coverage.mark(series, whole)
    return written


def _upsert(series: Series, candles: Sequence[Candle]) -> int:
    table, names = ExchangeCandle._meta.db_table, ", ".join(_COLUMNS)
    held, given = (", ".join(f"{row}.{name}" for name in _VALUES) for row in ("held", "EXCLUDED"))
    updates = ", ".join(f"{name} = EXCLUDED.{name}" for name in _VALUES)
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TEMP TABLE IF NOT EXISTS given_candles (LIKE {table}) ON COMMIT DELETE ROWS"
        )
        cursor.execute("DELETE FROM given_candles")
        statement = f"COPY given_candles ({names}) FROM STDIN"
        # The driver's own method: Django does not turn its errors into Django's by itself.
        with connection.wrap_database_errors, cursor.copy(statement) as copy:
            for candle in candles:
                copy.write_row(_row(series, candle))
        # In the order of the key, so that two that write the same page do not lock each other out.
        cursor.execute(
            f"INSERT INTO {table} AS held ({names}) SELECT {names} FROM given_candles "
            f"ORDER BY {', '.join(_KEY)} ON CONFLICT ({', '.join(_KEY)}) DO UPDATE "
            f"SET {updates} WHERE ({held}) IS DISTINCT FROM ({given})"
        )
        return int(cursor.rowcount)


def _row(series: Series, candle: Candle) -> tuple[object, ...]:
    if candle.volume is None:
        raise CandleError(f"{series.exchange} tells no volume of its candles", retryable=False)
    return (
        series.exchange,
        series.symbol,
        series.timeframe,
        to_datetime(candle.open_ms),
        candle.open,
        candle.high,
        candle.low,
        candle.close,
        candle.volume,
    )
