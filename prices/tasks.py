"""The prices' Celery tasks: thin doors."""

from __future__ import annotations

import time
from functools import cache

from celery import shared_task

from oracle import locks
from prices.index import IndexWriter

INDEX_EVERY_MS = 1_000


@cache
def _writer() -> IndexWriter:
    """This worker's index writer: it keeps the plans between ticks."""
    return IndexWriter()


@shared_task(name="prices.update_index", ignore_result=True, time_limit=30)
def update_index() -> None:
    """Price every symbol; once a second for all workers."""
    now_ms = time.time_ns() // 1_000_000
    lock = locks.claim_tick("update_index", now_ms=now_ms, every_ms=INDEX_EVERY_MS)
    if lock is not None:
        _writer().tick(now_ms=now_ms, token=lock.token)
