"""Backfills for the gaps of the last day, ordered by themselves."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import structlog
from django.db.models import Q, QuerySet

from ingestion import backfill
from ingestion.backfill import BackfillError
from ingestion.models import Backfill
from ingestion.registry import ADAPTERS
from market import catalog, gaps
from market.candles import to_datetime
from oracle.catalog import Catalog

LOOK_BACK_MS = 86_400_000
CREATED_BY = "gaps"
# So many wait or run at a time, so that what a person orders waits behind no more than these.
MAX_LIVE = 20
# After a failed one, twice as long each time.
FIRST_BACKOFF, MAX_BACKOFF = timedelta(minutes=5), timedelta(hours=6)

log = structlog.get_logger(__name__)

_told: set[str] = set()  # which symbols this process has said of that they cannot be ordered


def order_missing(*, now_ms: int) -> list[Backfill]:
    """Order a backfill for each symbol that misses minutes, a few at a time.

    Rates first, then who misses most: one that misses its last minute asks as often as one that
    misses the day, and would take its place. Not for one that is being backfilled, nor again at
    once for one whose last has failed.
    """
    known = catalog.load()
    missing: dict[str, list[gaps.Gap]] = {}
    for gap in gaps.find(_names(known), from_ms=now_ms - LOOK_BACK_MS, to_ms=now_ms, now_ms=now_ms):
        if not gap.empty:
            missing.setdefault(gap.symbol, []).append(gap)
    # One that only waits, for all rates of a long range, holds back nobody who needs a day of them.
    begun = _working().filter(Q(status=Backfill.RUNNING) | Q(created_by=CREATED_BY))
    live = set(begun.values_list("symbol", flat=True))
    room = MAX_LIVE - _working().filter(created_by=CREATED_BY).count()
    resting = _resting(missing, now_ms=now_ms)
    rates = {symbol.name for symbol in known.symbols if symbol.is_rate}
    ordered: list[Backfill] = []
    minutes = {name: sum(gap.minute_count for gap in found) for name, found in missing.items()}
    for symbol in sorted(missing, key=lambda name: (name not in rates, -minutes[name], name)):
        if len(ordered) >= room:
            break
        if symbol in live or symbol in resting:
            continue
        found = missing[symbol]
        try:
            row = backfill.order(
                symbol,
                start_ms=found[0].whole.start_ms,
                end_ms=found[-1].whole.end_ms,
                overwrite=False,
                rates=False,  # ordered here, or resting
                created_by=CREATED_BY,
                now_ms=now_ms,
            )
        except BackfillError as error:
            _tell(symbol, error)
        else:
            _told.discard(symbol)
            ordered.append(row)
    if ordered:
        log.info("gaps.ordered", symbols=len(ordered), missing=len(missing))
    return ordered


def _tell(symbol: str, error: BackfillError) -> None:
    """Warn of a symbol that cannot be ordered: once, for it is tried again each time."""
    if symbol not in _told:
        _told.add(symbol)
        log.warning("gaps.not_ordered", symbol=symbol, error=str(error))


def retry_failed(*, now_ms: int) -> list[Backfill]:
    """Try those again that failed in part, after a rest that doubles, as long as they are recent.

    What the other exchanges had of their minutes is stored: these are no gaps any more, and nobody
    would ever ask again for what is missing in them.
    """
    failed = Backfill.objects.filter(
        created_by=CREATED_BY,
        status=Backfill.FAILED,
        candles_written__gt=0,
        end__gt=to_datetime(now_ms - LOOK_BACK_MS),
    )
    retried: list[Backfill] = []
    room = MAX_LIVE - _working().filter(created_by=CREATED_BY).count()
    for row in failed.order_by("id"):
        if len(retried) >= room:
            break
        rest = min(FIRST_BACKOFF * 2 ** (max(row.attempt, 1) - 1), MAX_BACKOFF)
        rested = row.finished_at is not None and to_datetime(now_ms) - row.finished_at >= rest
        if rested and backfill.retry(row.pk):
            retried.append(row)
    return retried


def all_done() -> bool:
    """Is every backfill over that was ordered for gaps?"""
    return not _working().filter(created_by=CREATED_BY).exists()


def _working() -> QuerySet[Backfill]:
    return Backfill.objects.filter(status__in=Backfill.LIVE)


def _names(known: Catalog) -> frozenset[str]:
    """The symbols that an exchange can be asked for."""
    asked = {each.symbol for each in known.listings if each.exchange in ADAPTERS}
    return frozenset(known.spot_names & asked)


def _resting(symbols: dict[str, list[gaps.Gap]], *, now_ms: int) -> set[str]:
    """The symbols whose gaps were asked for in vain a short while ago."""
    now = to_datetime(now_ms)
    over = (
        Backfill.objects.filter(
            symbol__in=symbols, created_by=CREATED_BY, finished_at__gte=now - 4 * MAX_BACKOFF
        )
        .order_by("symbol", "-finished_at")
        .values_list("symbol", "status", "finished_at")
    )
    failures: Counter[str] = Counter()
    latest: dict[str, datetime] = {}
    done: set[str] = set()
    for symbol, status, finished_at in over:
        if symbol in done:
            continue
        if status == Backfill.SUCCEEDED:
            done.add(symbol)
            continue
        failures[symbol] += 1
        if finished_at is not None:
            latest.setdefault(symbol, finished_at)
    return {
        symbol
        for symbol, finished_at in latest.items()
        if now - finished_at < min(FIRST_BACKOFF * 2 ** (failures[symbol] - 1), MAX_BACKOFF)
    }
