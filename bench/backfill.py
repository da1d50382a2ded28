"""Backfilling 1m candles of one symbol from a simulated exchange, over HTTP, into the table.

Floor: a bare COPY of the same rows, as text that is ready, into a table of the same columns, checks
and index; and the time that the exchange's budget imposes on who only asks for leave for as many
calls: where a window of 60 s lets 600 of them through, 1,000 take one window and no longer, however
fast the client. Without the budget, and rolling up what was written, are measured apart.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from unittest.mock import patch

from django.conf import settings
from django.db import connection

from bench.figures import Figure
from bench.processes import running
from ingestion import backfill, backfill_run, budget
from ingestion.adapter import Budget
from ingestion.exchanges import binance
from market import rollups
from market.models import Candle1m, Coverage, Exchange, Listing, Symbol
from oracle.candle_book import MINUTE_MS
from oracle.connection import redis_client

SYMBOL = "BTC/USDT"
COPIES = 3  # of which the middle one counts
WITHOUT_END = {"weight": Budget(units=10**9, window_ms=60_000)}


def measure(candle_count: int, *, fewer: int) -> list[Figure]:
    """Seconds of ``candle_count`` candles; and what memory they take beside ``fewer`` of them."""
    with simulated():
        _run(10_000)  # connections, imports, the simulator's first steps
        _forget_budget()
        seconds, large, refresh = _run(candle_count)
        copy = median(_bare_copy(candle_count) for _ in range(COPIES))
        imposed = _bare_budget(candle_count)
        with patch.object(binance, "BUDGETS", WITHOUT_END):
            free, small, _ = _run(fewer)
    return [
        Figure(
            name="backfill_1m",
            value=seconds,
            unit="s",
            floor=copy + imposed,
            floor_is=f"bare COPY of the same {candle_count:,} rows, {copy:.2f} s, "
            f"and {imposed:.2f} s that the budget imposes",
            limit=3 * copy + imposed,
        ),
        Figure(
            name="backfill_beside_budget",
            value=seconds - imposed,
            unit="s",
            floor=copy,
            floor_is="bare COPY; the same run less what the budget imposes",
            max_ratio=3,
        ),
        Figure(
            name="backfill_unbudgeted",
            value=free * 1_000_000 / fewer,
            unit="us",  # of a candle
            floor=copy * 1_000_000 / candle_count,
            floor_is="bare COPY; a candle, asked for without any budget",
        ),
        Figure(
            name="backfill_memory",
            value=large,
            unit="MB",
            floor=max(small, 1.0),
            floor_is=f"growth of the peak with {fewer:,} candles (at least 1)",
            limit=50,
        ),
        Figure(name="backfill_rollups", value=refresh, unit="s"),
    ]


def _forget_budget() -> None:
    client = redis_client()
    for key in client.scan_iter("*budget*"):
        client.delete(key)


def _bare_budget(candle_count: int) -> float:
    """Seconds until the last of so many calls may be sent, when that is all one waits for."""
    _forget_budget()
    started = time.perf_counter()
    request = binance.candles_request(
        "BTCUSDT", resolution_ms=MINUTE_MS, from_ms=0, to_ms=MINUTE_MS, now_ms=0
    )
    for _ in range(-(-candle_count // binance.MAX_CANDLES_PER_CALL)):
        while wait := budget.spend_spare(binance, request, now_ms=time.time_ns() // 1_000_000):
            time.sleep(wait.wait_ms / 1_000)
    _forget_budget()
    return time.perf_counter() - started


@contextmanager
def simulated() -> Iterator[None]:
    """One symbol, listed on one simulated exchange."""
    with running("-m", "ingestion.simulator", "--port", "0", reads="stdout") as process:
        if process.stdout is None:
            raise RuntimeError("the simulator cannot be read")
        settings.SIMULATOR_URL = process.stdout.readline().split()[-1]
        symbol = Symbol.objects.create(name=SYMBOL, base="BTC", quote="USDT", min_sources=1)
        exchange = Exchange.objects.create(name=binance.NAME, title="Binance")
        Listing.objects.create(
            exchange=exchange, symbol=symbol, exchange_symbol="BTCUSDT", quote="USDT"
        )
        yield
    settings.SIMULATOR_URL = ""


def _run(candle_count: int) -> tuple[float, float, float]:
    """Seconds of the backfill, MB by which its peak was above its start, seconds of the rollups."""
    Candle1m.objects.all().delete()
    Coverage.objects.all().delete()
    now_ms = time.time_ns() // 1_000_000
    end_ms = now_ms // MINUTE_MS * MINUTE_MS - MINUTE_MS
    before = _reset_peak()
    (order,) = backfill.note(
        SYMBOL,
        start_ms=end_ms - candle_count * MINUTE_MS,
        end_ms=end_ms,
        overwrite=False,
        created_by="bench",
        now_ms=now_ms,
    )
    with patch.object(rollups, "refresh_due", lambda **_: 0):
        started = time.perf_counter()
        status = backfill_run.run(order.pk, now_ms=now_ms, seconds=float("inf"))
        seconds = time.perf_counter() - started
    grown = _peak() - before
    order.refresh_from_db()
    if status != "succeeded" or order.candles_written != candle_count:
        raise RuntimeError(f"{status}: {order.candles_written} candles, errors {order.errors[:3]}")
    started = time.perf_counter()
    rollups.refresh_due(now_ms=now_ms)
    return seconds, grown, time.perf_counter() - started


def _bare_copy(candle_count: int) -> float:
    """Seconds to copy the stored rows into an empty table of the same kind."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bare (LIKE ohlcv_1m INCLUDING ALL)")
        with cursor.copy("COPY ohlcv_1m TO STDOUT") as copy:
            rows = b"".join(bytes(block) for block in copy)
        started = time.perf_counter()
        with cursor.copy("COPY bare FROM STDIN") as copy:
            copy.write(rows)
        seconds = time.perf_counter() - started
        cursor.execute("SELECT count(*) FROM bare")
        (copied,) = cursor.fetchone()
        cursor.execute("DROP TABLE bare")
    if copied != candle_count:
        raise RuntimeError(f"the floor has {copied} rows")
    return seconds


def _reset_peak() -> float:
    """Forget how large this process ever was; its size now, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this machine does not say how large a process is")
