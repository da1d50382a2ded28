"""Flushing candles: read from Redis, write to the database, forget.

Floor: a bare COPY and upsert of the same rows, in one transaction.
"""

from __future__ import annotations

import statistics
import time
from decimal import Decimal

from django.db import connection, transaction

from bench.figures import Figure
from market import candles, flush
from oracle import candle_book, price_board
from oracle.candle_book import OpenCandle
from oracle.values import Price, Source

START_MS = 1_800_000_000_000 - 1_800_000_000_000 % 60_000
COLUMNS = "symbol, time, open, high, low, close, source_count, sources, revision"


def measure(candle_count: int, *, rounds: int) -> list[Figure]:
    """The median of a flush of ``candle_count`` candles."""
    taken, bare = [], []
    for number in range(rounds + 2):
        minute_ms = START_MS + number * 120_000
        _fill(candle_count, minute_ms)
        now_ms = minute_ms + 65_000
        rows = candle_book.due(now_ms=now_ms, grace_ms=0, limit=candle_count + 1)
        started = time.perf_counter()
        done = flush.flush_candles(now_ms=now_ms, token=f"{now_ms:016d}")
        middle = time.perf_counter()
        if done.created != candle_count:
            raise RuntimeError(f"flushed {done.created} of {candle_count} candles")
        floor = _bare_upsert(rows, minute_ms + 60_000)
        if number >= 2:
            taken.append((middle - started) * 1_000)
            bare.append(floor * 1_000)
    return [
        Figure(
            name=f"flush_{candle_count}",
            value=statistics.median(taken),
            unit="ms",
            floor=statistics.median(bare),
            floor_is=f"bare COPY + upsert of the same rows, median of {rounds}",
            max_ratio=3,
        )
    ]


def _fill(candle_count: int, minute_ms: int) -> None:
    sources = tuple(
        Source(
            exchange=name,
            exchange_symbol="X",
            price=None,
            native_price=None,
            weight=None,
            volume=None,
            as_of_ms=minute_ms,
            kept=True,
        )
        for name in ("binance", "bybit", "kraken", "kucoin", "okx")
    )
    zero = Decimal(0)
    prices = [
        Price(
            symbol=f"C{number}/USDT",
            price=Decimal(f"{number + 1}.12345678"),
            method="vwap",
            status="fresh",
            timestamp_ms=minute_ms,
            as_of_ms=minute_ms,
            confidence=zero,
            spread_bps=zero,
            stdev=zero,
            variance=zero,
            source_count=5,
            outliers_removed=0,
            sources=sources,
        )
        for number in range(candle_count)
    ]
    price_board.publish(prices, now_ms=minute_ms, token=f"{minute_ms:016d}")


def _bare_upsert(rows: list[OpenCandle], minute_ms: int) -> float:
    """Seconds to write rows of another minute straight to the table."""
    time_ = candles.to_datetime(minute_ms)
    tuples = [
        (r.symbol, time_, r.open, r.high, r.low, r.close, len(r.sources), list(r.sources), 0)
        for r in rows
    ]
    started = time.perf_counter()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMPORARY TABLE bare (LIKE ohlcv_1m INCLUDING DEFAULTS) ON COMMIT DROP"
        )
        with cursor.copy(f"COPY bare ({COLUMNS}) FROM STDIN") as copy:
            for row in tuples:
                copy.write_row(row)
        cursor.execute(
            f"INSERT INTO ohlcv_1m ({COLUMNS}) SELECT {COLUMNS} FROM bare "
            "ON CONFLICT (symbol, time) DO UPDATE SET open = EXCLUDED.open, "
            "high = EXCLUDED.high, low = EXCLUDED.low, close = EXCLUDED.close, "
            "source_count = EXCLUDED.source_count, sources = EXCLUDED.sources"
        )
    return time.perf_counter() - started
