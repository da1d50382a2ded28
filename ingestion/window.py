"""One window of a backfill: what of it is to be asked for, asked, blended, and written.

Windows lie on a grid of the epoch. A window is written in one transaction or not at all, and is
blended as a whole whenever it is done again: that is why a run that was disturbed, and went on
later, ends with the rows of one that was not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from decimal import Decimal
from threading import Event

from django.conf import settings
from django.db import connection

from ingestion import candle_pages
from ingestion.blend import Blender, ListedCandles
from ingestion.candle_pages import CandlePage
from ingestion.registry import ADAPTERS
from market import candles, catalog, coverage, rollups
from market.candles import BackfilledCandle, Written, epoch_ms, to_datetime
from market.coverage import INDEX, Series
from market.models import Candle1m
from market.ranges import TimeRange, join, subtract
from oracle import candle_book
from oracle.candle_book import MINUTE_MS
from oracle.catalog import Catalog, CatalogListing
from oracle.conversion import Leg, Rate, find_path, walk

RESOLUTION = "1m"
# A few calls of each exchange: long enough to be worth a transaction, short enough to be held in
# memory for all exchanges, three windows at a time.
WINDOW_MS = 3_000 * MINUTE_MS
# To ask for a few minutes that we have costs less than another call.
BRIDGED_MS = 120 * MINUTE_MS
STATEMENT_SECONDS = 60


class NotListedError(ValueError):
    """No exchange can be asked for this symbol; the text says why."""

    retryable = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Who is asked for a symbol's candles, with each one's way into its quote currency."""

    symbol: str
    factor: Decimal  # how far apart its sources may be
    ways: tuple[tuple[CatalogListing, tuple[Leg, ...]], ...]

    @property
    def series(self) -> Series:
        return series_of(self.symbol)

    @property
    def rates(self) -> frozenset[str]:
        """The rate symbols that its prices are converted with."""
        return frozenset(leg.symbol for _, path in self.ways for leg in path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be made of a window: ``parts``, of the ``minutes`` that were not covered yet."""

    minutes: int
    parts: tuple[TimeRange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The answers of a window, on their way. ``wanted``: what is to be written of it."""

    whole: TimeRange
    wanted: Wanted
    answers: tuple[Future[list[CandlePage]], ...]  # in the order of the plan's ways


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A range that an exchange did not give."""

    listing: CatalogListing
    whole: TimeRange
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Blended:
    """A window ready to be written.

    ``failures``: what an exchange did not give. ``unconverted``: candles that are there, of minutes
    that have none of ours, for want of a rate. ``without_rate``: the minutes of each exchange left
    out for that. ``not_kept``: those that nobody has and that an exchange keeps no longer.
    """

    asked: Asked
    rows: tuple[BackfilledCandle, ...]
    failures: tuple[Failure, ...]
    unconverted: tuple[Failure, ...]
    without_rate: Mapping[str, int]
    not_kept: Mapping[str, int]

    @property
    def complete(self) -> bool:
        """Is a minute without a candle one that nobody has?"""
        return not (self.failures or self.unconverted)


def series_of(symbol: str) -> Series:
    """What a backfill of a symbol covers: the index's minutes of it."""
    return Series(exchange=INDEX, symbol=symbol, timeframe=RESOLUTION)


def make_plan(symbol: str, known: Catalog | None = None) -> Plan:
    """The plan of a symbol as the database has it. Raises NotListedError."""
    known = known or catalog.load()
    found = next((each for each in known.symbols if each.name == symbol), None)
    if found is None:
        raise NotListedError(f"{symbol} is not among the enabled symbols")
    if found.derived_from is not None:
        raise NotListedError(
            f"{symbol} is derived from {found.derived_from} and listed nowhere: "
            f"backfill {found.derived_from}"
        )
    rates = [] if found.is_rate else [each.name for each in known.symbols if each.is_rate]
    paths = (
        (listing, find_path(listing.quote, found.quote, rates))
        for listing in known.listings
        if listing.symbol == symbol and listing.exchange in ADAPTERS
    )
    ways = tuple((listing, path) for listing, path in paths if path is not None)
    if not ways:
        raise NotListedError(f"no enabled exchange lists {symbol} at a price we can convert")
    return Plan(
        symbol=symbol,
        factor=(
            1 + Decimal(settings.MAX_RATE_SPREAD_BPS) / 10_000
            if found.is_rate
            else Decimal(settings.MAX_DEVIATION_FACTOR)
        ),
        ways=ways,
    )


def find_wanted(plan: Plan, whole: TimeRange, *, overwrite: bool) -> Wanted:
    """The minutes of a range that are to be made: not covered, and not made by our own index."""
    missing = coverage.missing(plan.series, whole)
    minutes = sum(part.length_ms for part in missing) // MINUTE_MS
    if not missing:
        return Wanted(minutes=minutes, parts=())
    # What waits in Redis becomes a row of live collection with the next flush.
    held = _minutes(
        candle.open_ms
        for candle in candle_book.unflushed(plan.symbol, from_ms=whole.start_ms, to_ms=whole.end_ms)
    )
    if not overwrite:
        held += _stored(plan.symbol, whole, backfilled=False)
    parts = tuple(left for part in missing for left in subtract(part, held))
    return Wanted(minutes=minutes, parts=parts)


def _stored(symbol: str, whole: TimeRange, **only: bool) -> list[TimeRange]:
    rows = Candle1m.objects.filter(
        symbol=symbol,
        time__gte=to_datetime(whole.start_ms),
        time__lt=to_datetime(whole.end_ms),
        **only,
    )
    return _minutes(map(epoch_ms, rows.order_by("time").values_list("time", flat=True)))


def _minutes(open_times: Iterable[int]) -> list[TimeRange]:
    return join(TimeRange(start_ms=ms, end_ms=ms + MINUTE_MS) for ms in open_times)


def ask(
    plan: Plan,
    whole: TimeRange,
    wanted: Wanted,
    *,
    pool: Executor,
    attempts: Callable[[str], int],
    clock: Callable[[], int],
    stop: Event,
) -> Asked:
    """Ask each exchange for the parts of a window, in the threads of ``pool``."""
    reach = BRIDGED_MS // 2
    wide = join(
        TimeRange(start_ms=part.start_ms - reach, end_ms=part.end_ms + reach)
        for part in wanted.parts
    )
    bridged = [
        TimeRange(start_ms=each.start_ms + reach, end_ms=each.end_ms - reach) for each in wide
    ]

    def pages(listing: CatalogListing) -> list[CandlePage]:
        return [
            page
            for part in reversed(bridged)
            for page in candle_pages.fetch(
                listing,
                resolution=RESOLUTION,
                whole=part,
                now_ms=clock(),
                newest_first=True,
                attempts=attempts(listing.exchange),
                stop=stop,
            )
        ]

    return Asked(
        whole=whole,
        wanted=wanted,
        answers=tuple(pool.submit(pages, listing) for listing, _ in plan.ways),
    )


def blend(plan: Plan, asked: Asked) -> Blended:
    """Make the index's candles of the answers, which must all be there."""
    listed, failures, gone = [], [], []
    minutes = {
        open_ms
        for part in asked.wanted.parts
        for open_ms in range(part.start_ms, part.end_ms, MINUTE_MS)
    }
    for (listing, path), answer in zip(plan.ways, asked.answers, strict=True):
        pages = answer.result()
        failures += [
            Failure(listing=listing, whole=page.whole, error=page.error)
            for page in pages
            if page.error is not None
        ]
        gone += [(listing.exchange, page.whole) for page in pages if page.unavailable]
        listed.append(
            ListedCandles(
                exchange=listing.exchange,
                candles={
                    candle.open_ms: candle
                    for page in pages
                    for candle in page.candles
                    if candle.open_ms in minutes
                },
                factors=_factors(path, asked.whole) if path else None,
            )
        )
    blender = Blender(symbol=plan.symbol, factor=plan.factor)
    rows = tuple(blender.blend(listed))
    empty = minutes.difference(row.open_ms for row in rows)
    return Blended(
        asked=asked,
        rows=rows,
        failures=tuple(failures),
        unconverted=tuple(_unconverted(plan, listed, empty)),
        without_rate=dict(blender.without_rate),
        not_kept=_not_kept(gone, empty),
    )


def _unconverted(
    plan: Plan, listed: Sequence[ListedCandles], empty: Collection[int]
) -> Iterator[Failure]:
    """The minutes of each listing that are empty only for want of a rate yet, as one range.

    Not those of which nobody has a rate: these were asked for, and are empty for good.
    """
    for (listing, path), theirs in zip(plan.ways, listed, strict=True):
        if theirs.factors is None:
            continue
        lost = sorted(ms for ms in empty if ms in theirs.candles and ms not in theirs.factors)
        if lost:
            span = TimeRange(start_ms=lost[0], end_ms=lost[-1] + MINUTE_MS)
            rates = {leg.symbol: _unasked(leg.symbol, span) for leg in path}
            unasked = join(part for parts in rates.values() for part in parts)
            lost = [ms for ms in lost if any(part.holds(ms) for part in unasked)]
        if lost:
            yield Failure(
                listing=listing,
                whole=TimeRange(start_ms=lost[0], end_ms=lost[-1] + MINUTE_MS),
                error=f"{listing.exchange_symbol} on {listing.exchange}: {len(lost)} minutes "
                f"cannot be converted without {' and '.join(n for n in rates if rates[n])}: "
                "backfill that, and try again",
            )


def _unasked(symbol: str, whole: TimeRange) -> list[TimeRange]:
    """The minutes that are neither stored nor empty for good."""
    stored = _stored(symbol, whole)
    return [
        left
        for part in coverage.missing(series_of(symbol), whole)
        for left in subtract(part, stored)
    ]


def _not_kept(gone: Iterable[tuple[str, TimeRange]], empty: Collection[int]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for exchange, whole in gone:
        counts[exchange] += sum(map(whole.holds, empty))
    return dict(+counts)


def _factors(path: Sequence[Leg], whole: TimeRange) -> dict[int, Decimal]:
    """The factor of a path at each minute that has all its rates."""
    rows = Candle1m.objects.filter(
        symbol__in={leg.symbol for leg in path},
        time__gte=to_datetime(whole.start_ms),
        time__lt=to_datetime(whole.end_ms),
    ).values_list("time", "symbol", "close")
    rates: dict[int, dict[str, Rate]] = {}
    for time, symbol, close in rows:
        open_ms = epoch_ms(time)
        rates.setdefault(open_ms, {})[symbol] = Rate(price=close, as_of_ms=open_ms)
    walked = ((open_ms, walk(path, known)) for open_ms, known in rates.items())
    return {open_ms: rate.price for open_ms, rate in walked if isinstance(rate, Rate)}


def write(plan: Plan, blended: Blended, *, overwrite: bool) -> Written:
    """Store a window, inside the caller's transaction, and cover it if it is complete."""
    candles.limit_statements(seconds=STATEMENT_SECONDS)
    parts = blended.asked.wanted.parts
    with connection.cursor() as cursor:
        # Two that write the same rows in another order would wait for each other for ever.
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"backfill|{plan.symbol}"]
        )
    written = candles.upsert_backfilled(blended.rows, overwrite=overwrite)
    removed = 0
    if blended.complete:
        removed = sum(_remove_others(plan.symbol, part, blended.rows) for part in parts)
        for part in parts:
            coverage.mark(plan.series, part)
    if written.created or written.revised or removed:
        rollups.note_touched((plan.symbol, part) for part in parts)
    return written


def _remove_others(symbol: str, part: TimeRange, rows: Sequence[BackfilledCandle]) -> int:
    """Take back what an earlier, incomplete backfill made and all exchanges together do not."""
    stored = Candle1m.objects.filter(
        symbol=symbol,
        time__gte=to_datetime(part.start_ms),
        time__lt=to_datetime(part.end_ms),
    )
    made = {row.open_ms for row in rows if part.start_ms <= row.open_ms < part.end_ms}
    # What was made is stored: as many rows of any kind, and there are no others.
    if stored.count() == len(made):
        return 0
    earlier = stored.filter(backfilled=True)
    others = [time for time in earlier.values_list("time", flat=True) if epoch_ms(time) not in made]
    return earlier.filter(time__in=others).delete()[0] if others else 0
