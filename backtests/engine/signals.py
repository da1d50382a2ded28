"""Strategies' signal functions, compiled, and the target positions they come to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from backtests.engine.compiled import keep
from backtests.engine.indicator_rows import COMPILED, IndicatorRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backtests.strategies.strategy import Params, Strategy

    Target = NDArray[np.int8]


class Signals:
    """Compiles each strategy once. What it compiled is kept in ``cache_dir``, if there is one."""

    def __init__(self, cache_dir: Path | None) -> None:
        self._cache_dir = cache_dir
        self._compiled: dict[str, Any] = {}
        if cache_dir is not None:
            keep(COMPILED, cache_dir)

    def target(self, strategy: Strategy, rows: IndicatorRows, params: Params) -> Target:
        """The wanted position at each bar from ``first_bar`` on, that bar itself always flat."""
        candles = rows.candles
        target = np.empty(len(candles), np.int8)
        self._signal(strategy)(
            candles.close,
            tuple(rows.row(key) for key in strategy.indicators(params)),
            np.array([params[each.name] for each in strategy.parameters], np.float64),
            target,
        )
        target[candles.first_bar] = 0
        return target[candles.first_bar :]

    def _signal(self, strategy: Strategy) -> Any:
        if strategy.id not in self._compiled:
            signal = njit(nogil=True)(strategy.signal)
            if self._cache_dir is not None:
                keep((signal,), self._cache_dir)
            self._compiled[strategy.id] = signal
        return self._compiled[strategy.id]
