"""What an engine answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from backtests.stats import Metrics
    from backtests.strategies.strategy import Params


class Reason(StrEnum):
    """Why a trade ended, in the order of `simulation.SIGNAL` and its neighbours."""

    SIGNAL = "signal"
    STOP = "stop"
    LIMIT = "limit"
    END = "end"
    BUST = "bust"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """A position from its entry to its exit. Bars count from the first of the candles, history too.

    ``size`` is in units of base, below 0 for a short; prices are those of the fills, slippage
    included; ``fee`` is both commissions.
    """

    entry_bar: int
    exit_bar: int
    entry_ms: int
    exit_ms: int
    size: float
    entry_price: float
    exit_price: float
    fee: float
    reason: Reason

    @property
    def pnl(self) -> float:
        """Profit net of fees, in quote currency."""
        return self.size * (self.exit_price - self.entry_price) - self.fee

    @property
    def return_ratio(self) -> float:
        return self.pnl / (abs(self.size) * self.entry_price)

    @property
    def held_bars(self) -> int:
        """Bars at whose end the position was open; one closed at a close was open until then."""
        return self.exit_bar - self.entry_bar + (self.reason in (Reason.END, Reason.BUST))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """One backtest. ``equity`` is at the close of each bar of ``time_ms``, history left out."""

    params: Params
    metrics: Metrics
    time_ms: NDArray[np.int64]
    equity: NDArray[np.float64]
    trades: tuple[Trade, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """One combination of a sweep."""

    params: Params
    metrics: Metrics
