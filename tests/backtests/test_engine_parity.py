"""The kernel against backtesting.py: the same trades, the same equity."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from backtests.engine.candles import Candles
from backtests.engine.config import EngineConfig
from backtests.engine.kernel import KernelEngine
from backtests.engine.protocol import Engine
from backtests.engine.results import Reason, Result
from backtests.strategies.registry import STRATEGIES
from backtests.strategies.strategy import ParameterError
from tests.backtests.series import SERIES, bars, walk
from tests.ingestion.fixtures import payload

pytest.importorskip("backtesting", reason="pip install -r requirements/backtesting.txt")

COSTS: dict[str, Any] = {"taker_ratio": 0.001, "maker_ratio": 0.0004, "slippage_bps": 5.0}
WAYS: list[dict[str, Any]] = [
    COSTS
    | {"sides": sides, "size_ratio": size, "stop_loss_ratio": stop, "take_profit_ratio": limit}
    for sides, (size, stop, limit) in itertools.product(
        ("long", "short", "both"),
        ((1.0, None, None), (0.7, 0.03, None), (1.0, None, 0.05), (0.35, 0.03, 0.05)),
    )
]

RECORDED = [
    ("binance", "candles_4.json"),
    ("binance", "candles_5.json"),
    ("binance", "candles_6.json"),
    ("kraken", "candles_1.json"),
]


@pytest.fixture(scope="module")
def reference(kernel: KernelEngine) -> Iterator[Engine]:
    from backtests.engine.reference import ReferenceEngine

    yield ReferenceEngine(kernel.signals)


def check_same(ours: Result, theirs: Result) -> None:
    """Bars and reasons exactly, numbers to 1e-9 of themselves."""
    assert [(t.entry_bar, t.exit_bar, t.entry_ms, t.exit_ms, t.reason) for t in ours.trades] == [
        (t.entry_bar, t.exit_bar, t.entry_ms, t.exit_ms, t.reason) for t in theirs.trades
    ]
    for name in ("size", "entry_price", "exit_price", "fee"):
        np.testing.assert_allclose(
            [getattr(t, name) for t in ours.trades],
            [getattr(t, name) for t in theirs.trades],
            rtol=1e-9,
            err_msg=name,
        )
    assert (ours.time_ms == theirs.time_ms).all()
    np.testing.assert_allclose(ours.equity, theirs.equity, rtol=1e-9, atol=0)


@pytest.mark.parametrize("strategy_id", STRATEGIES)
@pytest.mark.parametrize("series", SERIES)
def test_parity_every_strategy_and_series_trades_and_equity_are_equal(
    kernel: KernelEngine, reference: Engine, series: str, strategy_id: str
):
    trades = 0
    for way in WAYS:
        config = EngineConfig(strategy_id=strategy_id, timeframe="1h", **way)
        ours = kernel.run_single(config, SERIES[series], {})
        check_same(ours, reference.run_single(config, SERIES[series], {}))
        trades += len(ours.trades)
    assert trades > 20


@pytest.mark.parametrize("strategy_id", STRATEGIES)
@pytest.mark.parametrize("name", RECORDED)
def test_parity_recorded_candles_trades_and_equity_are_equal(
    kernel: KernelEngine, reference: Engine, name: tuple[str, str], strategy_id: str
):
    rows = np.array(payload(*name).expected["rows"], np.float64)
    candles = Candles(
        time_ms=rows[:, 0].astype(np.int64),
        **dict(zip(("open", "high", "low", "close", "volume"), rows[:, 1:6].T, strict=True)),
    )
    trades = 0
    for way in WAYS[3::4]:
        config = EngineConfig(strategy_id=strategy_id, timeframe="1h", **way)
        ours = kernel.run_single(config, candles, {})
        check_same(ours, reference.run_single(config, candles, {}))
        trades += len(ours.trades)
    assert trades > 0


@pytest.mark.parametrize("strategy_id", STRATEGIES)
def test_parity_covers_every_reason(kernel: KernelEngine, strategy_id: str):
    seen = {
        trade.reason
        for candles in SERIES.values()
        for way in WAYS
        for trade in kernel.run_single(
            EngineConfig(strategy_id=strategy_id, timeframe="1h", **way), candles, {}
        ).trades
    }
    assert seen | {Reason.END} == set(Reason)  # whether one is open at the end is chance


def test_parity_with_history_is_equal(kernel: KernelEngine, reference: Engine):
    candles = walk(600, seed=9, first_bar=200)
    config = EngineConfig(strategy_id="sma_cross", timeframe="1h", sides="both", **COSTS)
    ours = kernel.run_single(config, candles, {"fast": 5, "slow": 20})
    check_same(ours, reference.run_single(config, candles, {"fast": 5, "slow": 20}))
    assert min(trade.entry_bar for trade in ours.trades) == 202  # in force before it, joined there


@pytest.mark.parametrize("sides", ["long", "short"])
def test_parity_gap_past_the_stop_on_the_entry_bar_is_equal(
    kernel: KernelEngine, reference: Engine, sides: str
):
    # The entry opens 30 % from the close that wanted it: a stop set from that close is behind it.
    rows = [(100, 101, 99, 100)] * 4 + [(100, 111, 99, 110), (70, 71, 60, 65), (65, 66, 64, 65)]
    if sides == "short":
        rows = [(200 - o, 200 - low, 200 - high, 200 - c) for o, high, low, c in rows]
    rules: dict[str, Any] = {"sides": sides, "stop_loss_ratio": 0.05, **COSTS}
    config = EngineConfig(strategy_id="sma_cross", timeframe="1h", **rules)
    params = {"fast": 1, "slow": 3}
    ours = kernel.run_single(config, bars(*rows), params)
    check_same(ours, reference.run_single(config, bars(*rows), params))
    assert [trade.reason for trade in ours.trades] == [Reason.STOP]


def test_parity_sweep_metrics_are_equal(kernel: KernelEngine, reference: Engine):
    config = EngineConfig(strategy_id="sma_cross", timeframe="1h", sides="both", **COSTS)
    grid = [{"fast": 5, "slow": 20}, {"fast": 10, "slow": 50}]
    seen: list[int] = []
    theirs = reference.run_sweep(
        config, SERIES["choppy"], grid, progress=lambda done, latest: seen.append(done)
    )
    ours = kernel.run_sweep(config, SERIES["choppy"], grid)
    assert seen == [1, 2]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.params == other.params
        for name in mine.metrics.__slots__:
            assert getattr(other.metrics, name) is not None
            assert getattr(mine.metrics, name) == pytest.approx(
                getattr(other.metrics, name), rel=1e-9
            ), name


def test_reference_wrong_parameter_is_refused(reference: Engine):
    config = EngineConfig(strategy_id="sma_cross", timeframe="1h")
    with pytest.raises(ParameterError):
        reference.run_sweep(config, SERIES["choppy"], [{"fast": 50, "slow": 20}])


def test_reference_candles_are_left_as_they_were(kernel: KernelEngine, reference: Engine):
    candles: Candles = walk(300, seed=3)
    before = candles.close.copy()
    config = EngineConfig(strategy_id="macd", timeframe="1h")
    kernel.run_single(config, candles, {})
    reference.run_single(config, candles, {})
    assert (candles.close == before).all()
