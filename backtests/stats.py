"""The metrics of a backtest, each by one definition, in the plainest numpy there is.

Ratios are fractions: 0.12 is 12 %. A metric that has no value (no trades, no variance, no loss to
divide by, a power beyond float64) is None, never NaN or infinite. Returns are those of one bar to
the next, ``equity[i] / equity[i-1] - 1``, 0 after the account is bust; the risk-free rate is 0; a
year has 365 days of 24 hours. `backtests.engine.measurement` computes the same faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from backtests.engine.config import YEAR_MS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backtests.engine.results import Trade

    Floats = NDArray[np.float64]

# Of the mean square. Returns that differ by less than a thousandth of what they are have no
# deviation worth dividing by, only rounding.
LEAST_VARIANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What a backtest came to. The functions of this module say what each one is."""

    return_ratio: float
    cagr_ratio: float | None
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    max_drawdown_ratio: float
    max_drawdown_ms: int
    exposure_ratio: float
    win_ratio: float | None
    profit_factor: float | None
    trade_count: int
    expectancy_ratio: float | None


def measure(
    equity: Floats, time_ms: NDArray[np.int64], trades: Sequence[Trade], timeframe_ms: int
) -> Metrics:
    """All metrics of an equity curve, marked at the closes of ``time_ms``, and its trades."""
    bars_per_year = YEAR_MS / timeframe_ms
    years = (int(time_ms[-1]) - int(time_ms[0]) + timeframe_ms) / YEAR_MS
    growth = cagr_ratio(equity, years)
    deepest = float(drawdowns(equity).max())
    return Metrics(
        return_ratio=float(equity[-1] / equity[0] - 1),
        cagr_ratio=growth,
        sharpe=sharpe(equity, bars_per_year),
        sortino=sortino(equity, bars_per_year),
        calmar=_finite(growth / deepest) if growth is not None and deepest > 0 else None,
        max_drawdown_ratio=deepest,
        max_drawdown_ms=max_drawdown_ms(equity, time_ms),
        exposure_ratio=sum(trade.held_bars for trade in trades) / len(equity),
        win_ratio=sum(trade.pnl > 0 for trade in trades) / len(trades) if trades else None,
        profit_factor=profit_factor(trades),
        trade_count=len(trades),
        expectancy_ratio=expectancy_ratio(trades),
    )


def returns(equity: Floats) -> Floats:
    """The return of each bar but the first."""
    before, after = equity[:-1], equity[1:]
    return np.divide(after, before, out=np.ones_like(after), where=before > 0) - 1


def cagr_ratio(equity: Floats, years: float) -> float | None:
    """Compound annual growth: (last / first)^(1 / years) - 1, by the calendar, holes included."""
    try:
        return _finite(float(equity[-1] / equity[0]) ** (1 / years) - 1)
    except OverflowError:
        return None


def sharpe(equity: Floats, bars_per_year: float) -> float | None:
    """Mean return over its sample standard deviation, x sqrt(bars per year).

    Sharpe, "The Sharpe Ratio", Journal of Portfolio Management 21 (1994).
    """
    changes = returns(equity)
    if len(changes) < 2:
        return None
    variance = changes.var(ddof=1)
    if variance <= LEAST_VARIANCE * (changes**2).mean():
        return None
    return _finite(float(changes.mean() / np.sqrt(variance) * np.sqrt(bars_per_year)))


def sortino(equity: Floats, bars_per_year: float) -> float | None:
    """Mean return over its downside deviation below 0, x sqrt(bars per year).

    The deviation is over all bars, not the losing ones alone: Sortino and Price, "Performance
    Measurement in a Downside Risk Framework", Journal of Investing 3 (1994).
    """
    changes = returns(equity)
    downside = np.sqrt((np.minimum(changes, 0) ** 2).mean())
    if len(changes) < 2 or downside == 0:
        return None
    return _finite(float(changes.mean() / downside * np.sqrt(bars_per_year)))


def drawdowns(equity: Floats) -> Floats:
    """Each bar's fall from the highest equity so far, as a share of that. Calmar: CAGR over the
    deepest; Young, "Calmar Ratio: A Smoother Tool", Futures 20 (1991)."""
    return 1 - equity / np.maximum.accumulate(equity)


def max_drawdown_ms(equity: Floats, time_ms: NDArray[np.int64]) -> int:
    """The longest time from a peak until the equity was there again, or until the end."""
    peaks = np.flatnonzero(equity == np.maximum.accumulate(equity))
    stretches = [
        int(time_ms[after] - time_ms[peak]) for peak, after in pairwise(peaks) if after > peak + 1
    ]
    return max([*stretches, int(time_ms[-1] - time_ms[peaks[-1]])])


def profit_factor(trades: Sequence[Trade]) -> float | None:
    """What the winners made over what the losers lost, both net of fees."""
    loss = sum(-trade.pnl for trade in trades if trade.pnl < 0)
    return _finite(sum(trade.pnl for trade in trades if trade.pnl > 0) / loss) if loss else None


def expectancy_ratio(trades: Sequence[Trade]) -> float | None:
    """Mean net return of a trade on the value it entered with.

    Van Tharp's expectancy (Trade Your Way to Financial Freedom, 1998) with that value as the risk.
    """
    return sum(trade.return_ratio for trade in trades) / len(trades) if trades else None


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
