"""Follow a close beyond the channel of the bars before it; leave by a narrower channel.

R. Donchian's channel as the Turtles traded it: C. Faith, "The Original Turtle Trading Rules"
(2003), systems 1 and 2, on closes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtests.strategies.strategy import Constraint, Parameter, Params, Strategy

if TYPE_CHECKING:
    from backtests.strategies.strategy import Floats, IndicatorKey, Target


def indicators(params: Params) -> tuple[IndicatorKey, ...]:
    entry, leave = params["entry_window"], params["exit_window"]
    return ("highest", entry), ("lowest", entry), ("highest", leave), ("lowest", leave)


def warm_up_bars(params: Params) -> int:
    return int(params["entry_window"]) + 1


def signal(close: Floats, indicators: tuple[Floats, ...], numbers: Floats, target: Target) -> None:
    """Channels leave out the bar itself."""
    entry_high, entry_low, exit_high, exit_low = indicators
    held = 0
    for i in range(len(target)):
        if (held > 0 and close[i] < exit_low[i]) or (held < 0 and close[i] > exit_high[i]):
            held = 0
        if close[i] > entry_high[i]:
            held = 1
        elif close[i] < entry_low[i]:
            held = -1
        target[i] = held


STRATEGY = Strategy(
    id="donchian_breakout",
    title="Donchian breakout",
    parameters=(
        Parameter(name="entry_window", kind=int, low=2, high=5_000, step=10, default=20),
        Parameter(name="exit_window", kind=int, low=1, high=5_000, step=5, default=10),
    ),
    constraints=(
        Constraint(
            text="exit_window <= entry_window",
            holds=lambda p: p["exit_window"] <= p["entry_window"],
        ),
    ),
    indicators=indicators,
    signal=signal,
    warm_up_bars=warm_up_bars,
)
