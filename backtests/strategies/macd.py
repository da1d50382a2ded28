"""Long while the MACD line is above its signal line, short while below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtests.strategies.strategy import TIE, Constraint, Parameter, Params, Strategy

if TYPE_CHECKING:
    from backtests.strategies.strategy import Floats, IndicatorKey, Target


def indicators(params: Params) -> tuple[IndicatorKey, ...]:
    return (("macd_histogram", params["fast"], params["slow"], params["smoothing"]),)


def warm_up_bars(params: Params) -> int:
    return 4 * int(params["slow"]) + 4 * int(params["smoothing"])


def signal(close: Floats, indicators: tuple[Floats, ...], numbers: Floats, target: Target) -> None:
    """A tie keeps the position before it."""
    histogram = indicators[0]
    held = 0
    for i in range(len(target)):
        if histogram[i] > close[i] * TIE:
            held = 1
        elif histogram[i] < -close[i] * TIE:
            held = -1
        target[i] = held


STRATEGY = Strategy(
    id="macd",
    title="MACD",
    parameters=(
        Parameter(name="fast", kind=int, low=1, high=2_000, step=2, default=12),
        Parameter(name="slow", kind=int, low=2, high=5_000, step=2, default=26),
        Parameter(name="smoothing", kind=int, low=1, high=2_000, step=1, default=9),
    ),
    constraints=(Constraint(text="fast < slow", holds=lambda p: p["fast"] < p["slow"]),),
    indicators=indicators,
    signal=signal,
    warm_up_bars=warm_up_bars,
)
