"""A slice of a backfill: exchanges are asked in threads, the next windows while one is written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event
from time import monotonic
from typing import Any

import structlog
from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import F

from ingestion import backfill, candle_pages, window
from ingestion.models import Backfill
from ingestion.window import Asked, Blended, Plan
from market import rollups
from market.candles import to_datetime
from market.ranges import TimeRange
from oracle import metrics

SLICE_SECONDS = 60.0
WINDOWS_AHEAD = 2
MAX_THREADS = 16
REFRESH_SECONDS = 30.0  # the rest is left to the task that comes each minute
LOOK_SECONDS = 0.5  # how soon a stop is seen
BEAT_SECONDS = 5.0  # how soon a cancel is

log = structlog.get_logger(__name__)

Progress = Callable[[Backfill], None]


class LostError(Exception):
    """The backfill is no longer ours: canceled, or given to somebody else meanwhile."""


def run(
    backfill_id: int,
    *,
    now_ms: int,
    seconds: float = SLICE_SECONDS,
    stop: Event | None = None,
    progress: Progress | None = None,
) -> str | None:
    """Work a backfill for a while; its status then, ``pending`` when there is more to do.

    None when it is not to be run now: over, canceled, run by another, or waiting for its rates. A
    window that was begun is ended, whatever ``seconds`` says, unless ``stop`` is set.
    """
    claimed = backfill.claim(backfill_id, now_ms=now_ms)
    if claimed is None:
        return None
    row, plan = claimed
    threads = min(MAX_THREADS, (WINDOWS_AHEAD + 1) * len(plan.ways))
    with ThreadPoolExecutor(threads, thread_name_prefix="backfill") as pool:
        slice_ = _Slice(
            row=row,
            plan=plan,
            pool=pool,
            now_ms=now_ms,
            seconds=seconds,
            stop=stop or Event(),
            progress=progress or (lambda row: None),
        )
        try:
            done = slice_.work()
        except LostError:
            log.info("backfill.lost", backfill=row.pk, symbol=row.symbol)
            return None
        finally:
            slice_.halt.set()
    if done:
        status = backfill.finish(row, now_ms=slice_.clock())
        log.info("backfill.done", backfill=row.pk, symbol=row.symbol, status=status)
    else:
        backfill.release(row)
        status = Backfill.PENDING
    # Only now that it is not held any more: a slow refresh would let it pass for abandoned.
    _roll_up(row, now_ms=slice_.clock())
    return status


def _roll_up(row: Backfill, *, now_ms: int) -> None:
    try:
        rollups.refresh_due(now_ms=now_ms, seconds=REFRESH_SECONDS)
    except (DatabaseError, InterfaceError) as error:
        # What is stored is stored, and what is not rolled up stays noted.
        metrics.ROLLUP_ERRORS.inc()
        log.warning("backfill.not_rolled_up", backfill=row.pk, error=str(error))


@dataclass(slots=True, kw_only=True)
class _Slice:
    """One run's state. ``halt`` stops the threads; ``failed`` names exchanges that just did."""

    row: Backfill
    plan: Plan
    pool: ThreadPoolExecutor
    now_ms: int
    seconds: float
    stop: Event
    progress: Progress
    halt: Event = field(default_factory=Event)
    failed: set[str] = field(default_factory=set)
    began: float = field(default_factory=monotonic)
    beaten: float = field(default_factory=monotonic)

    def clock(self) -> int:
        return self.now_ms + round((monotonic() - self.began) * 1_000)

    def work(self) -> bool:
        """Do windows until time is up; False when some are left."""
        left = backfill.windows(self.row, self.plan)
        ahead: deque[Asked] = deque()
        while not self.stop.is_set():
            late = monotonic() - self.began > self.seconds
            while len(ahead) <= WINDOWS_AHEAD and not (late and ahead):
                asked = self._ask_next(left)
                if asked is None:
                    break
                ahead.append(asked)
            if not ahead:
                return True
            asked = ahead.popleft()
            if not self._await(asked):
                return False
            self._write(window.blend(self.plan, asked))
            if monotonic() - self.began > self.seconds:
                return not ahead and next(left, None) is None
        return False

    def _ask_next(self, left: Iterator[TimeRange]) -> Asked | None:
        """Ask for the next window that lacks anything."""
        for whole in left:
            wanted = window.find_wanted(self.plan, whole, overwrite=self.row.overwrite)
            if not wanted.parts:
                self.row.minutes_done += wanted.minutes
                continue
            return window.ask(
                self.plan,
                whole,
                wanted,
                pool=self.pool,
                attempts=lambda name: 1 if name in self.failed else candle_pages.ATTEMPTS,
                clock=self.clock,
                stop=self.halt,
            )
        return None

    def _await(self, asked: Asked) -> bool:
        """Wait for the answers; False when told to stop. Raises LostError."""
        while wait(asked.answers, timeout=LOOK_SECONDS).not_done:
            if self.stop.is_set():
                return False
            if monotonic() - self.beaten > BEAT_SECONDS:
                self.beaten = monotonic()
                if not backfill.held(self.row).update(locked_at=to_datetime(self.clock())):
                    raise LostError
        return True

    def _write(self, blended: Blended) -> None:
        """Store a window and the progress it means, together or not at all. Raises LostError."""
        row, asked = self.row, blended.asked
        self.failed = {failure.listing.exchange for failure in blended.failures}
        errors = _joined(row.errors, blended)
        done = asked.wanted.minutes if blended.complete else 0
        with transaction.atomic():
            written = window.write(self.plan, blended, overwrite=row.overwrite)
            kept = backfill.held(row).update(
                locked_at=to_datetime(self.clock()),
                minutes_done=row.minutes_done + done,
                candles_written=F("candles_written") + written.created + written.revised,
                errors=errors,
            )
            if not kept:
                raise LostError
        row.errors = errors
        row.minutes_done += done
        row.candles_written += written.created + written.revised
        self.beaten = monotonic()
        self.progress(row)


def _joined(errors: list[dict[str, Any]], blended: Blended) -> list[dict[str, Any]]:
    """The errors of a row with those of a window; two ranges of a listing that touch are one.

    Windows come newest first, so a range goes on at its start. Its first error stands for it.
    """
    found = [dict(error) for error in errors]
    latest = {(e.get("exchange"), e.get("listing")): e for e in found}
    failures = (*blended.failures, *blended.unconverted)
    for failure in sorted(failures, key=lambda each: each.whole, reverse=True):
        key = (failure.listing.exchange, failure.listing.exchange_symbol)
        last = latest.get(key)
        if last is not None and last.get("start_ms") == failure.whole.end_ms:
            last["start_ms"] = failure.whole.start_ms
            last["start"] = _said(failure.whole.start_ms)
            continue
        entry = {
            "exchange": failure.listing.exchange,
            "listing": failure.listing.exchange_symbol,
            "start": _said(failure.whole.start_ms),
            "end": _said(failure.whole.end_ms),
            "start_ms": failure.whole.start_ms,
            "end_ms": failure.whole.end_ms,
            "error": failure.error,
        }
        found.append(entry)
        latest[key] = entry
    for note, counts in (
        ("minutes left out for want of a rate", blended.without_rate),
        ("minutes that it keeps no longer, and that no other has", blended.not_kept),
    ):
        for exchange, minutes in counts.items():
            noted = {"exchange": exchange, "note": note}
            held = next((e for e in found if noted.items() <= e.items()), None)
            if held is None:
                found.append(held := {**noted, "minutes": 0})
            held["minutes"] += minutes
    return found


def _said(ms: int) -> str:
    return f"{to_datetime(ms):%Y-%m-%dT%H:%M:%SZ}"
