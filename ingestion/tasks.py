"""Celery's doors to ingestion."""

from __future__ import annotations

import time

from celery import shared_task

from ingestion import fetch, fx
from oracle import locks

FX_EVERY_MS = 60_000


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
