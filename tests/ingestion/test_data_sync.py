"""What is due of core symbols, and how a slice of it went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from threading import Event
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError
from structlog.testing import capture_logs

from ingestion import candle_pages, core_symbols, data_sync, exchange_candles
from ingestion.candle_pages import CandlePage
from ingestion.data_sync import Fetched, Last, Order
from market.coverage import Series
from market.models import Coverage
from market.ranges import TimeRange
from oracle import metrics

pytestmark = pytest.mark.django_db

NOW_MS = 1_795_000_020_000
DAY_MS = 86_400_000
SERIES = Series(exchange="okx", symbol="BTC/USDT", timeframe="1h")
ORDER = Order(series=SERIES, start_ms=NOW_MS - DAY_MS, end_ms=NOW_MS)


def answer(monkeypatch: pytest.MonkeyPatch, **page: Any) -> None:
    def fetch(listing: Any, *, whole: TimeRange, stop: Event, **_: Any) -> Iterator[CandlePage]:
        middle = (whole.start_ms + whole.end_ms) // 2
        yield CandlePage(whole=TimeRange(start_ms=whole.start_ms, end_ms=middle))
        yield CandlePage(whole=TimeRange(start_ms=middle, end_ms=whole.end_ms), **page)

    monkeypatch.setattr(candle_pages, "fetch", fetch)


def fetch(*, now_ms: int = NOW_MS, stop: Event | None = None) -> data_sync.Outcome:
    return data_sync.fetch(ORDER, now_ms=now_ms, stop=stop or Event()).outcome


def last() -> Last:
    return data_sync.last([SERIES])[SERIES]


def test_orders_are_of_each_core_symbol_and_timeframe_that_is_due() -> None:
    core_symbols.add("okx", ["BTC/USDT"], timeframes=["1m", "1h", "4h"], added_by="me")
    core_symbols.add("kraken", ["BTC/USD"], timeframes=["5m"], added_by="me")
    core_symbols.add("kraken", ["ETH/USD"], added_by="me")
    core_symbols.change("disable", "kraken", ["ETH/USD"])
    assert [
        (*astuple(order.series), (order.end_ms - order.start_ms) // DAY_MS)
        for which in data_sync.SCHEDULES
        for order in data_sync.orders(which, now_ms=NOW_MS)
    ] == [
        ("kraken", "BTC/USD", "5m", 3),
        ("okx", "BTC/USDT", "1m", 3),
        ("okx", "BTC/USDT", "1h", 14),
        ("okx", "BTC/USDT", "4h", 14),
    ]
    [one] = data_sync.orders("hourly", now_ms=NOW_MS, exchange="kraken")
    assert one.series.exchange == "kraken"


def test_fetch_that_went_well_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch)
    before = metrics.DATA_FETCHES.labels("done")._value.get()
    assert fetch() == "done"
    assert last() == Last(at_ms=NOW_MS, outcome="done", done_ms=NOW_MS)
    assert metrics.DATA_FETCHES.labels("done")._value.get() == before + 1


def test_fetch_that_failed_keeps_when_it_last_went_well(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch)
    fetch()
    Coverage.objects.all().delete()
    answer(monkeypatch, error="no")
    assert fetch(now_ms=NOW_MS + 5) == "failed"
    found = last()
    assert (found.at_ms, found.outcome, found.done_ms) == (NOW_MS + 5, "failed", NOW_MS)
    assert str(found.error).endswith(": no")


def test_fetch_of_what_the_exchange_no_longer_keeps_is_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer(monkeypatch, unavailable=True)
    assert fetch() == "unavailable"
    assert (last().done_ms, "keeps none so old" in str(last().error)) == (NOW_MS, True)


def test_fetch_that_is_stopped_goes_on_later(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch)
    stop = Event()
    stop.set()
    assert fetch(stop=stop) == "stopped"
    assert last().done_ms is None
    assert fetch() == "done"
    assert last().done_ms == NOW_MS


@pytest.mark.parametrize("page", [{}, {"error": "no"}])
def test_fetch_that_redis_cannot_note_went_as_it_went(
    monkeypatch: pytest.MonkeyPatch, settings: Any, page: dict[str, Any]
) -> None:
    answer(monkeypatch, **page)
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    with capture_logs() as logs:
        outcome = fetch()
    assert outcome == ("failed" if page else "done")
    [warned] = [entry for entry in logs if entry["event"] == "data_fetch.not_noted"]
    assert (warned["log_level"], warned["outcome"]) == ("warning", outcome)
    assert (warned["series"], "nowhere" in warned["error"]) == ("okx|BTC/USDT|1h", True)
    assert Coverage.objects.exists()


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (OperationalError("gone"), True),
        (InterfaceError("closed"), True),
        (ValueError("no such timeframe"), False),
    ],
)
def test_fetch_that_cannot_be_done_is_noted_and_tried_again_or_not(
    monkeypatch: pytest.MonkeyPatch, error: Exception, retryable: bool
) -> None:
    def ensure_range(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(exchange_candles, "ensure_range", ensure_range)
    found = data_sync.fetch(ORDER, now_ms=NOW_MS, stop=Event())
    assert found == Fetched(outcome="failed", error=str(error), retryable=retryable)
    assert last() == Last(at_ms=NOW_MS, outcome="failed", error=str(error))
