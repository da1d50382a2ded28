"""Jobs to be: an order becomes a row, once, and the workers are told that there is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from celery import current_app
from django.db import connection, transaction
from django.db.models.functions import Now
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from backtests.models import (
    DEFAULT_PRIORITY,
    LIVE,
    MAX_ATTEMPTS,
    IdempotencyKey,
    Job,
    Status,
)

WORK = "backtests.work"  # the task that claims one
MAX_NUDGES = 100

log = structlog.get_logger(__name__)


class IdempotencyError(Exception):
    """The key was used before, for another request."""

    retryable = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A job to be. ``dedupe_key``: while one with it is live, it is answered instead."""

    type: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    workspace_id: str = "default"
    priority: int = DEFAULT_PRIORITY
    max_attempts: int = MAX_ATTEMPTS
    dedupe_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Idempotency:
    """What makes a repeated POST the same one. ``digest`` is its body's."""

    endpoint: str
    key: str
    digest: str


def enqueue(order: Order, *, idempotency: Idempotency | None = None) -> tuple[Job, bool]:
    """Commit a job and tell the workers; the job, and whether it is a new one.

    Raises IdempotencyError when the key came with another body.
    """
    with transaction.atomic():
        if idempotency is not None:
            held = _answered(order.workspace_id, idempotency)
            if held is not None:
                return held, False
        job, created = insert(order)
        if idempotency is not None:
            IdempotencyKey.objects.create(
                workspace_id=order.workspace_id,
                endpoint=idempotency.endpoint,
                key=idempotency.key,
                digest=idempotency.digest,
                job=job,
            )
        if created:
            nudge_on_commit()
        return job, created


def _answered(workspace_id: str, idempotency: Idempotency) -> Job | None:
    with connection.cursor() as cursor:
        name = f"{workspace_id}|{idempotency.endpoint}|{idempotency.key}"
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])
    held = (
        IdempotencyKey.objects.select_related("job")
        .filter(workspace_id=workspace_id, endpoint=idempotency.endpoint, key=idempotency.key)
        .first()
    )
    if held is not None and held.digest != idempotency.digest:
        raise IdempotencyError(f"the idempotency key {idempotency.key!r} came with another body")
    return held.job if held else None


def insert(order: Order, *, parent: Job | None = None) -> tuple[Job, bool]:
    """Make the row, or find the live one with its dedupe key; the job, and whether it is a new one.

    A child is kept as its parent is, whose row is locked. Nobody is told: see `nudge_on_commit`.
    """
    job = Job(
        type=order.type,
        payload=dict(order.payload),
        workspace_id=order.workspace_id,
        priority=order.priority,
        max_attempts=order.max_attempts,
        dedupe_key=order.dedupe_key,
        parent=parent,
        pinned=parent is not None and parent.pinned,
    )
    if order.dedupe_key is None:
        job.save(force_insert=True)
        return job, True
    while True:
        Job.objects.bulk_create([job], ignore_conflicts=True)
        held = Job.objects.filter(dedupe_key=order.dedupe_key, status__in=LIVE).first()
        if held is not None:  # else the one in the way has just ended
            return held, held.pk == job.pk


def nudge_on_commit(count: int = 1) -> None:
    """Tell workers once the transaction has committed; not at all where it does not."""
    transaction.on_commit(lambda: nudge(count))


def nudge(count: int) -> None:
    """Tell workers that jobs are due. A message that is lost only delays: beat repeats them."""
    try:
        for _ in range(min(count, MAX_NUDGES)):
            current_app.send_task(WORK, ignore_result=True, retry=False)
    except (BrokerError, RedisError, OSError) as error:
        log.warning("jobs.not_announced", error=str(error))


def due_count() -> int:
    """How many jobs could be claimed now, counted up to MAX_NUDGES."""
    due = Job.objects.filter(status=Status.PENDING, run_after__lte=Now())
    return due[:MAX_NUDGES].count()
