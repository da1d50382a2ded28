"""Exchange candles, fetched over HTTP from the simulated exchanges into a real database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from threading import Event
from typing import Any

import pytest
from django.db import DataError, transaction

from ingestion import candle_pages, exchange_candles
from ingestion.candle_pages import CandlePage
from ingestion.exchange_candles import (
    Ensured,
    PageError,
    Progress,
    UnavailableError,
    ensure_range,
)
from ingestion.registry import ADAPTERS
from market import coverage
from market.candles import epoch_ms, to_datetime
from market.coverage import INDEX, Series
from market.models import Coverage, ExchangeCandle
from market.ranges import TimeRange
from oracle.values import Candle
from tests.ingestion.simulated import recover, simulator, suffer

pytestmark = pytest.mark.django_db

MINUTE_MS, DAY_MS = 60_000, 86_400_000
NOW_MS = time.time_ns() // 1_000_000
# Long past, so that nothing about it changes: a whole number of days ago.
END_MS = NOW_MS // DAY_MS * DAY_MS - 7 * DAY_MS
QUOTE = dict.fromkeys(ADAPTERS, "USDT") | {"upbit": "KRW", "coinbase": "USD", "kraken": "USD"}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with simulator() as url:
        yield url


@pytest.fixture
def simulated(server: str, settings: Any) -> Iterator[str]:
    settings.SIMULATOR_URL = server
    settings.HTTP_TOTAL_TIMEOUT_MS = 5_000
    yield server
    recover(server)


def ensure(
    exchange: str = "binance",
    symbol: str = "BTC/USDT",
    timeframe: str = "1m",
    *,
    start_ms: int = END_MS - 1_500 * MINUTE_MS,
    end_ms: int = END_MS,
    **options: Any,
) -> Ensured:
    return ensure_range(
        exchange, symbol, timeframe, start_ms=start_ms, end_ms=end_ms, now_ms=NOW_MS, **options
    )


def rows(exchange: str = "binance") -> list[tuple[object, ...]]:
    found = ExchangeCandle.objects.filter(exchange=exchange).order_by("symbol", "timeframe", "time")
    return list(
        found.values_list("symbol", "timeframe", "time", "open", "high", "low", "close", "volume")
    )


def covered(exchange: str = "binance") -> list[tuple[int, int]]:
    found = Coverage.objects.filter(exchange=exchange).order_by("start").values_list("start", "end")
    return [(epoch_ms(start), epoch_ms(end)) for start, end in found]


class Pages:
    """Stands in for an exchange: answers with these pages and notes what it was asked for."""

    def __init__(self, *pages: CandlePage) -> None:
        self.pages = pages
        self.asked: list[TimeRange] = []

    def __call__(self, listing: Any, *, whole: TimeRange, **_: Any) -> Iterator[CandlePage]:
        self.asked.append(whole)
        return iter(self.pages or (CandlePage(whole=whole),))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Pages:
    """An exchange where nobody ever trades."""
    pages = Pages()
    monkeypatch.setattr(candle_pages, "fetch", pages)
    return pages


# --- what is fetched ---


@pytest.mark.parametrize("name", [name for name in ADAPTERS if name != "kraken"])
def test_range_of_an_exchange_is_stored_and_covered(simulated: str, name: str) -> None:
    start_ms = END_MS - 400 * MINUTE_MS
    done = ensure(name, f"BTC/{QUOTE[name]}", start_ms=start_ms)
    stored = rows(name)
    assert done == Ensured(
        whole=TimeRange(start_ms=start_ms, end_ms=END_MS), written_count=len(stored)
    )
    assert 0 < len(stored) <= 400
    assert covered(name) == [(start_ms, END_MS)]


def test_second_call_asks_for_nothing(simulated: str) -> None:
    ensure()
    suffer(simulated, "binance", "error")
    assert ensure().written_count == 0


def test_timeframe_in_another_spelling_is_the_same_series(simulated: str) -> None:
    first = ensure(timeframe="60m", start_ms=END_MS - DAY_MS)
    assert first.written_count == 24
    assert ensure(timeframe="1hour", start_ms=END_MS - DAY_MS).written_count == 0
    assert {row[1] for row in rows()} == {"1h"}


def test_only_holes_are_asked_for(asked: Pages) -> None:
    series = Series(exchange="binance", symbol="BTC/USDT", timeframe="1m")
    for start, end in ((10, 20), (30, 40)):
        part = TimeRange(start_ms=start * MINUTE_MS, end_ms=end * MINUTE_MS)
        coverage.mark(series, part)
    ensure(start_ms=0, end_ms=50 * MINUTE_MS)
    assert [(each.start_ms // MINUTE_MS, each.end_ms // MINUTE_MS) for each in asked.asked] == [
        (0, 10),
        (20, 30),
        (40, 50),
    ]
    assert covered() == [(0, 50 * MINUTE_MS)]


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "expected"),
    [
        # What opens in the range: 23:59:30 begins after the candle of 23:59.
        (END_MS - 30_000, END_MS + 30_000, (END_MS, END_MS + MINUTE_MS)),
        # The newest candles are left until they are settled.
        (NOW_MS - 5 * MINUTE_MS, NOW_MS, None),
        (NOW_MS + MINUTE_MS, NOW_MS + DAY_MS, ()),
    ],
)
def test_range_is_of_whole_settled_candles(
    asked: Pages, start_ms: int, end_ms: int, expected: tuple[int, int] | tuple[()] | None
) -> None:
    done = ensure(start_ms=start_ms, end_ms=end_ms)
    if expected is None:
        newest_ms = (NOW_MS - exchange_candles.SETTLE_MS) // MINUTE_MS * MINUTE_MS
        expected = (-(-start_ms // MINUTE_MS) * MINUTE_MS, newest_ms)
    assert covered() == ([expected] if expected else [])
    assert (done.whole is None) == (not expected)


def test_index_is_our_own_and_fetched_from_nowhere(asked: Pages) -> None:
    done = ensure(INDEX)
    assert done == Ensured(whole=TimeRange(start_ms=END_MS - 1_500 * MINUTE_MS, end_ms=END_MS))
    assert (asked.asked, covered(INDEX)) == ([], [])


# --- what is not ---


def test_failed_page_is_an_error_with_its_range_and_covers_nothing(simulated: str) -> None:
    suffer(simulated, "binance", "garbage")
    with pytest.raises(PageError) as caught:
        ensure(start_ms=END_MS - 5 * MINUTE_MS)
    start = to_datetime(END_MS - 5 * MINUTE_MS)
    assert f"binance BTC/USDT 1m [{start:%Y-%m-%dT%H:%MZ}, " in str(caught.value)
    assert (rows(), covered()) == ([], [])


def test_refused_symbol_is_not_worth_another_try(simulated: str) -> None:
    with pytest.raises(PageError, match="UNKNOWN_SYMBOL") as caught:
        ensure(symbol="ZZZ/QQQ", start_ms=END_MS - 5 * MINUTE_MS)
    assert not caught.value.retryable


def test_failed_page_keeps_those_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (
        TimeRange(start_ms=END_MS + n * MINUTE_MS, end_ms=END_MS + (n + 1) * MINUTE_MS)
        for n in range(3)
    )
    failing = Pages(
        CandlePage(whole=first), CandlePage(whole=second, error="no"), CandlePage(whole=third)
    )
    monkeypatch.setattr(candle_pages, "fetch", failing)
    with pytest.raises(PageError) as caught:
        ensure(start_ms=END_MS, end_ms=END_MS + 3 * MINUTE_MS)
    assert (caught.value.whole, caught.value.retryable) == (second, True)
    assert covered() == [(first.start_ms, first.end_ms)]


def test_page_and_its_coverage_are_one_transaction(
    simulated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(coverage, "mark", broken)
    with pytest.raises(RuntimeError, match="killed"):
        ensure()
    assert rows() == []


def test_what_the_exchange_no_longer_keeps_is_said_and_the_rest_stored(simulated: str) -> None:
    start_ms = NOW_MS // MINUTE_MS * MINUTE_MS - 1_000 * MINUTE_MS
    with pytest.raises(UnavailableError) as caught:
        ensure("kraken", "BTC/USD", start_ms=start_ms, end_ms=NOW_MS)
    first_ms = caught.value.first_available_ms
    assert start_ms + 270 * MINUTE_MS < first_ms < start_ms + 290 * MINUTE_MS
    assert f"opens at {to_datetime(first_ms):%Y-%m-%dT%H:%MZ}" in str(caught.value)
    assert covered("kraken")[0][0] == first_ms
    assert len(rows("kraken")) > 650


def test_stop_ends_it_between_two_pages_and_a_later_call_goes_on(simulated: str) -> None:
    stop = Event()
    done = ensure(stop=stop, on_progress=lambda progress: stop.set())
    assert done.stopped
    assert covered() == [(END_MS - 1_500 * MINUTE_MS, END_MS - 500 * MINUTE_MS)]
    assert not ensure().stopped
    stopped = rows()
    ExchangeCandle.objects.all().delete()
    Coverage.objects.all().delete()
    ensure()
    assert rows() == stopped


def test_progress_is_told_after_each_page(simulated: str) -> None:
    told: list[Progress] = []
    done = ensure(on_progress=told.append)
    assert [(each.done_ms, each.total_ms) for each in told] == [
        (1_000 * MINUTE_MS, 1_500 * MINUTE_MS),
        (1_500 * MINUTE_MS, 1_500 * MINUTE_MS),
    ]
    assert told[-1].written_count == done.written_count


def test_store_writes_only_what_differs(simulated: str) -> None:
    ensure(start_ms=END_MS - 100 * MINUTE_MS)
    before = rows()
    Coverage.objects.all().delete()
    ExchangeCandle.objects.filter(time=to_datetime(END_MS - MINUTE_MS)).update(volume=1)
    assert ensure(start_ms=END_MS - 100 * MINUTE_MS).written_count == 1
    assert rows() == before


def test_store_that_the_database_refuses_fails_as_djangos_own_statements_do() -> None:
    whole = TimeRange(start_ms=END_MS, end_ms=END_MS + MINUTE_MS)
    prices: Any = dict.fromkeys(("open", "high", "low", "close"), Decimal(1))
    candle = Candle(open_ms=END_MS, volume=Decimal("1e25"), **prices)
    series = Series(exchange="okx", symbol="BTC/USDT", timeframe="1m")
    with pytest.raises(DataError, match="overflow"), transaction.atomic():
        exchange_candles.store(series, whole, [candle])
    assert not Coverage.objects.exists()
