from decimal import Decimal

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from market import coverage, retention, tasks, timescale
from market.candles import to_datetime
from market.coverage import INDEX, Series
from market.models import Candle1m, Coverage, ExchangeCandle
from market.ranges import TimeRange
from market.retention import TimeTable
from prices.models import PriceHistory
from tests.market.rollup_rows import random_rows, store

pytestmark = pytest.mark.django_db

DAY = 86_400_000
START = 1_735_689_600_000  # 2025-01-01
NOW = START + 10 * DAY + 5_000_000
MINUTES = TimeTable(table="ohlcv_1m", keys=("symbol",), keep_days=9)


def fill(symbol, start_ms, count):
    rows = random_rows(1, symbols=(symbol,), start_ms=start_ms, minutes=count)
    store(rows)
    return len(rows)


def exchange_candle(timeframe, time_ms):
    ExchangeCandle.objects.create(
        exchange="okx",
        symbol="BTC/USDT",
        timeframe=timeframe,
        time=to_datetime(time_ms),
        **dict.fromkeys(("open", "high", "low", "close", "volume"), 1),
    )


@pytest.fixture
def tables():
    if timescale.is_hypertable("ohlcv_1m"):
        pytest.skip("hypertables lose whole chunks: tests/market/test_timescale.py")


def test_the_boundary_is_the_start_of_a_day():
    assert retention.boundary_ms(keep_days=9, now_ms=NOW) == START + DAY
    assert retention.boundary_ms(keep_days=0, now_ms=NOW) == 0


def test_what_is_past_its_time_is_removed_in_batches_of_every_symbol(tables, monkeypatch):
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 7)
    old = fill("BTC/USDT", START, 50) + fill("PEPE/USDT", START + DAY - 30 * 60_000, 30)
    new = fill("BTC/USDT", START + DAY, 20) + fill("A/B", START + 2 * DAY, 20)
    assert retention.prune(MINUTES, now_ms=NOW) == old
    assert Candle1m.objects.count() == new
    assert not Candle1m.objects.filter(time__lt=to_datetime(START + DAY)).exists()
    assert retention.prune(MINUTES, now_ms=NOW) == 0


def test_what_is_kept_for_ever_is_kept():
    fill("BTC/USDT", START, 50)
    forever = TimeTable(table="ohlcv_1m", keys=("symbol",), keep_days=0)
    assert retention.prune(forever, now_ms=NOW) == 0


def test_a_key_of_several_columns_is_walked_through(tables):
    for timeframe in ("1m", "1h", "1d"):
        exchange_candle(timeframe, START)
        exchange_candle(timeframe, START + 9 * DAY)
    rows = TimeTable(table="ohlcv_exchange", keys=("exchange", "symbol", "timeframe"), keep_days=5)
    assert retention.prune(rows, now_ms=NOW) == 3
    assert ExchangeCandle.objects.count() == 3


def test_the_task_removes_each_by_its_own_setting_and_uncovers_it(tables, settings, monkeypatch):
    monkeypatch.setattr("market.tasks.time.time_ns", lambda: NOW * 1_000_000)
    settings.RETENTION_DAYS, settings.PRICE_HISTORY_RETENTION_DAYS = 9, 3
    settings.EXCHANGE_RETENTION_DAYS = 0
    kept = fill("BTC/USDT", START + DAY, 20)
    fill("BTC/USDT", START, 20)
    exchange_candle("1m", START)
    for day in (0, 8):
        PriceHistory.objects.create(
            symbol="BTC/USDT",
            time=to_datetime(START + day * DAY),
            price=Decimal(1),
            method="vwap",
            sources=["okx"],
        )
    series = Series(exchange=INDEX, symbol="BTC/USDT", timeframe="1m")
    theirs = Series(exchange="okx", symbol="BTC/USDT", timeframe="1m")
    for each in (series, theirs):
        coverage.mark(each, TimeRange(start_ms=START, end_ms=START + 2 * DAY))
    tasks.prune_history()
    assert Candle1m.objects.count() == kept
    assert ExchangeCandle.objects.count() == 1
    assert [row.time for row in PriceHistory.objects.all()] == [to_datetime(START + 8 * DAY)]
    assert [(row.exchange, row.start) for row in Coverage.objects.order_by("exchange")] == [
        (INDEX, to_datetime(START + DAY)),
        ("okx", to_datetime(START)),
    ]


def test_coverage_that_is_all_older_is_gone():
    series = Series(exchange=INDEX, symbol="BTC/USDT", timeframe="1m")
    coverage.mark(series, TimeRange(start_ms=START, end_ms=START + DAY))
    coverage.forget_before(index=True, before_ms=START + DAY)
    assert not Coverage.objects.exists()


def test_candles_of_exchanges_that_are_removed_are_missing_again(tables, settings, monkeypatch):
    monkeypatch.setattr("market.tasks.time.time_ns", lambda: NOW * 1_000_000)
    settings.EXCHANGE_RETENTION_DAYS = 9
    exchange_candle("1m", START)
    theirs = Series(exchange="okx", symbol="BTC/USDT", timeframe="1m")
    whole = TimeRange(start_ms=START, end_ms=START + 2 * DAY)
    coverage.mark(theirs, whole)
    tasks.prune_history()
    assert not ExchangeCandle.objects.exists()
    assert coverage.missing(theirs, whole) == [TimeRange(start_ms=START, end_ms=START + DAY)]


def test_a_removal_that_dies_leaves_nothing_covered_that_may_be_gone(settings, monkeypatch):
    monkeypatch.setattr("market.tasks.time.time_ns", lambda: NOW * 1_000_000)
    settings.RETENTION_DAYS = 9
    series = Series(exchange=INDEX, symbol="BTC/USDT", timeframe="1m")
    coverage.mark(series, TimeRange(start_ms=START, end_ms=START + DAY))

    def die(*_, **__):
        raise OperationalError("canceling statement due to statement timeout")

    monkeypatch.setattr("market.tasks.timescale.prune", die)
    with pytest.raises(OperationalError):
        tasks.prune_history()
    assert not Coverage.objects.exists()


def test_removing_reads_the_primary_key(tables):
    """Each statement of it: looking for the next symbol, and removing its rows."""
    fill("BTC/USDT", START, 50)
    with CaptureQueriesContext(connection) as asked:
        retention.prune(MINUTES, now_ms=NOW)
    statements = {each["sql"] for each in asked}
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for statement in statements:
            cursor.execute(f"EXPLAIN {statement}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
            assert "using ohlcv_1m_pkey" in plan, plan
            assert "Seq Scan" not in plan
            assert "Sort" not in plan
    assert {statement.split()[0] for statement in statements} == {"SELECT", "DELETE"}
