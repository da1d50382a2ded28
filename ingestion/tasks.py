"""Celery's doors to ingestion."""

from __future__ import annotations

import time
from threading import Event

import structlog
from celery import shared_task
from celery.signals import worker_shutting_down
from django.db import DatabaseError, InterfaceError

from ingestion import backfill, backfill_run, fetch, fx, gap_orders
from ingestion.models import Backfill
from oracle import locks

FX_EVERY_MS = 60_000
RESUME_EVERY_MS = backfill.RESUME_SECONDS * 1_000
GAPS_TTL_MS = 240_000
STOPPING = Event()  # this worker is: what takes minutes gives itself back

log = structlog.get_logger(__name__)


@worker_shutting_down.connect(dispatch_uid="ingestion.tasks.stop")
def stop(**_: object) -> None:
    """Have backfills end with what they have."""
    STOPPING.set()


@shared_task(name="ingestion.fetch_tickers", ignore_result=True, expires=1)
def fetch_tickers(exchange: str) -> None:
    """Fetch the tickers of one exchange; beat asks for it each second."""
    fetch.fetch_tickers(exchange, now_ms=time.time_ns() // 1_000_000)


@shared_task(name="ingestion.fetch_fx", ignore_result=True)
def fetch_fx() -> None:
    """Fetch the currency rates of this hour, unless they are there already."""
    now_ms = time.time_ns() // 1_000_000
    if locks.claim_tick("fetch_fx", now_ms=now_ms, every_ms=FX_EVERY_MS) is not None:
        fx.fetch(now_ms=now_ms)


@shared_task(name=backfill.RUN_TASK, ignore_result=True)
def run_backfill(backfill_id: int) -> None:
    """Work a backfill for a minute, and send for a worker again while there is more to do."""
    try:
        status = backfill_run.run(backfill_id, now_ms=time.time_ns() // 1_000_000, stop=STOPPING)
    except (DatabaseError, InterfaceError) as error:
        log.error("backfill.broke_off", backfill=backfill_id, error=str(error))
        return  # it is gone on with when its hold on the row is stale
    if status == Backfill.PENDING and not STOPPING.is_set():
        backfill.send(backfill_id)
    elif status in (Backfill.SUCCEEDED, Backfill.FAILED):
        backfill.send_waiting(backfill_id)
        if gap_orders.all_done():
            fill_gaps.delay()  # there may be more gaps than it orders at a time


@shared_task(name="ingestion.resume_backfills", ignore_result=True)
def resume_backfills() -> None:
    """Send for the backfills that nobody works on."""
    now_ms = time.time_ns() // 1_000_000
    if locks.claim_tick("resume_backfills", now_ms=now_ms, every_ms=RESUME_EVERY_MS) is not None:
        backfill.resume(now_ms=now_ms)


@shared_task(name="ingestion.fill_gaps", ignore_result=True)
@locks.exclusive("fill_gaps", ttl_ms=GAPS_TTL_MS)
def fill_gaps() -> None:
    """Order what the last day misses; safe to send for at any time."""
    now_ms = time.time_ns() // 1_000_000
    gap_orders.order_missing(now_ms=now_ms)
    gap_orders.retry_failed(now_ms=now_ms)
