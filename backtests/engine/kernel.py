"""The default engine: numba over arrays.

A combination is three passes over the bars, each in a compiled function that lets go of Python's
lock: signal to target, target to equity and trades, these to metrics. Passes over arrays that fit
the cache, plain enough to become vector instructions, took less time than one fused loop would:
a bar that changes nothing costs the flat account a fill and the open position one multiplication.

Threads are Python's. Numba's own parallel loops would bring a thread pool that a forked Celery
worker cannot use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtests import stats
from backtests.engine import measurement, simulation
from backtests.engine.compiled import keep
from backtests.engine.config import YEAR_MS, EngineConfig
from backtests.engine.indicator_rows import IndicatorRows
from backtests.engine.protocol import Progress, StoppedError
from backtests.engine.results import Reason, Result, SweepResult, Trade
from backtests.engine.signals import Signals
from backtests.engine.simulation import Prices, Rules
from backtests.strategies.registry import strategy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backtests.engine.candles import Candles
    from backtests.strategies.strategy import Number, Params, Strategy

    Floats = NDArray[np.float64]

VERSION = "1"  # another one for any change of what a run comes to
BARS_PER_CHUNK = 10_000_000  # about a tenth of a second between two looks at should_stop
MAX_CHUNK = 1_000


class KernelEngine:
    """Runs on ``threads`` threads; the results are the same on any number."""

    id = "kernel"
    version = VERSION

    def __init__(self, *, cache_dir: Path | None, threads: int) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        self._threads = threads
        # A constant of another file is compiled in and not looked at again: a version, a folder.
        folder = None if cache_dir is None else cache_dir / f"kernel-{VERSION}"
        self.signals = Signals(folder)
        if folder is not None:
            keep((simulation.restrict, simulation.simulate, measurement.measure), folder)

    def run_single(
        self, config: EngineConfig, candles: Candles, params: Mapping[str, object]
    ) -> Result:
        """One backtest, with its equity curve and trades."""
        whole = strategy(config.strategy_id).checked(params)
        run = _Run(config, candles, self.signals)
        equity, ledger = run.simulated(whole)
        return Result(
            params=whole,
            metrics=run.measured(equity, ledger),
            time_ms=candles.time_ms[candles.first_bar :],
            equity=equity,
            trades=tuple(_trade(row, candles) for row in ledger),
        )

    def run_sweep(
        self,
        config: EngineConfig,
        candles: Candles,
        param_grid: Sequence[Mapping[str, object]],
        *,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> list[SweepResult]:
        """One result per combination; `Engine.run_sweep` says the rest."""
        grid = checked_grid(strategy(config.strategy_id), param_grid)
        run = _Run(config, candles, self.signals)
        chunk = min(MAX_CHUNK, max(self._threads, BARS_PER_CHUNK // len(candles)))
        results: list[SweepResult] = []
        run.result(grid[0])  # compiles, or loads, before threads would do it each
        with ThreadPoolExecutor(self._threads) as pool:
            for start in range(0, len(grid), chunk):
                if should_stop is not None and should_stop():
                    raise StoppedError(len(results))
                part = grid[start : start + chunk]
                latest = list(
                    pool.map(run.result, part) if self._threads > 1 else map(run.result, part)
                )
                results += latest
                if progress is not None:
                    progress(len(results), latest)
        return results


def checked_grid(
    chosen: Strategy, param_grid: Sequence[Mapping[str, object]]
) -> list[dict[str, Number]]:
    """Each combination in full, or ParameterError; ValueError for none at all."""
    if not param_grid:
        raise ValueError("the parameter grid is empty: there is nothing to run")
    return [chosen.checked(params) for params in param_grid]


class _Run:
    """A config on a series: what all combinations share."""

    def __init__(self, config: EngineConfig, candles: Candles, signals: Signals) -> None:
        self._strategy = strategy(config.strategy_id)
        self._signals = signals
        self._rows = IndicatorRows(candles)
        first = candles.first_bar
        self._prices = Prices(
            candles.open[first:], candles.high[first:], candles.low[first:], candles.close[first:]
        )
        self._time_ms = candles.time_ms[first:]
        self._timeframe_ms = float(config.timeframe_ms)
        self._rules = Rules(
            cash=float(config.initial_cash),
            taker=float(config.taker_ratio),
            maker=float(config.maker_ratio),
            slippage=config.slippage_bps / 10_000,
            size=float(config.size_ratio),
            longs=config.sides != "short",
            shorts=config.sides != "long",
            stop=float(config.stop_loss_ratio or 0),
            limit=float(config.take_profit_ratio or 0),
        )

    def simulated(self, params: Params) -> tuple[Floats, Floats]:
        """Equity at each close, and a ledger row for each trade."""
        target = self._signals.target(self._strategy, self._rows, params)
        entries = simulation.restrict(target, self._rules)
        equity = np.empty(len(target))
        ledger = np.empty((entries, simulation.LEDGER_COLUMNS))
        count = simulation.simulate(self._prices, target, self._rules, equity, ledger)
        return equity, ledger[:count]

    def measured(self, equity: Floats, ledger: Floats) -> stats.Metrics:
        """The metrics, None for those that have no value."""
        values = measurement.measure(
            equity,
            self._time_ms,
            ledger,
            len(ledger),
            self._timeframe_ms,
            float(YEAR_MS),
            stats.LEAST_VARIANCE,
        )
        named: dict[str, Any] = {
            name: value if isfinite(value) else None
            for name, value in zip(measurement.METRICS, values.tolist(), strict=True)
        }
        for name in ("trade_count", "max_drawdown_ms"):
            named[name] = int(named[name])
        return stats.Metrics(**named)

    def result(self, params: Params) -> SweepResult:
        """One combination; its arrays are gone afterwards."""
        return SweepResult(params=params, metrics=self.measured(*self.simulated(params)))


def _trade(row: Floats, candles: Candles) -> Trade:
    entry_bar = int(row[simulation.ENTRY_BAR]) + candles.first_bar
    exit_bar = int(row[simulation.EXIT_BAR]) + candles.first_bar
    return Trade(
        entry_bar=entry_bar,
        exit_bar=exit_bar,
        entry_ms=int(candles.time_ms[entry_bar]),
        exit_ms=int(candles.time_ms[exit_bar]),
        size=float(row[simulation.SIZE]),
        entry_price=float(row[simulation.ENTRY]),
        exit_price=float(row[simulation.EXIT]),
        fee=float(row[simulation.FEE]),
        reason=tuple(Reason)[int(row[simulation.REASON])],
    )
