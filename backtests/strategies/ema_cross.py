"""Long while the fast exponential moving average is above the slow one, short while below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtests.strategies.strategy import TIE, Constraint, Parameter, Params, Strategy

if TYPE_CHECKING:
    from backtests.strategies.strategy import Floats, IndicatorKey, Target


def indicators(params: Params) -> tuple[IndicatorKey, ...]:
    return ("ema", params["fast"]), ("ema", params["slow"])


def warm_up_bars(params: Params) -> int:
    # The seed, then e^-5 of it left: an EMA of n bars keeps (1 - 2/(n+1))^k after k more.
    return 4 * int(params["slow"])


def signal(close: Floats, indicators: tuple[Floats, ...], numbers: Floats, target: Target) -> None:
    """A tie keeps the position before it."""
    fast, slow = indicators
    held = 0
    for i in range(len(target)):
        if fast[i] > slow[i] * (1 + TIE):
            held = 1
        elif fast[i] < slow[i] * (1 - TIE):
            held = -1
        target[i] = held


STRATEGY = Strategy(
    id="ema_cross",
    title="EMA cross",
    parameters=(
        Parameter(name="fast", kind=int, low=1, high=2_000, step=5, default=12),
        Parameter(name="slow", kind=int, low=2, high=5_000, step=10, default=26),
    ),
    constraints=(Constraint(text="fast < slow", holds=lambda p: p["fast"] < p["slow"]),),
    indicators=indicators,
    signal=signal,
    warm_up_bars=warm_up_bars,
)
