from __future__ import annotations

from dataclasses import fields
from math import isfinite, sqrt
from typing import Any

import numpy as np
import pytest

from backtests import stats
from backtests.engine.config import YEAR_MS, EngineConfig
from backtests.engine.kernel import KernelEngine
from backtests.engine.results import Reason, Trade
from backtests.strategies.registry import STRATEGIES
from tests.backtests.series import HOUR_MS, SERIES, START_MS, bars, walk


def times(count: int, *, step_ms: int = HOUR_MS) -> Any:
    return START_MS + step_ms * np.arange(count)


def trade(
    pnl: float, *, entry_bar: int = 1, exit_bar: int = 2, reason: Reason = Reason.SIGNAL
) -> Trade:
    """One unit bought at 100."""
    return Trade(
        entry_bar=entry_bar,
        exit_bar=exit_bar,
        entry_ms=START_MS,
        exit_ms=START_MS,
        size=1.0,
        entry_price=100.0,
        exit_price=100.0 + pnl + 1,
        fee=1.0,
        reason=reason,
    )


def test_measure_by_hand():
    equity = np.array([100.0, 110.0, 99.0, 99.0, 118.8])
    changes = [0.1, -0.1, 0.0, 0.2]
    deviation = np.std(changes, ddof=1)
    measured = stats.measure(
        equity,
        times(5, step_ms=YEAR_MS // 5),
        [trade(10, exit_bar=3), trade(-5, entry_bar=4, exit_bar=4, reason=Reason.END), trade(15)],
        YEAR_MS // 5,
    )
    assert measured == stats.Metrics(
        return_ratio=pytest.approx(0.188),  # type: ignore[arg-type]
        cagr_ratio=pytest.approx(0.188),  # type: ignore[arg-type]
        sharpe=pytest.approx(0.05 / deviation * sqrt(5)),  # type: ignore[arg-type]
        sortino=pytest.approx(0.05 / 0.05 * sqrt(5)),  # type: ignore[arg-type]
        calmar=pytest.approx(1.88),  # type: ignore[arg-type]
        max_drawdown_ratio=pytest.approx(0.1),  # type: ignore[arg-type]
        max_drawdown_ms=3 * (YEAR_MS // 5),  # from the second bar to the fifth
        exposure_ratio=(2 + 1 + 1) / 5,
        win_ratio=2 / 3,
        profit_factor=5.0,
        trade_count=3,
        expectancy_ratio=pytest.approx(0.2 / 3),  # type: ignore[arg-type]
    )


def test_cagr_two_years_is_the_root():
    assert stats.cagr_ratio(np.array([100.0, 121.0]), 2) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("equity", "trades", "absent"),
    [
        # nothing traded: flat
        (
            [100.0] * 5,
            [],
            {"sharpe", "sortino", "calmar", "win_ratio", "profit_factor", "expectancy_ratio"},
        ),
        # the same return at each bar: no variance, no loss
        (
            [100.0, 101.0, 102.01, 103.0301],
            [trade(3)],
            {"sharpe", "sortino", "calmar", "profit_factor"},
        ),
        # wins only, but not evenly
        ([100.0, 101.0, 103.0], [trade(3)], {"sortino", "calmar", "profit_factor"}),
        # bust
        ([100.0, 50.0, 0.0, 0.0], [trade(-100)], set()),
        # a growth that a year's power cannot hold
        ([1e-9, 1e3, 1e9], [trade(3)], {"cagr_ratio", "sortino", "calmar", "profit_factor"}),
    ],
    ids=["flat", "even", "wins only", "bust", "overflow"],
)
def test_measure_degenerate_has_none_and_never_nan(
    equity: list[float], trades: list[Trade], absent: set[str]
):
    measured = stats.measure(np.array(equity), times(len(equity)), trades, HOUR_MS)
    values = {field.name: getattr(measured, field.name) for field in fields(measured)}
    assert {name for name, value in values.items() if value is None} == absent
    assert all(isfinite(value) for value in values.values() if value is not None)


def check_kernel_agrees(kernel: KernelEngine, config: EngineConfig, candles: Any) -> None:
    result = kernel.run_single(config, candles, {})
    plain = stats.measure(result.equity, result.time_ms, result.trades, config.timeframe_ms)
    for field in fields(plain):
        mine, other = getattr(result.metrics, field.name), getattr(plain, field.name)
        assert type(mine) is type(other), field.name
        if other is not None:
            assert mine == pytest.approx(other, rel=1e-9, abs=1e-12), field.name


@pytest.mark.parametrize("strategy_id", STRATEGIES)
@pytest.mark.parametrize("series", SERIES)
def test_kernel_metrics_agree_with_the_plain_ones(
    kernel: KernelEngine, series: str, strategy_id: str
):
    for sides in ("long", "both"):
        rules: dict[str, Any] = {"sides": sides, "stop_loss_ratio": 0.05}
        config = EngineConfig(strategy_id=strategy_id, timeframe="1h", **rules)
        check_kernel_agrees(kernel, config, SERIES[series])


def test_kernel_metrics_agree_where_there_is_nothing_to_measure(kernel: KernelEngine):
    config = EngineConfig(strategy_id="sma_cross", timeframe="1h")
    check_kernel_agrees(kernel, config, bars(*([(100, 100, 100, 100)] * 200)))
    check_kernel_agrees(kernel, config, walk(3, seed=1))
    rising = bars(*((100 + k, 101 + k, 100 + k, 101 + k) for k in range(200)))
    check_kernel_agrees(kernel, EngineConfig(strategy_id="macd", timeframe="1h"), rising)
    check_kernel_agrees(kernel, config, rising)
