"""Buy below the lower Bollinger band, sell above the upper one, leave at the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtests.strategies.strategy import TIE, Parameter, Params, Strategy

if TYPE_CHECKING:
    from backtests.strategies.strategy import Floats, IndicatorKey, Target


def indicators(params: Params) -> tuple[IndicatorKey, ...]:
    return ("sma", params["window"]), ("stdev", params["window"])


def warm_up_bars(params: Params) -> int:
    return int(params["window"])


def signal(close: Floats, indicators: tuple[Floats, ...], numbers: Floats, target: Target) -> None:
    """The bands lie ``width`` standard deviations from the mean."""
    mean, stdev = indicators
    width = numbers[1]
    held = 0
    for i in range(len(target)):
        away = close[i] - mean[i]
        if (held > 0 and away >= 0) or (held < 0 and away <= 0):
            held = 0
        band = width * stdev[i] + TIE * close[i]
        if away < -band:
            held = 1
        elif away > band:
            held = -1
        target[i] = held


STRATEGY = Strategy(
    id="bollinger_reversion",
    title="Bollinger reversion",
    parameters=(
        Parameter(name="window", kind=int, low=2, high=5_000, step=5, default=20),
        Parameter(name="width", kind=float, low=0.1, high=10, step=0.25, default=2.0),
    ),
    constraints=(),
    indicators=indicators,
    signal=signal,
    warm_up_bars=warm_up_bars,
)
