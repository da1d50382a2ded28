"""The job queue on a real PostgreSQL: who may change a row, and what ends it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from backtests import job_orders, jobs
from backtests.job_orders import Order
from backtests.jobs import Claim, LostError, RetryError
from backtests.models import Job, JobEvent, Status

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudges")]

LONG_AGO = timedelta(seconds=jobs.STALE_SECONDS + 5)


def put(**changes: Any) -> Job:
    return job_orders.enqueue(Order(**{"type": "tune", **changes}))[0]


def take(worker: str = "worker") -> Claim:
    held = jobs.claim(worker)
    assert held is not None
    return held


def status(job_id: Any) -> str:
    return Job.objects.values_list("status", flat=True).get(pk=job_id)


def abandon(held: Claim) -> None:
    Job.objects.filter(pk=held.job_id).update(locked_at=timezone.now() - LONG_AGO)


def family(children: int = 2) -> tuple[Job, list[Claim]]:
    """A parent that waits, and its children, each claimed."""
    parent = put(type="wfo")
    jobs.wait_for(take(), [Order(type="tune", payload={"fold": n}) for n in range(children)])
    return parent, [take(f"w{n}") for n in range(children)]


# --- claim ---


def test_claim_takes_the_most_urgent_then_the_oldest():
    late, first, second = put(priority=200), put(), put()
    urgent = put(priority=1)
    order = [take().job_id for _ in range(4)]
    assert order == [urgent.pk, first.pk, second.pk, late.pk]
    assert jobs.claim("worker") is None


def test_claim_not_yet_due_is_left():
    Job.objects.filter(pk=put().pk).update(run_after=timezone.now() + timedelta(hours=1))
    assert jobs.claim("worker") is None


@pytest.mark.django_db(transaction=True)
def test_claim_eight_at_once_each_get_a_job_of_their_own():
    expected = {put().pk for _ in range(40)}
    taken: list[Any] = []

    def drain(number: int) -> None:
        try:
            while (held := jobs.claim(f"w{number}")) is not None:
                taken.append(held.job_id)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(drain, range(8)))
    assert (len(taken), set(taken)) == (40, expected)


# --- the end ---


def test_finish_keeps_result_and_what_was_made():
    job, kept = put(), []
    jobs.finish(take(), {"a": 1}, keep=lambda: kept.append(True))
    job.refresh_from_db()
    assert (job.status, job.result, job.locked_by, kept) == ("succeeded", {"a": 1}, "", [True])


def test_finish_after_being_reaped_ends_nothing_and_keeps_nothing():
    job, kept = put(), []
    held = take("old")
    abandon(held)
    assert jobs.reap() == 1
    Job.objects.update(run_after=timezone.now())
    take("new")
    with pytest.raises(LostError):
        jobs.finish(held, {"late": True}, keep=lambda: kept.append(True))
    assert (status(job.pk), kept) == ("running", [])


def test_finish_same_worker_name_of_an_earlier_attempt_ends_nothing():
    put()
    held = take("same")
    jobs.fail(held, "once", retryable=True)
    Job.objects.update(run_after=timezone.now())
    take("same")
    with pytest.raises(LostError):
        jobs.finish(held, {})


def test_finish_after_cancel_stays_canceled():
    job = put()
    held = take()
    jobs.cancel(job.pk)
    with pytest.raises(LostError):
        jobs.finish(held, {})
    assert (status(job.pk), jobs.fail(held, "late", retryable=True)) == ("canceled", False)


def test_finish_whose_keeping_fails_leaves_the_job_running():
    job = put()

    def broken() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        jobs.finish(take(), {}, keep=broken)
    assert status(job.pk) == "running"


def test_fail_retryable_waits_and_says_why():
    job = put()
    jobs.fail(take(), "exchange away", retryable=True)
    job.refresh_from_db()
    event = JobEvent.objects.get(job=job)
    wait = (job.run_after - timezone.now()).total_seconds()
    assert (job.status, job.error, event.level) == ("pending", "exchange away", "warn")
    assert 9 < wait <= 11


def test_fail_last_attempt_is_failed():
    job = put(max_attempts=2)
    for _ in range(2):
        Job.objects.update(run_after=timezone.now())
        jobs.fail(take(), "no", retryable=True)
    assert status(job.pk) == "failed"


def test_fail_not_retryable_is_failed_at_once():
    job = put()
    jobs.fail(take(), "bad payload", retryable=False)
    job.refresh_from_db()
    assert (job.status, job.error, job.attempt) == ("failed", "bad payload", 1)


@pytest.mark.parametrize(("attempt", "least"), [(1, 10), (2, 20), (5, 160), (6, 300), (40, 300)])
def test_retry_seconds_doubles_up_to_the_cap(attempt: int, least: int):
    assert least <= jobs.retry_seconds(attempt) <= least * 1.1


# --- parents ---


def test_wait_for_frees_the_worker_and_keeps_the_parent_running():
    parent, _ = family()
    parent.refresh_from_db()
    assert (parent.status, parent.locked_by, parent.locked_at) == ("running", "", None)


def test_wait_for_last_child_continues_the_parent_as_the_same_attempt():
    parent, (one, two) = family()
    jobs.finish(one, {})
    assert status(parent.pk) == "running"
    jobs.fail(two, "no", retryable=False)
    assert status(parent.pk) == "pending"
    again = take("next")
    assert (again.job_id, again.attempt) == (parent.pk, 1)


def test_wait_for_nobody_continues_at_once():
    parent = put(type="wfo")
    jobs.wait_for(take(), [])
    assert status(parent.pk) == "pending"


def test_wait_for_child_tried_again_keeps_the_parent_waiting():
    parent, (one, two) = family()
    jobs.finish(one, {})
    jobs.fail(two, "later", retryable=True)
    assert status(parent.pk) == "running"


def test_wait_for_canceled_parent_makes_no_children():
    parent = put(type="wfo")
    held = take()
    jobs.cancel(parent.pk)
    with pytest.raises(LostError):
        jobs.wait_for(held, [Order(type="tune")])
    assert Job.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_wait_for_children_that_end_at_once_continue_the_parent_once(nudges: list[str]):
    parent, children = family(8)
    nudges.clear()
    barrier = threading.Barrier(8)

    def end(held: Claim) -> None:
        try:
            barrier.wait()
            jobs.finish(held, {})
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(end, children))
    assert (status(parent.pk), len(nudges)) == ("pending", 1)


# --- cancel, retry ---


def test_cancel_goes_down_the_tree():
    parent, (one, two) = family()
    jobs.finish(one, {})
    assert jobs.cancel(parent.pk) == ("canceled", 1)
    assert [status(each.job_id) for each in (one, two)] == ["succeeded", "canceled"]
    assert jobs.renew(two, {}) is False


def test_cancel_last_child_continues_the_parent():
    parent, (one, two) = family()
    jobs.cancel(one.job_id)
    jobs.cancel(two.job_id)
    assert status(parent.pk) == "pending"


def test_cancel_ended_job_stays_as_it_ended():
    job = put()
    jobs.finish(take(), {})
    assert jobs.cancel(job.pk) == ("succeeded", 0)


@pytest.mark.django_db(transaction=True)
def test_cancel_while_children_end_never_deadlocks_and_ends_all():
    for _ in range(10):
        parent, children = family(4)
        barrier = threading.Barrier(5)

        def end(held: Claim, barrier: threading.Barrier = barrier) -> None:
            try:
                barrier.wait()
                jobs.finish(held, {})
            except LostError:
                pass
            finally:
                connection.close()

        def cancel(job_id: Any = parent.pk, barrier: threading.Barrier = barrier) -> None:
            try:
                barrier.wait()
                jobs.cancel(job_id)
            finally:
                connection.close()

        with ThreadPoolExecutor(5) as pool:
            futures = [pool.submit(end, child) for child in children]
            futures.append(pool.submit(cancel))
            for future in futures:
                future.result()
        assert status(parent.pk) == "canceled"
        assert not Job.objects.filter(status__in=("pending", "running")).exists()


def test_retry_failed_job_starts_over():
    job = put(max_attempts=1)
    held = take()
    jobs.renew(held, {"trials_done": 7})
    jobs.fail(held, "no", retryable=True)
    jobs.retry(job.pk)
    job.refresh_from_db()
    assert (job.progress, job.started_at, job.finished_at) == ({}, None, None)
    assert take().attempt == 1


def test_retry_succeeded_job_is_refused():
    job = put()
    jobs.finish(take(), {})
    with pytest.raises(RetryError, match="it is succeeded: only one that failed or was canceled"):
        jobs.retry(job.pk)


def test_retry_parent_does_its_failed_children_again_and_waits_for_them():
    parent, (one, two) = family()
    jobs.finish(one, {})
    jobs.fail(two, "no", retryable=False)
    jobs.fail(take(), "too few folds", retryable=False)
    jobs.retry(parent.pk)
    assert [status(each) for each in (parent.pk, one.job_id, two.job_id)] == [
        "running",
        "succeeded",
        "pending",
    ]
    jobs.finish(take(), {})
    assert status(parent.pk) == "pending"


def test_retry_child_of_a_parent_that_is_due_has_it_wait_again():
    parent, (one, two) = family()
    jobs.fail(one, "no", retryable=False)
    jobs.finish(two, {})
    assert status(parent.pk) == "pending"
    jobs.retry(one.job_id)
    assert [status(each) for each in (parent.pk, one.job_id)] == ["running", "pending"]
    jobs.finish(take(), {})
    assert [status(each) for each in (parent.pk, one.job_id)] == ["pending", "succeeded"]


def test_retry_child_of_a_parent_that_goes_on_without_it_is_refused():
    parent, (one, two) = family()
    jobs.fail(one, "no", retryable=False)
    jobs.finish(two, {})
    assert take().job_id == parent.pk
    with pytest.raises(RetryError, match=f"it is part of job {parent.pk}, which has ended or"):
        jobs.retry(one.job_id)
    assert status(one.job_id) == "failed"


def test_retry_with_its_dedupe_key_live_again_is_refused():
    job = put(dedupe_key="a")
    jobs.fail(take(), "no", retryable=False)
    put(dedupe_key="a")
    with pytest.raises(RetryError, match="another job that does the same is under way"):
        jobs.retry(job.pk)
    assert status(job.pk) == "failed"


# --- reaper ---


def test_reap_live_worker_is_left():
    put()
    held = take()
    assert (jobs.reap(), jobs.renew(held, {"done": 1})) == (0, True)


def test_reap_worker_that_came_back_meanwhile_keeps_its_job():
    put()
    held = take()
    abandon(held)
    jobs.renew(held, {})  # after the reaper has read its row
    assert (jobs._reap(held), status(held.job_id)) == (False, "running")


def test_reap_abandoned_job_is_tried_again():
    job = put()
    abandon(take("gone"))
    assert (jobs.reap(), status(job.pk)) == (1, "pending")


def test_reap_abandoned_last_attempt_is_failed_and_continues_the_parent():
    parent, (one, two) = family()
    jobs.finish(one, {})
    Job.objects.filter(pk=two.job_id).update(max_attempts=1)
    abandon(two)
    jobs.reap()
    job = Job.objects.get(pk=two.job_id)
    assert (job.status, job.error) == ("failed", "the worker w1 gave no sign of life")
    assert status(parent.pk) == "pending"


def test_reap_parent_that_waits_is_left():
    parent, _ = family()
    assert (jobs.reap(), status(parent.pk)) == (0, "running")


def test_reap_parent_left_waiting_for_nobody_is_continued():
    parent, (one, two) = family()
    Job.objects.filter(pk__in=[one.job_id, two.job_id]).update(status=Status.SUCCEEDED)
    jobs.reap()
    assert status(parent.pk) == "pending"


def test_give_back_is_no_attempt():
    put()
    jobs.give_back(take())
    assert take().attempt == 1


def test_forget_deletes_old_data_jobs_only():
    old, young, run = put(type="data_fetch"), put(type="data_fetch"), put(type="tune")
    for _ in range(3):
        jobs.finish(take(), {})
    long_ago = timezone.now() - timedelta(days=31)
    Job.objects.filter(pk__in=[old.pk, run.pk]).update(finished_at=long_ago)
    jobs.note(old.pk, "info", "an event is no job")
    assert jobs.forget(days=30) == 1
    assert set(Job.objects.values_list("pk", flat=True)) == {young.pk, run.pk}
