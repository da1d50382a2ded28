"""Our 1m candles beside the exchanges' own: how far they are from each other, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from ingestion import candle_pages
from ingestion.window import RESOLUTION, WINDOW_MS, Plan
from market.candles import epoch_ms, to_datetime
from market.models import Candle1m
from market.ranges import TimeRange, cut, subtract
from oracle.candle_book import MINUTE_MS
from oracle.catalog import CatalogListing
from oracle.values import Candle

FIELDS = ("open", "high", "low", "close")
VOLUME = "volume"
WORST = 3
_BPS = Decimal(10_000)
_ZERO = Decimal(0)


@dataclass(slots=True, kw_only=True)
class Difference:
    """One field compared: means and maxima, absolute (its own unit) and relative (bps of ours)."""

    compared: int = 0
    total: Decimal = _ZERO
    total_bps: Decimal = _ZERO
    max: Decimal = _ZERO
    max_bps: Decimal = _ZERO
    worst: list[tuple[Decimal, int]] = field(default_factory=list)  # (bps, minute), worst first

    def add(self, open_ms: int, *, ours: Decimal, theirs: Decimal) -> None:
        apart = abs(theirs - ours)
        bps = apart * _BPS / ours if ours else (_ZERO if not apart else _BPS)
        self.compared += 1
        self.total += apart
        self.total_bps += bps
        self.max, self.max_bps = max(self.max, apart), max(self.max_bps, bps)
        if apart and (len(self.worst) < WORST or bps > self.worst[-1][0]):
            self.worst = sorted([*self.worst, (bps, open_ms)], reverse=True)[:WORST]

    @property
    def mean(self) -> Decimal | None:
        return self.total / self.compared if self.compared else None

    @property
    def mean_bps(self) -> Decimal | None:
        return self.total_bps / self.compared if self.compared else None


@dataclass(slots=True, kw_only=True)
class Comparison:
    """Ours beside those of ``name``: an exchange's listing, or all of them added up."""

    name: str
    fields: dict[str, Difference]
    missing_ours: int = 0
    missing_theirs: int = 0
    unavailable_minutes: int = 0
    failed: list[tuple[TimeRange, str]] = field(default_factory=list)

    @property
    def errors(self) -> list[str]:
        """What could not be had, each with its range."""
        return [
            f"{to_datetime(whole.start_ms):%Y-%m-%dT%H:%M:%SZ} – "
            f"{to_datetime(whole.end_ms):%Y-%m-%dT%H:%M:%SZ}  {error}"
            for whole, error in self.failed
        ]

    def fail(self, whole: TimeRange, error: str) -> None:
        """Note what could not be had; ranges that touch are one, with the first one's error."""
        if self.failed and self.failed[-1][0].end_ms == whole.start_ms:
            before, error = self.failed.pop()
            whole = replace(whole, start_ms=before.start_ms)
        self.failed.append((whole, error))


def compare(
    plan: Plan, whole: TimeRange, *, now_ms: int, exchanges: Sequence[str] = ()
) -> list[Comparison]:
    """Compare each listing in the symbol's own quote currency, and the volumes of them together.

    ``exchanges``: only these. What an exchange does not keep is left out of the count; volumes are
    added up only over minutes that each of them has given. Window by window: memory does not grow.
    """
    found = [
        (listing, Comparison(name=f"{listing.exchange} {listing.exchange_symbol}", fields=_empty()))
        for listing, path in plan.ways
        # A converted price is ours as much as theirs.
        if not path and (not exchanges or listing.exchange in exchanges)
    ]
    together = Comparison(name="all together", fields={VOLUME: Difference()})
    for part in cut(whole, length_ms=WINDOW_MS):
        ours = {
            epoch_ms(row.time): row
            for row in Candle1m.objects.filter(
                symbol=plan.symbol,
                time__gte=to_datetime(part.start_ms),
                time__lt=to_datetime(part.end_ms),
            )
        }
        volumes = [_add(comparison, listing, part, ours, now_ms) for listing, comparison in found]
        _add_volumes(together, ours, volumes, part)
    return [*(comparison for _, comparison in found), *([together] if found else [])]


def _empty() -> dict[str, Difference]:
    return {name: Difference() for name in FIELDS}


def _add(
    comparison: Comparison,
    listing: CatalogListing,
    whole: TimeRange,
    ours: Mapping[int, Candle1m],
    now_ms: int,
) -> tuple[dict[int, Candle], list[TimeRange]]:
    """Compare a window of a listing: its candles, and the ranges it has given."""
    theirs: dict[int, Candle] = {}
    answered: list[TimeRange] = []
    # An exchange that has failed is not given as long a time for each window.
    attempts = 1 if comparison.failed else candle_pages.ATTEMPTS
    for page in candle_pages.fetch(
        listing, resolution=RESOLUTION, whole=whole, now_ms=now_ms, attempts=attempts
    ):
        if page.error is not None:
            comparison.fail(page.whole, page.error)
        elif page.unavailable:
            comparison.unavailable_minutes += page.whole.length_ms // MINUTE_MS
        else:
            answered.append(page.whole)
        theirs |= {candle.open_ms: candle for candle in page.candles}
    for open_ms in _minutes(answered):
        own, given = ours.get(open_ms), theirs.get(open_ms)
        if own is not None and given is not None:
            for name, difference in comparison.fields.items():
                difference.add(open_ms, ours=getattr(own, name), theirs=getattr(given, name))
        else:
            comparison.missing_ours += own is None and given is not None
            comparison.missing_theirs += given is None and own is not None
    return theirs, answered


def _add_volumes(
    comparison: Comparison,
    ours: Mapping[int, Candle1m],
    volumes: Sequence[tuple[dict[int, Candle], list[TimeRange]]],
    whole: TimeRange,
) -> None:
    """Our volume of a minute beside the sum of theirs."""
    lost = [part for _, answered in volumes for part in subtract(whole, answered)]
    for open_ms in _minutes(subtract(whole, lost)):
        given = [theirs[open_ms].volume for theirs, _ in volumes if open_ms in theirs]
        known = [volume for volume in given if volume is not None]
        own = ours.get(open_ms)
        if own is None or own.volume is None:
            comparison.missing_ours += bool(given)
        elif len(known) < len(given):
            comparison.missing_theirs += 1
        else:
            total = sum(known, _ZERO)
            comparison.fields[VOLUME].add(open_ms, ours=own.volume, theirs=total)


def _minutes(ranges: Iterable[TimeRange]) -> Iterable[int]:
    return (open_ms for each in ranges for open_ms in range(each.start_ms, each.end_ms, MINUTE_MS))
