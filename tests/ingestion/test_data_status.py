"""What history there is: counted, or estimated and said to be."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from ingestion import core_symbols, data_status
from ingestion.data_status import SeriesStatus
from market import coverage
from market.candles import epoch_ms, to_datetime
from market.coverage import Series
from market.models import ExchangeCandle
from market.ranges import TimeRange
from tests.factories import FIRST_CANDLE, Candle1mFactory

pytestmark = pytest.mark.django_db

HOUR_MS = 3_600_000
START_MS = epoch_ms(FIRST_CANDLE)
SERIES = Series(exchange="okx", symbol="BTC/USDT", timeframe="1h")


def span(start: int, end: int) -> TimeRange:
    return TimeRange(start_ms=START_MS + start * HOUR_MS, end_ms=START_MS + end * HOUR_MS)


def put(*hours: int) -> None:
    ExchangeCandle.objects.bulk_create(
        ExchangeCandle(
            exchange="okx",
            symbol="BTC/USDT",
            timeframe="1h",
            time=to_datetime(START_MS + hour * HOUR_MS),
            **dict.fromkeys(("open", "high", "low", "close", "volume"), Decimal(1)),
        )
        for hour in hours
    )


def status() -> list[SeriesStatus]:
    rows = core_symbols.add("okx", ["BTC/USDT"], timeframes=["1h"], added_by="me")
    return data_status.of_core_symbols(rows)[rows[0].pk]


def test_core_symbol_that_was_never_fetched() -> None:
    assert status() == [
        SeriesStatus(series=SERIES, whole=None, rows=0, exact=True, gaps=(), last=None)
    ]


def test_core_symbol_with_its_range_rows_and_gaps() -> None:
    for part in (span(0, 10), span(12, 20)):
        coverage.mark(SERIES, part)
    put(0, 1, 15)
    assert status() == [
        SeriesStatus(
            series=SERIES, whole=span(0, 20), rows=3, exact=True, gaps=(span(10, 12),), last=None
        )
    ]


def test_many_rows_are_estimated_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    coverage.mark(SERIES, span(0, 10))
    put(0, 1, 2)
    query = data_status._ROWS.replace(str(data_status.EXACT_ROWS + 1), "3")
    monkeypatch.setattr(data_status, "_ROWS", query)
    monkeypatch.setattr(data_status, "EXACT_ROWS", 2)
    [found] = status()
    assert (found.rows, found.exact) == (10, False)


def test_many_candles_of_the_index_are_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    for minute in (0, 1, 5):
        Candle1mFactory(time=FIRST_CANDLE + timedelta(minutes=minute))
    query = data_status._INDEX_ROWS.replace(str(data_status.EXACT_ROWS + 1), "3")
    monkeypatch.setattr(data_status, "_INDEX_ROWS", query)
    monkeypatch.setattr(data_status, "EXACT_ROWS", 2)
    [found] = data_status.of_index(["BTC/USDT"], now_ms=START_MS + HOUR_MS)
    assert (found.rows, found.exact) == (6, False)


def test_status_of_none() -> None:
    assert data_status.of_core_symbols([]) == {}
    assert data_status.of_index([], now_ms=START_MS) == []


def test_index_with_its_range_rows_and_gaps(settings: Any) -> None:
    for minute in (0, 1, 5):
        Candle1mFactory(time=FIRST_CANDLE + timedelta(minutes=minute))
    now_ms = START_MS + 24 * HOUR_MS
    btc, eth = data_status.of_index(["ETH/USDT", "BTC/USDT"], now_ms=now_ms)
    assert (btc.symbol, btc.rows, btc.exact) == ("BTC/USDT", 3, True)
    assert btc.whole == TimeRange(start_ms=START_MS, end_ms=START_MS + 6 * 60_000)
    assert [(gap.whole.start_ms - START_MS) // 60_000 for gap in btc.gaps] == [2, 6]
    assert (eth.symbol, eth.whole, eth.rows, eth.exact) == ("ETH/USDT", None, 0, True)
    assert [gap.whole.start_ms for gap in eth.gaps] == [START_MS]


def test_index_has_its_whole_range_but_gaps_of_the_last_day_only() -> None:
    for minute in (0, 5):
        Candle1mFactory(time=FIRST_CANDLE + timedelta(minutes=minute))
    day_ms = 24 * HOUR_MS
    [btc] = data_status.of_index(["BTC/USDT"], now_ms=START_MS + 3 * day_ms)
    assert (btc.rows, btc.whole) == (2, TimeRange(start_ms=START_MS, end_ms=START_MS + 6 * 60_000))
    assert [gap.whole.start_ms for gap in btc.gaps] == [START_MS + 2 * day_ms]
