"""What becomes of a job in a worker: done, failed with its reason, stopped, or given back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError

from backtests import job_orders, jobs, work
from backtests.job_orders import Order
from backtests.models import Job, JobEvent, Status
from backtests.work import Done, JobError, Running, Wait

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _no_broker(nudges: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("backtests.work.LOOK_SECONDS", 0.02)
    yield
    work._leaving.clear()


def run(handler: Any, **changes: Any) -> Job:
    job, _ = job_orders.enqueue(Order(**{"type": "tune", **changes}))
    work.work({"tune": handler}, seconds=30)
    job.refresh_from_db()
    return job


def until(running: Running) -> None:
    """Work like a handler that looks whether to stop."""
    for _ in range(1_000):
        running.check()
        threading.Event().wait(0.01)
    raise AssertionError("was never told to stop")


def test_work_done_keeps_the_result():
    job = run(lambda running: Done(result={"sharpe": 1.5}))
    assert (job.status, job.result) == (Status.SUCCEEDED, {"sharpe": 1.5})


def test_work_goes_on_until_nothing_is_due():
    for _ in range(3):
        job_orders.enqueue(Order(type="tune"))
    assert work.work({"tune": lambda running: Done(result={})}, seconds=30) == 3


def test_work_time_is_over_sends_for_another_to_go_on(nudges: list[str]):
    job_orders.enqueue(Order(type="tune"))
    nudges.clear()
    assert work.work({}, seconds=0) == 0
    assert nudges == [job_orders.WORK]


def test_work_job_error_fails_with_its_reason():
    def handler(running: Running) -> Done:
        raise JobError("the grid is empty")

    job = run(handler)
    assert (job.status, job.error, job.attempt) == (Status.FAILED, "the grid is empty", 1)


def test_work_reason_that_the_database_cannot_hold_is_kept_all_the_same():
    def handler(running: Running) -> Done:
        raise JobError("the exchange said 'a\0b'")

    job = run(handler)
    assert (job.status, job.error) == (Status.FAILED, r"the exchange said 'a\0b'")


def test_work_retryable_job_error_is_tried_again():
    def handler(running: Running) -> Done:
        raise JobError("exchange away", retryable=True)

    assert run(handler).status == Status.PENDING


def test_work_unknown_type_fails_at_once_and_says_what_there_is():
    job = run(lambda running: Done(result={}), type="mine_bitcoin")
    assert (job.status, job.error) == (
        Status.FAILED,
        "unknown job type 'mine_bitcoin': there are tune",
    )


@pytest.mark.parametrize("payload", [["sma_cross"], "sma_cross", 1])
def test_work_payload_that_is_no_object_fails_at_once(payload: Any):
    job = Job.objects.create(type="tune", payload=payload)
    work.work({"tune": lambda running: Done(result=dict(running.claim.payload))}, seconds=30)
    job.refresh_from_db()
    kind = type(payload).__name__
    assert (job.status, job.attempt, job.error) == (
        Status.FAILED,
        1,
        f"bad payload: it must be a JSON object, got {kind}",
    )


def test_work_handlers_own_key_error_is_a_failure_of_it_not_of_the_type():
    def handler(running: Running) -> Done:
        raise KeyError("window")

    job = run(handler)
    assert (job.status, job.error) == (Status.PENDING, "KeyError: 'window'")


def test_work_waits_then_goes_on_with_the_children_ended():
    seen: list[int] = []

    def parent(running: Running) -> Done | Wait:
        children = Job.objects.filter(parent_id=running.claim.job_id)
        seen.append(children.count())
        if not children:
            return Wait(children=[Order(type="tune", payload={"fold": n}) for n in range(2)])
        return Done(result={"folds": [child.result for child in children.order_by("created_at")]})

    job, _ = job_orders.enqueue(Order(type="wfo"))
    handlers = {"wfo": parent, "tune": lambda running: Done(result=dict(running.claim.payload))}
    assert work.work(handlers, seconds=30) == 4
    job.refresh_from_db()
    assert (seen, job.result) == ([0, 2], {"folds": [{"fold": 0}, {"fold": 1}]})


def test_work_canceled_while_running_stops_and_stays_canceled():
    def handler(running: Running) -> Done:
        jobs.cancel(running.claim.job_id)
        until(running)
        return Done(result={})

    assert run(handler).status == Status.CANCELED


def test_work_told_to_leave_gives_the_job_back_without_counting_the_attempt():
    def handler(running: Running) -> Done:
        work.leave()
        until(running)
        return Done(result={})

    job = run(handler)
    assert (job.status, job.attempt, job.error) == (Status.PENDING, 0, "")


@pytest.mark.parametrize("stale_seconds", [0, 60])
def test_work_that_cannot_renew_its_lock_stops_before_it_is_taken_for_dead(
    stale_seconds: int, monkeypatch: pytest.MonkeyPatch
):
    tried = threading.Semaphore(0)

    def away(*_: Any) -> bool:
        tried.release()
        raise OperationalError("the database is away")

    def handler(running: Running) -> Done:
        for _ in range(2):
            assert tried.acquire(timeout=10)
        running.check()
        return Done(result={})

    monkeypatch.setattr(jobs, "renew", away)
    monkeypatch.setattr(work, "STALE_SECONDS", stale_seconds)
    job, _ = job_orders.enqueue(Order(type="tune"))
    held = jobs.claim("worker")
    assert held is not None
    # Once only: it is due again as soon as it is given back.
    work.do(held, {"tune": handler})
    job.refresh_from_db()
    assert job.status == {0: Status.PENDING, 60: Status.SUCCEEDED}[stale_seconds]


def test_work_progress_is_shown_while_it_runs():
    shown: list[Any] = []

    def handler(running: Running) -> Done:
        running.report(done=1, total=2)
        for _ in range(500):
            shown[:] = [Job.objects.get(pk=running.claim.job_id).progress]
            if shown != [{}]:
                break
            threading.Event().wait(0.01)
        return Done(result={})

    run(handler)
    assert shown == [{"done": 1, "total": 2}]


def test_work_last_progress_is_not_lost():
    def handler(running: Running) -> Done:
        running.report(done=2, total=2)
        return Done(result={})

    assert run(handler).progress == {"done": 2, "total": 2}


def test_work_notes_are_events():
    def handler(running: Running) -> Done:
        running.note("info", "pinned", revision="abc")
        return Done(result={})

    job = run(handler)
    rows = JobEvent.objects.filter(job=job).order_by("id").values_list("message", "meta")
    assert list(rows) == [("pinned", {"revision": "abc"}), ("succeeded", {})]
