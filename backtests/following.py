"""A run that somebody waits for: done in this process or by workers, and looked at meanwhile."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any
from uuid import UUID

from django.db import connection

from backtests import jobs, work
from backtests.handlers import HANDLERS
from backtests.models import ENDED, Job, JobType, Status

LOOK_SECONDS = 0.2
# Tried to the end. A canceled one is only as far as it came: a bar that is full is no cancel.
OVER = (Status.SUCCEEDED, Status.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How far a run is, for a bar: ``total`` is 0 where nobody can say."""

    what: str
    done: float
    total: float
    best: float | None = None


def follow(
    job_id: UUID, *, here: bool, stop: Event, show: Callable[[Seen], None] = lambda _: None
) -> Job:
    """Wait until a run has ended, in whatever way; ``stop`` cancels it.

    ``here``: do it, and what it orders, in this process too; workers may take parts of it. Raises
    what ends the doing, such as OperationalError where the database is away.
    """
    over, broke = Event(), Future[None]()
    doing = Thread(target=_do, args=(job_id, over, broke), name="jobs", daemon=True)
    if here:
        doing.start()
    try:
        while True:
            job = Job.objects.get(pk=job_id)
            show(seen(job))
            if job.status in ENDED:
                return job
            if broke.done():
                broke.result()  # raises it
            if stop.wait(LOOK_SECONDS):
                jobs.cancel(job_id)
    finally:
        over.set()
        if here:
            doing.join()


def _do(job_id: UUID, over: Event, broke: Future[None]) -> None:
    try:
        while not over.is_set():
            if not work.work(HANDLERS, seconds=float("inf"), tree=job_id):
                over.wait(LOOK_SECONDS)
    except Exception as error:  # a thread's own is lost: who follows would wait for ever
        broke.set_exception(error)
    finally:
        connection.close()


def seen(job: Job) -> Seen:
    """How far a run is."""
    if job.type == JobType.WFO:
        children = list(Job.objects.filter(parent=job).only("type", "status", "error", "progress"))
        if children:
            over = [child for child in children if child.status in OVER]
            rest = sum(_share(child) for child in children if child.status not in OVER)
            what = f"folds {len(over)} of {len(children)}"
            done = len(over) + rest
            return Seen(what=what, done=done, total=len(children))
    return _seen(job)


def _seen(job: Job) -> Seen:
    progress: dict[str, Any] = job.progress
    if "trials_total" in progress:
        best = progress.get("best") or {}
        return Seen(
            what="trials",
            done=progress["trials_done"],
            total=progress["trials_total"],
            best=best.get("score"),
        )
    if "minutes_total" in progress:
        return Seen(what="candles", done=progress["minutes_done"], total=progress["minutes_total"])
    return Seen(what=job.error or job.status, done=0, total=0)


def _share(job: Job) -> float:
    found = _seen(job)
    return found.done / found.total if found.what == "trials" and found.total else 0.0


@contextmanager
def stopping() -> Iterator[Event]:
    """An event that Ctrl-C and SIGTERM set; the second Ctrl-C is the usual one."""
    stop = Event()

    def told(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
