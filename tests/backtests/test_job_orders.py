"""Orders that become rows on a real PostgreSQL, and whom they are told to."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from backtests import job_orders, jobs
from backtests.job_orders import Idempotency, IdempotencyError, Order
from backtests.models import Job

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudges")]


def put(**changes: Any) -> Job:
    return job_orders.enqueue(Order(**{"type": "tune", **changes}))[0]


def end() -> None:
    """Have the first that is due done."""
    held = jobs.claim("worker")
    assert held is not None
    jobs.finish(held, {})


def test_enqueue_while_others_do_answers_its_own_job():
    Job.objects.filter(pk=put().pk).update(created_at=timezone.now() + timedelta(hours=1))
    job, created = job_orders.enqueue(Order(type="wfo"))
    assert (job.type, created) == ("wfo", True)


def test_enqueue_same_dedupe_key_live_answers_the_first():
    first, created = job_orders.enqueue(Order(type="data_fetch", dedupe_key="a"))
    second, again = job_orders.enqueue(Order(type="data_fetch", dedupe_key="a"))
    assert (created, again, second.pk) == (True, False, first.pk)


def test_enqueue_same_dedupe_key_after_the_end_is_a_new_job():
    first = put(dedupe_key="a")
    end()
    assert put(dedupe_key="a").pk != first.pk


def test_enqueue_same_idempotency_key_answers_the_first_even_after_its_end():
    key = Idempotency(endpoint="tune", key="k", digest="d")
    first, _ = job_orders.enqueue(Order(type="tune"), idempotency=key)
    end()
    assert job_orders.enqueue(Order(type="tune"), idempotency=key) == (first, False)


def test_enqueue_same_idempotency_key_of_another_workspace_is_a_new_job():
    key = Idempotency(endpoint="tune", key="k", digest="d")
    job_orders.enqueue(Order(type="tune"), idempotency=key)
    assert job_orders.enqueue(Order(type="tune", workspace_id="b"), idempotency=key)[1]


def test_enqueue_same_idempotency_key_other_body_is_refused():
    job_orders.enqueue(
        Order(type="tune"), idempotency=Idempotency(endpoint="t", key="k", digest="d")
    )
    with pytest.raises(IdempotencyError, match="'k' came with another body"):
        job_orders.enqueue(
            Order(type="tune"), idempotency=Idempotency(endpoint="t", key="k", digest="e")
        )
    assert Job.objects.count() == 1


def test_enqueue_tells_workers_only_after_the_commit(
    nudges: list[str], django_capture_on_commit_callbacks: Any
):
    with django_capture_on_commit_callbacks(execute=True):
        put()
        assert nudges == []
    assert nudges == [job_orders.WORK]


def test_nudge_broker_away_is_no_error(monkeypatch: pytest.MonkeyPatch):
    def away(*_: Any, **__: Any) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr("backtests.job_orders.current_app.send_task", away)
    job_orders.nudge(1)


def test_due_count_counts_what_could_be_claimed():
    put()
    put()
    jobs.claim("worker")
    assert job_orders.due_count() == 1
