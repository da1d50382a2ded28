"""Doing jobs: claim one, run its handler, end it. What goes wrong is in the row, with a reason."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import structlog
from django.db import DatabaseError, connection

from backtests import job_orders, jobs
from backtests.job_orders import Order
from backtests.jobs import STALE_SECONDS, Claim, LostError

LOOK_SECONDS = 0.5  # how soon a canceled job is stopped; its lock is renewed as often

log = structlog.get_logger(__name__)


class JobError(Exception):
    """The job cannot be done, and says why. ``retryable``: it may go well another time."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class StoppedError(Exception):
    """The job was canceled, or taken from this worker, or the worker is to end."""

    retryable = True


@dataclass(slots=True, kw_only=True)
class Running:
    """A job as its handler sees it."""

    claim: Claim
    progress: dict[str, Any] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def should_stop(self) -> bool:
        """Whether to leave off: to be asked at least once a second; it costs nothing."""
        return self.stop.is_set() or _leaving.is_set()

    def check(self) -> None:
        """Raise StoppedError where `should_stop`."""
        if self.should_stop():
            raise StoppedError

    def report(self, **facts: Any) -> None:
        """Say how far it is: shown within a second, written by the watcher."""
        self.progress = {**self.progress, **facts}

    def note(self, level: str, message: str, **meta: Any) -> None:
        """Write an event of the job."""
        jobs.note(self.claim.job_id, level, message, **meta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The job's result; ``keep`` files what it made, in the transaction that ends it."""

    result: Mapping[str, Any]
    keep: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """The job goes on when these have ended: its handler is called again then."""

    children: Sequence[Order]


class Handler(Protocol):
    """What does the jobs of a type.

    Raises JobError for what is known to go wrong; anything else is tried again.
    """

    def __call__(self, running: Running, /) -> Done | Wait: ...


# Set when the process is told to end: its jobs are given back, not cut off.
_leaving = threading.Event()


def leave() -> None:
    """Have the running jobs of this process given back to the queue."""
    _leaving.set()


def work(handlers: Mapping[str, Handler], *, seconds: float, tree: UUID | None = None) -> int:
    """Do jobs until none is due, beginning none after so many seconds; how many.

    Of ``tree`` only, which is a job with its children, where it is given.
    """
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until and not _leaving.is_set():
        # Unique to the claim: two claims of one process are two workers to the row.
        held = jobs.claim(f"{socket.gethostname()}:{secrets.token_hex(6)}", tree=tree)
        if held is None:
            return count
        do(held, handlers)
        count += 1
    if job_orders.due_count():
        job_orders.nudge(1)
    return count


def do(held: Claim, handlers: Mapping[str, Handler]) -> None:
    """Run one claimed job to its end, whatever that is."""
    told = log.bind(job=str(held.job_id), type=held.type, attempt=held.attempt)
    running = Running(claim=held)
    handler = handlers.get(held.type)
    try:
        if handler is None:
            known = ", ".join(sorted(handlers))
            raise JobError(f"unknown job type {held.type!r}: there are {known}")
        _check_object(held.payload)
        with _watched(running):
            outcome = handler(running)
        running.check()
        if isinstance(outcome, Wait):
            jobs.wait_for(held, outcome.children)
        else:
            jobs.finish(held, outcome.result, keep=outcome.keep)
    except (StoppedError, LostError):
        told.info("job.stopped", given_back=jobs.give_back(held))
    except JobError as error:
        _failed(held, str(error), retryable=error.retryable)
    except Exception as error:  # a handler's bug must not end the worker; it is in the row
        told.exception("job.broke")
        _failed(held, f"{type(error).__name__}: {error}", retryable=True)
    else:
        told.info("job.waits" if isinstance(outcome, Wait) else "job.succeeded")


def _check_object(payload: object) -> None:
    """A row that no order made may hold any JSON. Raises JobError."""
    if not isinstance(payload, Mapping):
        kind = type(payload).__name__
        raise JobError(f"bad payload: it must be a JSON object, got {kind}")


def _failed(held: Claim, error: str, *, retryable: bool) -> None:
    log.warning("job.failed", job=str(held.job_id), type=held.type, error=error)
    # An exchange's answer may be anything, and a text of the database holds no NUL.
    jobs.fail(held, error.replace("\0", "\\0"), retryable=retryable)


@contextmanager
def _watched(running: Running) -> Any:
    """Renew the lock and show the progress, in a thread: the work itself may be one long call."""
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(running, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(running: Running, ended: threading.Event) -> None:
    renewed = time.monotonic()
    try:
        while not ended.wait(LOOK_SECONDS):
            if _leaving.is_set():
                running.stop.set()
            try:
                if not jobs.renew(running.claim, running.progress):
                    running.stop.set()
                    return
                renewed = time.monotonic()
            except DatabaseError as error:
                # Once others may take the job for abandoned, it is no longer ours to do.
                if time.monotonic() - renewed > STALE_SECONDS:
                    running.stop.set()
                log.warning("job.not_renewed", error=str(error))
                connection.close()
        # What the last half second brought is shown too.
        jobs.renew(running.claim, running.progress)
    except DatabaseError as error:
        log.warning("job.not_renewed", error=str(error))
    finally:
        connection.close()
