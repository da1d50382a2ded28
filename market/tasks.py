"""The market's Celery tasks: thin doors."""

from __future__ import annotations

import time

import structlog
from celery import shared_task
from django.db import DatabaseError

from market import catalog, flush
from market.candles import FencedOutError
from oracle import locks, metrics
from oracle.leader import leader_only

FLUSH_EVERY_MS = 60_000
MAX_RUN_MS = 300_000

log = structlog.get_logger(__name__)


@shared_task(name="market.flush_candles", ignore_result=True)
@locks.exclusive("flush_candles", ttl_ms=MAX_RUN_MS)
def flush_candles() -> None:
    """Write the candles of past minutes to the database; once a minute for all workers."""
    now_ms = time.time_ns() // 1_000_000
    lock = locks.claim_tick("flush_candles", now_ms=now_ms, every_ms=FLUSH_EVERY_MS)
    if lock is None:
        return
    try:
        with metrics.FLUSH_DURATION.time():
            done = flush.flush_candles(now_ms=now_ms, token=lock.token)
    except (DatabaseError, FencedOutError) as error:
        metrics.FLUSH_ERRORS.inc()
        log.error("flush.failed", error=str(error), lag_ms=flush.lag_ms(now_ms=now_ms))
        return
    log.info("flush.done", created=done.created, revised=done.revised, waiting=done.waiting)


@shared_task(name="market.publish_catalog", ignore_result=True)
@locks.exclusive("publish_catalog", ttl_ms=MAX_RUN_MS)
@leader_only("catalog")
def publish_catalog() -> None:
    """Bring the catalogue in Redis up to the database; the one in force stays when that is away."""
    try:
        changed = catalog.publish()
    except DatabaseError as error:
        log.warning("catalog.kept", error=str(error))  # the one in Redis stays in force
        return
    if changed:
        log.info("catalog.published")
