"""Celery's doors to ingestion."""

from __future__ import annotations

import time

from celery import shared_task

from ingestion import fetch


@shared_task(
    name="ingestion.fetch_tickers", ignore_result=True, expires=1, time_limit=30, soft_time_limit=20
)
def fetch_tickers(exchange: str) -> None:
    """Fetch the tickers of one exchange; beat asks for it each second."""
    fetch.fetch_tickers(exchange, now_ms=time.time_ns() // 1_000_000)
