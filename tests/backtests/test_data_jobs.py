"""Core symbols' candles, by way of the queue."""

from __future__ import annotations

from typing import Any

import pytest

from backtests import data_jobs, job_orders, jobs, tasks, work
from backtests.handlers import HANDLERS
from backtests.job_orders import Order
from backtests.models import Job, JobEvent, JobType, Status
from ingestion import candle_pages, core_symbols
from ingestion.candle_pages import CandlePage
from market.models import Coverage
from market.ranges import TimeRange
from tests.backtests.stored import tune_payload

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("artifacts_dir"),
]

RANGE = {
    "exchange": "okx",
    "symbol": "BTC/USDT",
    "timeframe": "1h",
    "start_ts": "2026-01-01",
    "end_ts": "2026-01-02",
}


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the next page that is asked for comes as."""
    page: dict[str, Any] = {}

    def fetch(listing: Any, *, whole: TimeRange, **_: Any) -> Any:
        yield CandlePage(whole=whole, **page)

    monkeypatch.setattr(candle_pages, "fetch", fetch)
    return page


def fetch(**changes: Any) -> Job:
    job, _ = job_orders.enqueue(Order(type="data_fetch", payload=RANGE | changes))
    work.work(HANDLERS, seconds=60)
    job.refresh_from_db()
    return job


def test_sync_orders_a_fetch_of_each_series_that_is_due():
    core_symbols.add("okx", ["BTC/USDT"], timeframes=["1m", "5m", "1h"], added_by="me")
    job, _ = data_jobs.order_sync("hourly")
    held = jobs.claim("worker")
    assert held is not None and held.job_id == job.pk
    work.do(held, HANDLERS)
    job.refresh_from_db()
    assert (job.status, job.result) == (
        Status.SUCCEEDED,
        {"ordered": 2, "already_ordered": 0},
    )
    found = Job.objects.filter(type=JobType.DATA_FETCH).order_by("created_at")
    assert [(row.payload["timeframe"], row.priority) for row in found] == [("1m", 200), ("5m", 200)]


def test_sync_orders_no_second_fetch_of_a_series_that_waits():
    core_symbols.add("okx", ["BTC/USDT"], timeframes=["1m"], added_by="me")
    for _ in range(2):
        job, _created = data_jobs.order_sync("hourly")
        held = jobs.claim("worker", tree=job.pk)
        assert held is not None
        work.do(held, HANDLERS)
    job.refresh_from_db()
    assert job.result == {"ordered": 0, "already_ordered": 1}
    assert Job.objects.filter(type=JobType.DATA_FETCH).count() == 1


def test_sync_task_twice_is_one_job():
    tasks.sync_data("hourly")
    tasks.sync_data("hourly")
    tasks.sync_data("hourly", "okx")
    assert Job.objects.filter(type=JobType.DATA_SYNC).count() == 2


def test_sync_of_an_unknown_schedule_fails_with_its_reason():
    tasks.sync_data("weekly")
    work.work(HANDLERS, seconds=60)
    job = Job.objects.get()
    assert (job.status, job.error) == (
        Status.FAILED,
        "bad payload: which: must be one of hourly, daily, got 'weekly'",
    )


def test_fetch_covers_its_range(pages: dict[str, Any]):
    job = fetch()
    assert (job.status, job.result) == (
        Status.SUCCEEDED,
        {"outcome": "done", "written_count": 0},
    )
    assert job.progress == {"minutes_done": 1_440, "minutes_total": 1_440}
    assert Coverage.objects.count() == 1


def test_fetch_failed_page_is_tried_again(pages: dict[str, Any]):
    pages["error"] = "the exchange is down"
    job = fetch()
    assert (job.status, job.error.endswith("the exchange is down")) == (Status.PENDING, True)


@pytest.mark.parametrize("type_", ["data_fetch", "tune"])
def test_refused_symbol_fails_at_once(type_: str, pages: dict[str, Any]):
    pages |= {"error": "FOOBAR on okx: UNKNOWN_SYMBOL: no such pair", "retryable": False}
    payload = RANGE if type_ == "data_fetch" else tune_payload(data_config=RANGE)
    job, _ = job_orders.enqueue(Order(type=type_, payload=payload))
    work.work(HANDLERS, seconds=60)
    job.refresh_from_db()
    assert (job.status, job.attempt) == (Status.FAILED, 1)
    assert job.error.endswith("FOOBAR on okx: UNKNOWN_SYMBOL: no such pair")


def test_fetch_of_what_is_kept_no_longer_says_so(pages: dict[str, Any]):
    pages["unavailable"] = True
    job = fetch()
    assert (job.status, (job.result or {})["outcome"]) == (Status.SUCCEEDED, "unavailable")
    assert JobEvent.objects.filter(job=job, level="warn", message__contains="so old").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"exchange": "nasdaq"}, "bad payload: exchange: unknown exchange 'nasdaq'"),
        ({"exchange": "index"}, "bad payload: exchange: of our own index there is nothing"),
        ({"end_ts": "2026-01-01"}, "bad payload: start_ts: must be before end_ts"),
    ],
)
def test_fetch_bad_payload_fails_with_its_reason(changes: dict[str, Any], says: str):
    job = fetch(**changes)
    assert (job.status, job.error.startswith(says)) == (Status.FAILED, True), job.error
