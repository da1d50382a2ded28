"""The Celery doors of ingestion."""

from __future__ import annotations

import time
from threading import Event

import pytest
from django.db import InterfaceError, OperationalError

from config.celery import app
from ingestion import backfill, backfill_run, fetch, fx, gap_orders, tasks
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


def test_run_backfill_sends_for_another_worker_while_there_is_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(backfill_run, "run", lambda number, **_: "pending")
    monkeypatch.setattr(backfill, "send", sent.append)
    tasks.run_backfill.apply(args=(7,))
    assert sent == [7]


def test_run_backfill_of_a_worker_that_stops_is_left_to_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "STOPPING", Event())
    monkeypatch.setattr(backfill, "send", lambda number: pytest.fail("sent"))

    def run(number: int, *, stop: Event, **_: object) -> str:
        tasks.stop()
        assert stop.is_set()
        return "pending"

    monkeypatch.setattr(backfill_run, "run", run)
    tasks.run_backfill.apply(args=(7,)).get()


@pytest.mark.parametrize("all_done", [True, False])
def test_run_backfill_at_its_end_sends_for_what_waited(
    monkeypatch: pytest.MonkeyPatch, all_done: bool
) -> None:
    said: list[object] = []
    monkeypatch.setattr(backfill_run, "run", lambda number, **_: "failed")
    monkeypatch.setattr(backfill, "send_waiting", said.append)
    monkeypatch.setattr(gap_orders, "all_done", lambda: all_done)
    monkeypatch.setattr(tasks.fill_gaps, "delay", lambda: said.append("gaps"))
    tasks.run_backfill.apply(args=(7,)).get()
    assert said == ([7, "gaps"] if all_done else [7])


@pytest.mark.parametrize("kind", [OperationalError, InterfaceError])
def test_run_backfill_database_away_leaves_it_to_be_gone_on_with(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def run(number: int, **_: object) -> str:
        raise kind("the server closed the connection")

    monkeypatch.setattr(backfill_run, "run", run)
    tasks.run_backfill.apply(args=(7,)).get()


def test_resume_backfills_once_a_minute_for_all_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(backfill, "resume", lambda *, now_ms: calls.append(now_ms))
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_040_000_000_000)
    tasks.resume_backfills.apply().get()
    tasks.resume_backfills.apply().get()
    assert calls == [1_700_000_040_000]


def test_fill_gaps_orders_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("order_missing", "retry_failed"):
        monkeypatch.setattr(gap_orders, name, lambda *, now_ms, name=name: calls.append(name))
    tasks.fill_gaps.apply().get()
    assert calls == ["order_missing", "retry_failed"]
