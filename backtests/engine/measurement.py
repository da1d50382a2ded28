"""The metrics of `backtests.stats`, compiled: the same definitions, in few passes.

They are not shared code on purpose: `backtests.stats` says what a metric is in the plainest numpy,
and a test holds the two against each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Times = NDArray[np.int64]

# The order of `measure`, by the names in `backtests.stats.Metrics`.
METRICS = (
    "return_ratio",
    "cagr_ratio",
    "sharpe",
    "sortino",
    "calmar",
    "max_drawdown_ratio",
    "max_drawdown_ms",
    "exposure_ratio",
    "win_ratio",
    "profit_factor",
    "trade_count",
    "expectancy_ratio",
)
ENTRY_BAR, EXIT_BAR, SIZE, ENTRY, EXIT, FEE, REASON = range(7)  # of simulation.py
END = 3


@njit(nogil=True)
def measure(
    equity: Floats,
    time_ms: Times,
    ledger: Floats,
    trades: int,
    timeframe_ms: float,
    year_ms: float,
    least_variance: float,
) -> Floats:
    """All metrics in the order of METRICS, NaN for one that has no value here."""
    out = np.full(12, np.nan)
    bars = len(equity)
    years = (time_ms[bars - 1] - time_ms[0] + timeframe_ms) / year_ms
    out[0] = equity[bars - 1] / equity[0] - 1
    out[1] = (equity[bars - 1] / equity[0]) ** (1 / years) - 1
    out[2], out[3] = _ratios(equity, year_ms / timeframe_ms, least_variance)
    out[5], out[6] = _drawdown(equity, time_ms)
    if out[5] > 0:
        out[4] = out[1] / out[5]
    out[7], out[8], out[9], out[11] = _trades(ledger, trades, bars)
    out[10] = trades
    return out


# Order of summation is all that is given up here; NaN and infinity keep their meaning.
@njit(nogil=True, fastmath={"reassoc"})
def _ratios(equity: Floats, bars_per_year: float, least_variance: float) -> tuple[float, float]:
    """Sharpe and Sortino of the bars' returns."""
    count = len(equity) - 1
    total, squares, downside = 0.0, 0.0, 0.0
    for i in range(1, len(equity)):
        before = equity[i - 1]
        change = equity[i] / before - 1 if before > 0 else 0.0
        total += change
        squares += change * change
        loss = min(change, 0.0)
        downside += loss * loss
    sharpe, sortino = np.nan, np.nan
    if count >= 2:
        mean = total / count
        variance = (squares - total * mean) / (count - 1)
        if variance > least_variance * squares / count:
            sharpe = mean / np.sqrt(variance) * np.sqrt(bars_per_year)
        if downside > 0:
            sortino = mean / np.sqrt(downside / count) * np.sqrt(bars_per_year)
    return sharpe, sortino


@njit(nogil=True)
def _drawdown(equity: Floats, time_ms: Times) -> tuple[float, float]:
    """The deepest fall from a peak, and the longest time until one was reached again."""
    peak, trough, peak_bar = equity[0], equity[0], 0
    deepest, longest = 0.0, 0
    for i in range(1, len(equity)):
        value = equity[i]
        if value >= peak:
            if trough < peak:
                deepest = max(deepest, 1 - trough / peak)
                longest = max(longest, time_ms[i] - time_ms[peak_bar])
            peak, trough, peak_bar = value, value, i
        else:
            trough = min(trough, value)
    if trough < peak:
        deepest = max(deepest, 1 - trough / peak)
        longest = max(longest, time_ms[len(equity) - 1] - time_ms[peak_bar])
    return deepest, float(longest)


@njit(nogil=True)
def _trades(ledger: Floats, trades: int, bars: int) -> tuple[float, float, float, float]:
    """Exposure, share of winners, profit factor, expectancy."""
    held, wins, profit, loss, returns = 0.0, 0, 0.0, 0.0, 0.0
    for k in range(trades):
        row = ledger[k]
        pnl = row[SIZE] * (row[EXIT] - row[ENTRY]) - row[FEE]
        held += row[EXIT_BAR] - row[ENTRY_BAR] + (row[REASON] >= END)
        wins += pnl > 0
        profit += max(pnl, 0.0)
        loss += max(-pnl, 0.0)
        returns += pnl / (abs(row[SIZE]) * row[ENTRY])
    if trades == 0:
        return 0.0, np.nan, np.nan, np.nan
    factor = profit / loss if loss > 0 else np.nan
    return held / bars, wins / trades, factor, returns / trades
