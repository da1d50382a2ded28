"""The prices' Celery tasks: thin doors."""

from __future__ import annotations

import time
from functools import cache

import structlog
from celery import shared_task
from django.db import DatabaseError, InterfaceError
from prometheus_client import Counter

from oracle import locks
from prices import rate
from prices.index import IndexWriter
from prices.rate import RateWriter

INDEX_EVERY_MS = 1_000

SAVE_ERRORS = Counter("oracle_rate_save_errors", "Rates that could not be saved yet.")

log = structlog.get_logger(__name__)


@cache
def _writer() -> IndexWriter:
    """This worker's index writer: it keeps the plans between ticks."""
    return IndexWriter()


@shared_task(name="prices.update_index", ignore_result=True)
def update_index() -> None:
    """Price every symbol; once a second for all workers."""
    now_ms = time.time_ns() // 1_000_000
    lock = locks.claim_tick("update_index", now_ms=now_ms, every_ms=INDEX_EVERY_MS)
    if lock is not None:
        _writer().tick(now_ms=now_ms, token=lock.token)


@cache
def _rate_writer() -> RateWriter:
    """This worker's writer of trade rates."""
    return RateWriter()


@shared_task(name="prices.publish_rates", ignore_result=True)
def publish_rates() -> None:
    """Publish the trade rates of the last 30 s; every 10 s for all workers."""
    now_ms = time.time_ns() // 1_000_000
    lock = locks.claim_tick("publish_rates", now_ms=now_ms, every_ms=rate.EVERY_MS)
    if lock is not None:
        _rate_writer().tick(now_ms=now_ms, token=lock.token)


@shared_task(name="prices.save_rates", ignore_result=True)
@locks.exclusive("save_rates", ttl_ms=300_000)
def save_rates() -> None:
    """Write published rates to the price history. Apart from publishing, which must not wait."""
    # Not at the top: it brings models, and whoever serves the queue `price` alone has none.
    from prices import history

    try:
        history.save()
    except (DatabaseError, InterfaceError) as error:
        SAVE_ERRORS.inc()
        log.error("rates.not_saved", error=str(error))
