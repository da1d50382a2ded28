from __future__ import annotations

import pytest
from django.db import connection

from market import coverage, gaps
from market.candles import to_datetime
from market.coverage import Series
from market.gaps import Gap, find
from market.ranges import TimeRange
from oracle import keys
from oracle.connection import redis_client
from tests.factories import Candle1mFactory

pytestmark = pytest.mark.django_db

MINUTE_MS = 60_000
START_MS = 1_700_000_040_000
NOW_MS = START_MS + 20 * MINUTE_MS
TO_MS = START_MS + 10 * MINUTE_MS


def stored(symbol: str, *minutes: int) -> None:
    for minute in minutes:
        Candle1mFactory(symbol=symbol, time=to_datetime(START_MS + minute * MINUTE_MS))


def between(first: int, last: int) -> TimeRange:
    return TimeRange(start_ms=START_MS + first * MINUTE_MS, end_ms=START_MS + last * MINUTE_MS)


def gap(symbol: str, first: int, last: int, *, empty: bool = False) -> Gap:
    return Gap(symbol=symbol, whole=between(first, last), empty=empty)


def found(*symbols: str, now_ms: int = NOW_MS) -> list[Gap]:
    return find(symbols, from_ms=START_MS, to_ms=TO_MS, now_ms=now_ms)


def test_find_ranges_at_start_middle_and_end() -> None:
    stored("A/USDT", 2, 3, 6, 7, 8)
    stored("B/USDT", *range(10))
    stored("D/USDT", -1, 10)
    assert found("A/USDT", "B/USDT", "C/USDT", "D/USDT") == [
        gap("A/USDT", 0, 2),
        gap("A/USDT", 4, 6),
        gap("A/USDT", 9, 10),
        gap("C/USDT", 0, 10),
        gap("D/USDT", 0, 10),
    ]


def test_find_covered_minutes_are_empty_not_missing() -> None:
    stored("A/USDT", 0, 1, 9)
    series = Series(exchange="index", symbol="A/USDT", timeframe="1m")
    coverage.mark(series, between(3, 5))
    coverage.mark(Series(exchange="okx", symbol="A/USDT", timeframe="1m"), between(0, 10))
    assert found("A/USDT") == [
        gap("A/USDT", 2, 3),
        gap("A/USDT", 3, 5, empty=True),
        gap("A/USDT", 5, 9),
    ]


def test_find_what_may_not_be_flushed_yet_is_no_gap() -> None:
    now_ms = START_MS + 6 * MINUTE_MS
    assert found("A/USDT", now_ms=now_ms) == [gap("A/USDT", 0, 3)]
    waiting_ms = START_MS + MINUTE_MS
    redis_client().zadd(keys.open_candles(), {f"B/USDT|{waiting_ms}": waiting_ms})
    assert found("A/USDT", now_ms=now_ms) == [gap("A/USDT", 0, 1)]


def test_find_nothing_to_look_at_is_nothing() -> None:
    assert found() == []
    assert find(["A/USDT"], from_ms=TO_MS, to_ms=TO_MS, now_ms=NOW_MS) == []


def test_find_walks_the_primary_key() -> None:
    stored("A/USDT", *range(10))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        bounds = {"from": to_datetime(START_MS), "to": to_datetime(TO_MS)}
        cursor.execute(f"EXPLAIN {gaps._HOLES}", {"symbols": ["A/USDT"], **bounds})
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "ohlcv_1m_pkey" in plan or "Index" in plan
    assert plan.count("Sort") <= 1 + plan.count("Sort Key")
