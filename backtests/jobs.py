"""The job queue: rows in PostgreSQL, each claimed by one worker and ended once.

Whoever changes a running job says what it takes the row to be: running, locked by it, at this
attempt. The row count decides. A worker that was reaped meanwhile ends nothing, and a canceled job
never becomes a succeeded one. Rows are locked from the parent down, everywhere, so that a child's
end and a cancel of its parent cannot wait for each other.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connection, models, transaction

from backtests.job_orders import Order, insert, nudge_on_commit
from backtests.models import ENDED, LIVE, Job, JobEvent, JobType, Status

STALE_SECONDS = 60
FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS = 5, 300
JITTER_RATIO = 0.1


class LostError(Exception):
    """The job is no longer this worker's: canceled, or reaped and given to another."""

    retryable = False


class RetryError(Exception):
    """The job cannot be done again as things are; the text says why, of "it". ``code`` is a word
    for programs."""

    retryable = False

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A job that a worker has: the proof it shows when it changes the row."""

    job_id: UUID
    parent_id: UUID | None
    type: str
    workspace_id: str
    payload: Mapping[str, Any]
    attempt: int
    max_attempts: int
    locked_by: str


# --- being done ---


def claim(worker: str, *, tree: UUID | None = None) -> Claim | None:
    """Take the most urgent job that is due; None: there is none. ``worker``: unique to the call.

    Of ``tree`` only, which is a job with its children, where it is given.
    """
    within, ids = ("", []) if tree is None else ("AND (id = %s OR parent_id = %s) ", [tree, tree])
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE job SET status = 'running', locked_by = %s, locked_at = clock_timestamp(), "
            "attempt = attempt + 1, error = '', "
            "started_at = COALESCE(started_at, clock_timestamp()) "
            "WHERE id = (SELECT id FROM job WHERE status = 'pending' "
            f"AND run_after <= clock_timestamp() {within}ORDER BY priority, created_at, id "
            "LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id",
            [worker, *ids],
        )
        row = cursor.fetchone()
    if row is None:
        return None
    return _claim(Job.objects.get(pk=row[0]), worker=worker)


def _claim(job: Job, *, worker: str) -> Claim:
    return Claim(
        job_id=job.pk,
        parent_id=job.parent_id,
        type=job.type,
        workspace_id=job.workspace_id,
        payload=job.payload,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        locked_by=worker,
    )


def renew(held: Claim, progress: Mapping[str, Any]) -> bool:
    """Say that the worker lives, and how far it is; False: the job is no longer its own."""
    changed = _own(held).update(locked_at=_clock(), progress=dict(progress))
    return changed == 1


def note(job_id: UUID, level: str, message: str, **meta: Any) -> None:
    """Write an event of a job."""
    JobEvent.objects.create(job_id=job_id, level=level, message=message, meta=meta)


def wait_for(held: Claim, children: Sequence[Order]) -> None:
    """Give the job back until these children have ended: nobody's worker waits for them.

    Raises LostError.
    """
    with transaction.atomic():
        # The claim that goes on is the same attempt, not another.
        changed = _own(held).update(locked_by="", locked_at=None, attempt=models.F("attempt") - 1)
        if not changed:
            raise LostError(f"{held.type} {held.job_id} is no longer ours")
        parent = Job.objects.only("pinned").get(pk=held.job_id)
        for order in children:
            insert(order, parent=parent)
        note(held.job_id, JobEvent.Level.INFO, f"waits for {len(children)} children")
        _continue_parent(held.job_id)
        nudge_on_commit(len(children))


def give_back(held: Claim) -> bool:
    """Let another worker do it, as if it had never been claimed: this one is told to stop."""
    changed = _own(held).update(
        status=Status.PENDING,
        locked_by="",
        locked_at=None,
        attempt=models.F("attempt") - 1,
        run_after=_clock(),
    )
    return changed == 1


# --- done ---


def finish(
    held: Claim, result: Mapping[str, Any], *, keep: Callable[[], None] | None = None
) -> None:
    """End a job well. ``keep`` files what it made, in the same transaction.

    Raises LostError when the job is no longer the worker's: then nothing is kept.
    """
    with transaction.atomic():
        ended = _end(held, status=Status.SUCCEEDED, result=dict(result))
        if not ended:
            raise LostError(f"{held.type} {held.job_id} is no longer ours")
        if keep is not None:
            keep()
        note(held.job_id, JobEvent.Level.INFO, "succeeded")


def fail(held: Claim, error: str, *, retryable: bool) -> bool:
    """End a job badly, or have it tried again later; False when it is no longer the worker's."""
    if retryable and held.attempt < held.max_attempts:
        seconds = retry_seconds(held.attempt)
        with transaction.atomic():
            changed = _own(held).update(
                status=Status.PENDING,
                locked_by="",
                locked_at=None,
                error=error,
                run_after=_clock(seconds),
            )
            if changed:
                _note_retry(held.job_id, error, held.attempt, seconds)
        return changed == 1
    with transaction.atomic():
        ended = _end(held, status=Status.FAILED, error=error)
        if ended:
            note(held.job_id, JobEvent.Level.ERROR, error, attempt=held.attempt)
    return ended


def retry_seconds(attempt: int) -> float:
    """How long to wait after so many attempts: 10, 20, 40 … at most 300 s, and up to a tenth."""
    seconds: int = min(MAX_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2**attempt)
    return seconds * (1 + random.random() * JITTER_RATIO)


def _note_retry(job_id: UUID, error: str, attempt: int, seconds: float) -> None:
    note(
        job_id,
        JobEvent.Level.WARN,
        f"attempt {attempt} failed, again in {seconds:.0f} s: {error}",
        attempt=attempt,
    )


def _own(held: Claim) -> models.QuerySet[Job]:
    return Job.objects.filter(
        pk=held.job_id,
        status=Status.RUNNING,
        locked_by=held.locked_by,
        attempt=held.attempt,
    )


def _end(held: Claim, **changes: Any) -> bool:
    _lock(held.parent_id)
    changes |= {"locked_by": "", "locked_at": None, "finished_at": _clock()}
    ended = _own(held).update(**changes) == 1
    if ended:
        _continue_parent(held.parent_id)
    return ended


def _lock(job_id: UUID | None) -> None:
    if job_id is not None:
        Job.objects.select_for_update().filter(pk=job_id).values_list("pk").first()


def _continue_parent(parent_id: UUID | None) -> None:
    """Make a waiting parent due when its last child has ended; its row is locked already."""
    if parent_id is None or Job.objects.filter(parent_id=parent_id, status__in=LIVE).exists():
        return
    waiting = Job.objects.filter(pk=parent_id, status=Status.RUNNING, locked_by="")
    if waiting.update(status=Status.PENDING, run_after=_clock()):
        nudge_on_commit()


def _clock(seconds: float = 0) -> models.Expression:
    """The database's own time, so many seconds on. Not ``Now()``, a statement's beginning: it may
    have waited for a lock since."""
    expression = models.Func(function="clock_timestamp", output_field=models.DateTimeField())
    return models.ExpressionWrapper(
        expression + models.Value(timedelta(seconds=seconds)), output_field=models.DateTimeField()
    )


# --- canceled, tried again, reaped ---


def cancel(job_id: UUID) -> tuple[str, int]:
    """Cancel a job and all below it, in one transaction: its status then, and how many below.

    Those that run stop at their next look. Raises Job.DoesNotExist. What has ended stays ended.
    """
    with transaction.atomic():
        parent_id = Job.objects.values_list("parent_id", flat=True).get(pk=job_id)
        _lock(parent_id)
        below = _lock_tree(job_id)
        canceled = _cancel([job_id])
        children = _cancel(below) if canceled else 0
        if canceled:
            note(job_id, JobEvent.Level.WARN, "canceled", children_canceled=children)
            _continue_parent(parent_id)
        status = Job.objects.values_list("status", flat=True).get(pk=job_id)
    return status, children


def _lock_tree(job_id: UUID) -> list[UUID]:
    """Lock a job and all below it, level by level; those below."""
    _lock(job_id)
    below: list[UUID] = []
    level: Collection[UUID] = [job_id]
    while level:
        rows = Job.objects.select_for_update().filter(parent_id__in=level).order_by("pk")
        level = list(rows.values_list("pk", flat=True))
        below += level
    return below


def _cancel(ids: Collection[UUID]) -> int:
    live = Job.objects.filter(pk__in=ids, status__in=LIVE)
    return live.update(status=Status.CANCELED, locked_by="", locked_at=None, finished_at=_clock())


def retry(job_id: UUID) -> None:
    """Have a job that failed or was canceled done again, with those below it that were too.

    Raises RetryError when it has not ended so, when it is a child of one that has ended, or that a
    worker has, which goes on without it, and when a live job has its dedupe key.
    """
    try:
        with transaction.atomic():
            _retry(job_id)
    except IntegrityError as error:
        message = "another job that does the same is under way"
        raise RetryError("ALREADY_UNDER_WAY", message) from error


def _retry(job_id: UUID) -> None:
    ended = (Status.FAILED, Status.CANCELED)
    fresh: dict[str, Any] = {
        "status": Status.PENDING,
        "attempt": 0,
        "error": "",
        "result": None,
        "progress": {},
        "started_at": None,
        "finished_at": None,
    }
    parent_id = Job.objects.values_list("parent_id", flat=True).get(pk=job_id)
    _lock(parent_id)
    below = _lock_tree(job_id)
    job = Job.objects.select_related("parent").get(pk=job_id)
    if job.status not in ended:
        message = f"it is {job.status}: only one that failed or was canceled can be retried"
        raise RetryError("WRONG_STATUS", message)
    if not _waits_again(job.parent):
        message = (
            f"it is part of job {parent_id}, which has ended or goes on without it: retry that one"
        )
        raise RetryError("WRONG_STATUS", message)
    again = Job.objects.filter(pk__in=below, status__in=ended)
    count = again.update(**fresh, run_after=_clock())
    if count:  # it waits for them
        fresh["status"] = Status.RUNNING
    Job.objects.filter(pk=job_id).update(**fresh, run_after=_clock())
    note(job_id, JobEvent.Level.INFO, "to be done again", children=count)
    nudge_on_commit(count or 1)


def _waits_again(parent: Job | None) -> bool:
    """Whether a parent, whose row is locked, waits for a child that is to be done again."""
    if parent is None:
        return True
    if parent.locked_by or parent.status not in LIVE:
        return False
    # It may be due already, with nobody at it yet: its last child was the last one then.
    Job.objects.filter(pk=parent.pk).update(status=Status.RUNNING)
    return True


def forget(*, days: int) -> int:
    """Delete the rows of data jobs that ended so long ago; how many jobs. Runs are kept."""
    old = Job.objects.filter(
        type__in=(JobType.DATA_SYNC, JobType.DATA_FETCH),
        status__in=ENDED,
        pinned=False,
        finished_at__lt=_clock(-days * 86_400),
    )
    _, counts = old.delete()  # of events, too
    return counts.get(Job._meta.label, 0)


def reap() -> int:
    """Take jobs from workers that gave no sign of life: tried again, or failed after the last one.

    A parent that waits for nobody is continued. How many.
    """
    deadline = _clock(-STALE_SECONDS)
    stale = Job.objects.filter(status=Status.RUNNING, locked_at__lt=deadline)
    count = sum(_reap(_claim(job, worker=job.locked_by)) for job in list(stale))
    waiting = Job.objects.filter(status=Status.RUNNING, locked_by="", locked_at=None)
    for job_id in list(waiting.values_list("pk", flat=True)):
        with transaction.atomic():
            _lock(job_id)
            _continue_parent(job_id)
    return count


def _reap(held: Claim) -> bool:
    """Its worker may have come back since it was read: only a row that is still stale is taken."""
    with transaction.atomic():
        _lock(held.parent_id)
        still = _own(held).select_for_update().filter(locked_at__lt=_clock(-STALE_SECONDS))
        if not still.exists():
            return False
        return fail(held, f"the worker {held.locked_by} gave no sign of life", retryable=True)
