"""The strategies there are, by id. A new one: its file, and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from backtests.strategies import (
    bollinger_reversion,
    donchian_breakout,
    ema_cross,
    macd,
    rsi_reversion,
    sma_cross,
)
from backtests.strategies.strategy import Strategy

STRATEGIES: Mapping[str, Strategy] = {
    module.STRATEGY.id: module.STRATEGY
    for module in (
        sma_cross,
        ema_cross,
        rsi_reversion,
        donchian_breakout,
        bollinger_reversion,
        macd,
    )
}


class UnknownStrategyError(ValueError):
    """No strategy has this id."""

    retryable = False


def strategy(strategy_id: object) -> Strategy:
    """The strategy of this id, or UnknownStrategyError naming those there are."""
    if type(strategy_id) is str and strategy_id in STRATEGIES:
        return STRATEGIES[strategy_id]
    known = ", ".join(STRATEGIES)
    raise UnknownStrategyError(f"no strategy {str(strategy_id)[:80]!r}; there are {known}")
