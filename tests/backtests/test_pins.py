"""Runs that are kept: with all that is below them, and all that is still to come."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction

from backtests import job_orders, jobs, pins
from backtests.job_orders import Order
from backtests.models import Job

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudges")]


def waiting(children: int = 2) -> Job:
    """A walk-forward that waits for its tunes."""
    job, _ = job_orders.enqueue(Order(type="wfo"))
    held = jobs.claim("worker", tree=job.pk)
    assert held is not None
    jobs.wait_for(held, [Order(type="tune")] * children)
    return job


def pinned(job: Job) -> list[bool]:
    """Whether a job and those below it are kept."""
    rows = Job.objects.filter(pk=job.pk) | Job.objects.filter(parent=job)
    return list(rows.values_list("pinned", flat=True))


def test_pin_and_unpin_go_down_and_no_further():
    job, other = waiting(), waiting()
    pins.pin([job.pk], pinned=True)
    assert (pinned(job), pinned(other)) == ([True] * 3, [False] * 3)
    pins.pin([job.pk], pinned=False)
    assert pinned(job) == [False] * 3


def test_pin_of_what_has_ordered_nothing_yet_keeps_what_it_will():
    job, _ = job_orders.enqueue(Order(type="wfo"))
    pins.pin([job.pk], pinned=True)
    held = jobs.claim("worker")
    assert held is not None
    jobs.wait_for(held, [Order(type="tune")] * 2)
    assert pinned(job) == [True] * 3


@pytest.mark.django_db(transaction=True)
def test_pin_while_it_orders_misses_none():
    job, _ = job_orders.enqueue(Order(type="wfo"))
    held = jobs.claim("worker")
    assert held is not None
    began = threading.Event()

    def pin() -> None:
        try:
            began.set()
            pins.pin([job.pk], pinned=True)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            jobs.wait_for(held, [Order(type="tune")] * 2)
            pinning = pool.submit(pin)
            assert began.wait(10)
            with pytest.raises(TimeoutError):  # it waits for this transaction to end
                pinning.result(timeout=0.5)
        pinning.result(timeout=10)
    assert pinned(job) == [True] * 3
