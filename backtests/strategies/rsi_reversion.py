"""Buy what is oversold, sell what is overbought, leave when the RSI is back at its middle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtests.strategies.strategy import Constraint, Parameter, Params, Strategy

if TYPE_CHECKING:
    from backtests.strategies.strategy import Floats, IndicatorKey, Target


def indicators(params: Params) -> tuple[IndicatorKey, ...]:
    return (("rsi", params["window"]),)


def warm_up_bars(params: Params) -> int:
    # The seed, then e^-5 of it left: Wilder's average of n bars keeps (1 - 1/n)^k after k more.
    return 6 * int(params["window"])


def signal(close: Floats, indicators: tuple[Floats, ...], numbers: Floats, target: Target) -> None:
    """Enter below ``oversold`` or above ``overbought``, leave at ``middle`` or beyond."""
    rsi = indicators[0]
    oversold, overbought, middle = numbers[1], numbers[2], numbers[3]
    held = 0
    for i in range(len(target)):
        if (held > 0 and rsi[i] >= middle) or (held < 0 and rsi[i] <= middle):
            held = 0
        if rsi[i] < oversold:
            held = 1
        elif rsi[i] > overbought:
            held = -1
        target[i] = held


STRATEGY = Strategy(
    id="rsi_reversion",
    title="RSI reversion",
    parameters=(
        Parameter(name="window", kind=int, low=2, high=1_000, step=2, default=14),
        Parameter(name="oversold", kind=float, low=1, high=99, step=5, default=30.0),
        Parameter(name="overbought", kind=float, low=1, high=99, step=5, default=70.0),
        Parameter(name="middle", kind=float, low=1, high=99, step=5, default=50.0),
    ),
    constraints=(
        Constraint(
            text="oversold < middle < overbought",
            holds=lambda p: p["oversold"] < p["middle"] < p["overbought"],
        ),
    ),
    indicators=indicators,
    signal=signal,
    warm_up_bars=warm_up_bars,
)
