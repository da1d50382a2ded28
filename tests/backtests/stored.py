"""Candles in the database, and the order of a tune on them."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import uuid4

from django.db import connection

from backtests.engine.candles import Candles
from backtests.jobs import Claim
from backtests.work import Running
from market import aggregates
from market.candles import to_datetime
from tests.backtests.series import HOUR_MS, START_MS, walk

SYMBOL = "BTC/USDT"
START_S = START_MS // 1_000


def nobody() -> Running:
    """A job that nobody has, for what wants one to be told to stop."""
    held = Claim(
        job_id=uuid4(),
        parent_id=None,
        type="tune",
        workspace_id="default",
        payload={},
        attempt=1,
        max_attempts=1,
        locked_by="nobody",
    )
    return Running(claim=held)


def hours() -> str:
    """The table to change for other hours of the index.

    On TimescaleDB they are made of minutes, and one of them makes the hour that it is.
    """
    return "ohlcv_1m" if aggregates.in_use() else "ohlcv_1h"


def store(candles: Candles, *, symbol: str = SYMBOL, table: str | None = None) -> None:
    """Write them as candles of the index, hours unless another table is named."""
    table = table or hours()
    columns = "symbol, time, open, high, low, close, volume, source_count, sources, revision"
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
        for row in rows(candles):
            copy.write_row((symbol, *row, 2, ["binance", "kraken"], 0))


def rows(candles: Candles) -> Iterator[tuple[Any, ...]]:
    """Time and values, to the 18 decimals of the tables."""
    values = (candles.open, candles.high, candles.low, candles.close, candles.volume)
    for time_ms, *prices in zip(candles.time_ms.tolist(), *map(list, values), strict=True):
        yield to_datetime(time_ms), *(Decimal(repr(float(price))) for price in prices)


def trending(bars: int = 600, *, seed: int = 1) -> Candles:
    """Hourly bars on which a cross of averages earns."""
    return walk(bars, seed=seed, volatility=0.01, drift=0.001)


def tune_payload(bars: int = 600, **changes: Any) -> dict[str, Any]:
    """A small tune of the first ``bars`` hours."""
    payload = {
        "strategy_id": "sma_cross",
        "param_space": {"fast": [3, 5, 8], "slow": [15, 20, 30]},
        "gates": {"max_drawdown": 0.9, "min_trades": 1},
        "data_config": {
            "exchange": "index",
            "symbol": SYMBOL,
            "timeframe": "1h",
            "start_ts": START_S,
            "end_ts": START_S + bars * HOUR_MS // 1_000,
        },
    }
    return payload | changes
