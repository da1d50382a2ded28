"""Candles for backtests: random walks of several characters, and small ones written by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from backtests.engine.candles import Candles

START_MS = 1_700_006_400_000
HOUR_MS = 3_600_000


def walk(
    bars: int,
    *,
    seed: int,
    volatility: float = 0.02,
    drift: float = 0.0,
    price: float = 100.0,
    gap: float = 0.0,
    first_bar: int = 0,
) -> Candles:
    """A geometric walk of hourly bars; every fifth or so opens ``gap`` away from the close."""
    random = np.random.default_rng(seed)
    close = price * np.exp(np.cumsum(random.normal(drift, volatility, bars)))
    jumps = random.normal(0, gap, bars) * (random.random(bars) < 0.2)
    opened = np.r_[price, close[:-1]] * np.exp(jumps)
    wick = np.exp(np.abs(random.normal(0, volatility / 3, (2, bars))))
    return Candles(
        time_ms=START_MS + HOUR_MS * np.arange(bars),
        open=opened,
        high=np.maximum(opened, close) * wick[0],
        low=np.minimum(opened, close) / wick[1],
        close=close,
        volume=random.random(bars),
        first_bar=first_bar,
    )


def bars(*rows: Sequence[float]) -> Candles:
    """Hourly bars of (open, high, low, close)."""
    columns = np.array(rows, np.float64).T
    return Candles(
        time_ms=START_MS + HOUR_MS * np.arange(len(rows)),
        open=columns[0],
        high=columns[1],
        low=columns[2],
        close=columns[3],
        volume=np.ones(len(rows)),
    )


SERIES = {
    "trending": walk(1_000, seed=1, volatility=0.01, drift=0.001),
    "choppy": walk(1_000, seed=2, volatility=0.03),
    "tiny prices": walk(1_000, seed=3, price=1e-6),
    "gaps": walk(1_000, seed=4, gap=0.1, price=60_000.0),
    "wild": walk(1_000, seed=7, volatility=0.2, gap=0.3),  # accounts go bust on it
}
