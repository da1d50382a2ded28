"""Our 1m candles beside the exchanges' own: how far they are from each other, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from ingestion import candle_pages
from ingestion.window import RESOLUTION, Plan
from market.candles import epoch_ms, to_datetime
from market.models import Candle1m
from market.ranges import TimeRange, subtract
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
    errors: list[str] = field(default_factory=list)


def compare(
    plan: Plan, whole: TimeRange, *, now_ms: int, exchanges: Sequence[str] = ()
) -> list[Comparison]:
    """Compare each listing in the symbol's own quote currency, and the volumes of them together.

    ``exchanges``: only these. What an exchange does not keep is left out of the count; volumes are
    added up only over minutes that each of them has given.
    """
    ours = {
        epoch_ms(row.time): row
        for row in Candle1m.objects.filter(
            symbol=plan.symbol,
            time__gte=to_datetime(whole.start_ms),
            time__lt=to_datetime(whole.end_ms),
        )
    }
    found: list[Comparison] = []
    volumes: list[tuple[dict[int, Candle], list[TimeRange]]] = []
    for listing, path in plan.ways:
        if path or (exchanges and listing.exchange not in exchanges):
            continue  # a converted price is ours as much as theirs
        comparison, theirs, answered = _of_listing(listing, whole, ours, now_ms=now_ms)
        found.append(comparison)
        volumes.append((theirs, answered))
    if volumes:
        found.append(_of_volumes(ours, volumes, whole))
    return found


def _of_listing(
    listing: CatalogListing, whole: TimeRange, ours: dict[int, Candle1m], *, now_ms: int
) -> tuple[Comparison, dict[int, Candle], list[TimeRange]]:
    comparison = Comparison(
        name=f"{listing.exchange} {listing.exchange_symbol}",
        fields={name: Difference() for name in FIELDS},
    )
    theirs: dict[int, Candle] = {}
    answered: list[TimeRange] = []
    for page in candle_pages.fetch(listing, resolution=RESOLUTION, whole=whole, now_ms=now_ms):
        if page.error is not None:
            comparison.errors.append(page.error)
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
    return comparison, theirs, answered


def _of_volumes(
    ours: dict[int, Candle1m],
    volumes: Sequence[tuple[dict[int, Candle], list[TimeRange]]],
    whole: TimeRange,
) -> Comparison:
    """Our volume of a minute beside the sum of theirs."""
    comparison = Comparison(name="all together", fields={VOLUME: Difference()})
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
    return comparison


def _minutes(ranges: Iterable[TimeRange]) -> Iterable[int]:
    return (open_ms for each in ranges for open_ms in range(each.start_ms, each.end_ms, MINUTE_MS))
