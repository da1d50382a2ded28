"""Celery's doors to the queue."""

from __future__ import annotations

from threading import Event
from typing import Any

import pytest
from celery.signals import worker_shutting_down

from backtests import job_orders, tasks, work
from backtests.job_orders import Order
from backtests.models import Job, Status
from backtests.work import Done

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("artifacts_dir"),
]


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "HANDLERS", {"tune": lambda running: Done(result={})})


def test_do_jobs_does_all_that_are_due():
    for _ in range(3):
        job_orders.enqueue(Order(type="tune"))
    tasks.do_jobs()
    assert list(Job.objects.values_list("status", flat=True)) == [Status.SUCCEEDED] * 3


def test_do_jobs_one_at_a_time_in_a_process(monkeypatch: pytest.MonkeyPatch):
    def handler(running: Any) -> Done:
        tasks.do_jobs()  # another thread's
        return Done(result={"left": job_orders.due_count()})

    monkeypatch.setattr(tasks, "HANDLERS", {"tune": handler})
    for _ in range(2):
        job_orders.enqueue(Order(type="tune"))
    tasks.do_jobs()
    results = [job.result for job in Job.objects.order_by("created_at")]
    assert results == [{"left": 1}, {"left": 0}]


def test_nudge_sends_for_what_is_due_and_no_more(nudges: list[str]):
    tasks.nudge()
    assert nudges == []
    Job.objects.bulk_create(Job(type="tune") for _ in range(2))
    tasks.nudge()
    assert nudges == [job_orders.WORK] * 2
    Job.objects.bulk_create(Job(type="tune") for _ in range(20))
    tasks.nudge()
    assert len(nudges) == 2 + tasks.NUDGES_AT_ONCE


def test_worker_that_shuts_down_gives_its_job_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ingestion.tasks.STOPPING", Event())  # it hears of it, too

    def handler(running: Any) -> Done:
        worker_shutting_down.send(sender="worker")
        running.check()
        return Done(result={})

    job, _ = job_orders.enqueue(Order(type="tune"))
    try:
        work.work({"tune": handler}, seconds=60)
    finally:
        work._leaving.clear()
    job.refresh_from_db()
    assert (job.status, job.attempt) == (Status.PENDING, 0)
