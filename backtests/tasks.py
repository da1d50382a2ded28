"""Celery's doors to the job queue."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import structlog
from celery import shared_task
from celery.signals import worker_shutting_down
from django.conf import settings

from backtests import artifacts, data_jobs, job_orders, jobs, work
from backtests.handlers import HANDLERS
from ingestion.data_sync import SYNC_TASK
from oracle import locks

BEGIN_SECONDS = 60.0
# Beat's messages each wake one worker, which goes on until nothing is due. More would only pile up
# while all of them are busy.
NUDGES_AT_ONCE = 4
PRUNE_RUN_MS = 3_600_000
DATA_JOB_DAYS = 30  # there are some hundreds a day

# One job at a time in a process: a tune uses its cores by itself, and where other queues are served
# too, the other threads are theirs. Who comes in vain is not missed: the one at work looks again.
_working = threading.Lock()

log = structlog.get_logger(__name__)


@worker_shutting_down.connect(dispatch_uid="backtests.tasks.leave")
def leave(**_: object) -> None:
    """Have the running job given back to the queue."""
    work.leave()


@shared_task(name=job_orders.WORK, ignore_result=True)
def do_jobs() -> None:
    """Do jobs until none is due, beginning none after a minute: then it is sent again."""
    if not _working.acquire(blocking=False):
        return
    try:
        work.work(HANDLERS, seconds=BEGIN_SECONDS)
    finally:
        _working.release()


@shared_task(name="backtests.nudge", ignore_result=True)
def nudge() -> None:
    """Send for the jobs that are due: of one that was to be tried later, nobody is told else."""
    job_orders.nudge(min(job_orders.due_count(), NUDGES_AT_ONCE))


@shared_task(name="backtests.reap", ignore_result=True)
def reap() -> None:
    """Take jobs from workers that died."""
    if count := jobs.reap():
        log.warning("jobs.reaped", count=count)


@shared_task(name=SYNC_TASK, ignore_result=True)
def sync_data(which: str, exchange: str | None = None) -> None:
    """Order what is due of core symbols' candles, ``hourly`` or ``daily``; twice does no harm."""
    data_jobs.order_sync(which, exchange)


@shared_task(name="backtests.prune", ignore_result=True)
@locks.exclusive("prune_artifacts", ttl_ms=PRUNE_RUN_MS)
def prune() -> None:
    """Remove the files of old runs, and the rows of old data jobs."""
    now = datetime.fromtimestamp(time.time(), UTC)
    count = artifacts.prune(now=now, keep_days=settings.ARTIFACTS_KEEP_DAYS)
    log.info("artifacts.pruned", count=count, jobs=jobs.forget(days=DATA_JOB_DAYS))
