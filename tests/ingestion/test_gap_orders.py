"""What is ordered for the gaps of the last day, in which order, and how often."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from ingestion import backfill, gap_orders
from ingestion.gap_orders import FIRST_BACKOFF, order_missing
from ingestion.models import Backfill
from market import coverage
from market.candles import epoch_ms, to_datetime
from market.coverage import Series
from market.models import Listing
from market.ranges import TimeRange
from tests.factories import Candle1mFactory, ExchangeFactory, ListingFactory, SymbolFactory

pytestmark = pytest.mark.django_db

MINUTE_MS = 60_000
NOW_MS = 1_700_000_040_000
SETTLED_MS = NOW_MS - 3 * MINUTE_MS


@pytest.fixture(autouse=True)
def _no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestion.backfill.current_app.send_task", lambda *_, **__: None)


@pytest.fixture(autouse=True)
def _told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gap_orders, "_told", set())


def listed(symbol: str, **fields: Any) -> None:
    row = SymbolFactory(name=symbol, **fields)
    ListingFactory(exchange=ExchangeFactory(name="okx"), symbol=row)


def names(rows: list[Backfill]) -> list[str]:
    return [row.symbol for row in rows]


def test_order_missing_rates_first_and_the_range_that_is_missing() -> None:
    listed("A/USDT")
    listed("USDT/KRW", is_rate=True)
    SymbolFactory(name="NOBODY/USDT")
    Candle1mFactory(symbol="A/USDT", time=to_datetime(SETTLED_MS - MINUTE_MS))
    rate, other = order_missing(now_ms=NOW_MS)
    assert (rate.symbol, other.symbol, other.created_by) == ("USDT/KRW", "A/USDT", "gaps")
    day_ago_ms = NOW_MS - 86_400_000
    assert (epoch_ms(rate.start), epoch_ms(rate.end)) == (day_ago_ms, SETTLED_MS)
    assert (epoch_ms(other.start), epoch_ms(other.end)) == (day_ago_ms, SETTLED_MS - MINUTE_MS)


def test_order_missing_not_twice_while_one_is_live() -> None:
    listed("A/USDT")
    assert names(order_missing(now_ms=NOW_MS)) == ["A/USDT"]
    assert order_missing(now_ms=NOW_MS) == []
    assert not gap_orders.all_done()


def test_order_missing_does_not_wait_for_a_long_one_that_only_waits() -> None:
    listed("A/USDT")
    (row,) = backfill.note(
        "A/USDT",
        start_ms=NOW_MS - 10 * 86_400_000,
        end_ms=SETTLED_MS,
        overwrite=False,
        created_by="somebody",
        now_ms=NOW_MS,
    )
    assert names(order_missing(now_ms=NOW_MS)) == ["A/USDT"]
    Backfill.objects.filter(created_by="gaps").delete()
    Backfill.objects.filter(pk=row.pk).update(status=Backfill.RUNNING)
    assert order_missing(now_ms=NOW_MS) == []


def test_order_missing_empty_minutes_are_not_asked_for() -> None:
    listed("A/USDT")
    series = Series(exchange="index", symbol="A/USDT", timeframe="1m")
    coverage.mark(series, TimeRange(start_ms=NOW_MS - 90_000_000, end_ms=NOW_MS))
    assert order_missing(now_ms=NOW_MS) == []


def test_order_missing_failed_ones_rest_twice_as_long_each_time() -> None:
    listed("A/USDT")
    order_missing(now_ms=NOW_MS)
    at = to_datetime(NOW_MS)
    Backfill.objects.update(status="failed", finished_at=at)
    step_ms = round(FIRST_BACKOFF / timedelta(milliseconds=1))
    assert order_missing(now_ms=NOW_MS + step_ms - 1) == []
    assert names(order_missing(now_ms=NOW_MS + step_ms)) == ["A/USDT"]
    Backfill.objects.filter(status="pending").update(
        status="failed", finished_at=to_datetime(NOW_MS + step_ms)
    )
    assert order_missing(now_ms=NOW_MS + 3 * step_ms - 1) == []
    assert names(order_missing(now_ms=NOW_MS + 3 * step_ms)) == ["A/USDT"]


def test_order_missing_who_misses_most_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    # Those filled first miss a minute again while others still miss the day.
    monkeypatch.setattr(gap_orders, "MAX_LIVE", 1)
    for symbol in ("A/USDT", "B/USDT"):
        listed(symbol)
    series = Series(exchange="index", symbol="A/USDT", timeframe="1m")
    day = TimeRange(start_ms=NOW_MS - 90_000_000, end_ms=SETTLED_MS - MINUTE_MS)
    coverage.mark(series, day)
    assert names(order_missing(now_ms=NOW_MS)) == ["B/USDT"]


def test_order_missing_warns_once_of_a_symbol_that_cannot_be_ordered() -> None:
    listed("A/USDT")
    ListingFactory(
        exchange=ExchangeFactory(name="upbit"), symbol=SymbolFactory(name="B/USDT"), quote="KRW"
    )
    with capture_logs() as logs:
        assert names(order_missing(now_ms=NOW_MS)) == ["A/USDT"]
        assert order_missing(now_ms=NOW_MS) == []
    warned = {
        "event": "gaps.not_ordered",
        "log_level": "warning",
        "symbol": "B/USDT",
        "error": "no enabled exchange lists B/USDT at a price we can convert",
    }
    assert [entry for entry in logs if entry["log_level"] != "info"] == [warned]
    won = Listing.objects.filter(exchange__name="upbit")
    won.update(quote="USDT")
    assert names(order_missing(now_ms=NOW_MS)) == ["B/USDT"]
    Backfill.objects.filter(symbol="B/USDT").delete()
    won.update(quote="KRW")
    with capture_logs() as logs:  # it could be ordered meanwhile: this is news
        order_missing(now_ms=NOW_MS)
    assert logs == [warned]


def test_retry_failed_tries_again_what_is_stored_in_part_after_a_rest() -> None:
    listed("A/USDT")
    (row,) = order_missing(now_ms=NOW_MS)
    over = {"status": "failed", "started_at": to_datetime(NOW_MS), "attempt": 1}
    step_ms = round(FIRST_BACKOFF / timedelta(milliseconds=1))
    for attempt, rest_ms in ((1, step_ms), (2, 2 * step_ms)):
        Backfill.objects.update(
            **over | {"attempt": attempt}, finished_at=to_datetime(NOW_MS), candles_written=5
        )
        assert gap_orders.retry_failed(now_ms=NOW_MS + rest_ms - 1) == []
        assert gap_orders.retry_failed(now_ms=NOW_MS + rest_ms) == [row]
        row.refresh_from_db()
        assert (row.status, row.attempt) == ("pending", attempt + 1)
    Backfill.objects.update(**over, finished_at=to_datetime(NOW_MS), candles_written=5)
    assert gap_orders.retry_failed(now_ms=NOW_MS + 2 * 86_400_000) == []


def test_retry_failed_leaves_alone_what_people_ordered_or_canceled() -> None:
    listed("A/USDT")
    order_missing(now_ms=NOW_MS)
    Backfill.objects.update(status="canceled", finished_at=to_datetime(NOW_MS), candles_written=5)
    assert gap_orders.retry_failed(now_ms=NOW_MS + 3_600_000) == []
    Backfill.objects.update(status="failed", created_by="admin")
    assert gap_orders.retry_failed(now_ms=NOW_MS + 3_600_000) == []


def test_order_missing_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gap_orders, "MAX_LIVE", 2)
    for symbol in ("A/USDT", "B/USDT", "C/USDT"):
        listed(symbol)
    assert names(order_missing(now_ms=NOW_MS)) == ["A/USDT", "B/USDT"]
    assert order_missing(now_ms=NOW_MS) == []
    Backfill.objects.filter(symbol="A/USDT").update(
        status="failed", finished_at=to_datetime(NOW_MS)
    )
    assert names(order_missing(now_ms=NOW_MS)) == ["C/USDT"]
