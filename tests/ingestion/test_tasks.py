"""The Celery doors of ingestion."""

from __future__ import annotations

import time

import pytest

from config.celery import app
from ingestion import fetch, fx, tasks
from ingestion.fetch import Outcome


def test_fetch_tickers_fetches_the_exchange_now(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []

    def record(exchange: str, *, now_ms: int) -> Outcome:
        calls.append((exchange, now_ms))
        return Outcome(exchange=exchange)

    monkeypatch.setattr(fetch, "fetch_tickers", record)
    before_ms = time.time_ns() // 1_000_000
    assert tasks.fetch_tickers.apply(args=("okx",)).get() is None
    [(exchange, now_ms)] = calls
    assert exchange == "okx"
    assert before_ms <= now_ms <= time.time_ns() // 1_000_000


def test_fetch_tickers_of_a_disabled_exchange_does_nothing() -> None:
    assert tasks.fetch_tickers.apply(args=("okx",)).get() is None


def test_fetch_tickers_is_the_task_that_beat_sends_each_second() -> None:
    task = app.tasks["ingestion.fetch_tickers"]
    assert (task.ignore_result, task.expires) == (True, 1)
    sent = [
        entry["args"]
        for entry in app.conf.beat_schedule.values()
        if entry["task"] == "ingestion.fetch_tickers"
    ]
    assert ("okx",) in sent


def test_fetch_fx_is_done_by_one_of_all_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(fx, "fetch", lambda *, now_ms: calls.append(now_ms))
    monkeypatch.setattr(tasks, "FX_EVERY_MS", 3_600_000_000)
    for _ in range(2):
        assert tasks.fetch_fx.apply().get() is None
    assert len(calls) == 1
