"""How a backtest trades: costs, size, sides and stops. Loads no numpy."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal, get_args

from backtests.strategies.registry import strategy
from oracle.values import RESOLUTIONS

Sides = Literal["long", "short", "both"]

YEAR_MS = 365 * 86_400_000
MAX_COST_RATIO = 0.1
MAX_SLIPPAGE_BPS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """One way of trading one strategy. The rules it parametrises: `backtests.engine.protocol`.

    ``taker_ratio`` is charged on fills at market and at stops, ``maker_ratio`` on take-profits,
    both on the value of the fill; ``slippage_bps`` makes every fill worse. ``size_ratio`` is the
    share of the cash an entry spends, its commission included. ``stop_loss_ratio`` and
    ``take_profit_ratio`` are distances from the entry's fill, None for none.
    """

    strategy_id: str
    timeframe: str
    initial_cash: float = 10_000.0
    taker_ratio: float = 0.001
    maker_ratio: float = 0.001
    slippage_bps: float = 1.0
    size_ratio: float = 1.0
    sides: Sides = "long"
    stop_loss_ratio: float | None = None
    take_profit_ratio: float | None = None

    def __post_init__(self) -> None:
        strategy(self.strategy_id)
        if self.timeframe not in RESOLUTIONS:
            raise ValueError(
                f"timeframe must be one of {', '.join(RESOLUTIONS)}, got {self.timeframe!r}"
            )
        if self.sides not in get_args(Sides):
            raise ValueError(f"sides must be long, short or both, got {self.sides!r}")
        _check("initial_cash", self.initial_cash, above=0, at_most=1e15)
        _check("taker_ratio", self.taker_ratio, at_least=0, at_most=MAX_COST_RATIO)
        _check("maker_ratio", self.maker_ratio, at_least=0, at_most=MAX_COST_RATIO)
        _check("slippage_bps", self.slippage_bps, at_least=0, at_most=MAX_SLIPPAGE_BPS)
        _check("size_ratio", self.size_ratio, above=0, at_most=1)
        if self.stop_loss_ratio is not None:
            _check("stop_loss_ratio", self.stop_loss_ratio, above=0, below=1)
        if self.take_profit_ratio is not None:
            # A price cannot fall by more than all of it: a short's take-profit has to stay above 0.
            most = 100 if self.sides == "long" else 1
            _check("take_profit_ratio", self.take_profit_ratio, above=0, below=most)

    @property
    def timeframe_ms(self) -> int:
        return RESOLUTIONS[self.timeframe]

    @property
    def bars_per_year(self) -> float:
        """The market never closes: 365 days of 24 hours."""
        return YEAR_MS / self.timeframe_ms


def _check(
    name: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> None:
    """ValueError unless ``value`` is a finite number within the bounds that are given."""
    if type(value) is not int and (type(value) is not float or not isfinite(value)):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    for bound, text, kept in (
        (above, "above", above is None or value > above),
        (at_least, "at least", at_least is None or value >= at_least),
        (below, "below", below is None or value < below),
        (at_most, "at most", at_most is None or value <= at_most),
    ):
        if not kept:
            raise ValueError(f"{name} must be {text} {bound:g}, got {str(value)[:80]}")
