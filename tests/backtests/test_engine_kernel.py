from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from backtests.engine.candles import Candles
from backtests.engine.config import EngineConfig
from backtests.engine.indicator_rows import IndicatorRows
from backtests.engine.kernel import KernelEngine
from backtests.engine.protocol import EngineError, StoppedError
from backtests.engine.registry import engine
from backtests.strategies.registry import STRATEGIES
from backtests.strategies.strategy import ParameterError
from tests.backtests.series import START_MS, bars, walk

ROOT = Path(__file__).resolve().parents[2]
CONFIG = EngineConfig(strategy_id="sma_cross", timeframe="1h", sides="both")
GRID = [{"fast": fast, "slow": slow} for fast in (3, 5, 8) for slow in (20, 30, 40)]
CANDLES = walk(500, seed=11)


@pytest.mark.parametrize("strategy_id", STRATEGIES)
def test_sweep_each_result_is_that_of_a_single_run(kernel: KernelEngine, strategy_id: str):
    config = EngineConfig(strategy_id=strategy_id, timeframe="1h", stop_loss_ratio=0.05)
    (swept,) = kernel.run_sweep(config, CANDLES, [{}])
    single = kernel.run_single(config, CANDLES, {})
    assert (swept.params, swept.metrics) == (single.params, single.metrics)


def test_sweep_keeps_the_order_of_the_grid(kernel: KernelEngine):
    assert [each.params for each in kernel.run_sweep(CONFIG, CANDLES, GRID)] == GRID


def test_sweep_threads_change_nothing(kernel: KernelEngine, compiled_dir: Path):
    several = KernelEngine(cache_dir=compiled_dir, threads=3)
    assert several.run_sweep(CONFIG, CANDLES, GRID) == kernel.run_sweep(CONFIG, CANDLES, GRID)


def test_sweep_tells_progress_and_stops_between_chunks(
    kernel: KernelEngine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("backtests.engine.kernel.MAX_CHUNK", 4)
    told: list[tuple[int, int]] = []
    kernel.run_sweep(
        CONFIG, CANDLES, GRID, progress=lambda done, latest: told.append((done, len(latest)))
    )
    assert told == [(4, 4), (8, 4), (9, 1)]
    answers = iter((False, True))
    with pytest.raises(StoppedError) as stopped:
        kernel.run_sweep(CONFIG, CANDLES, GRID, should_stop=lambda: next(answers))
    assert stopped.value.done == 4


def test_sweep_empty_grid_is_refused(kernel: KernelEngine):
    with pytest.raises(ValueError, match="the parameter grid is empty"):
        kernel.run_sweep(CONFIG, CANDLES, [])


def test_sweep_wrong_combination_is_refused_before_anything_runs(kernel: KernelEngine):
    told: list[int] = []
    with pytest.raises(ParameterError, match="fast < slow"):
        kernel.run_sweep(
            CONFIG,
            CANDLES,
            [*GRID, {"fast": 50, "slow": 20}],
            progress=lambda done, latest: told.append(done),
        )
    assert told == []


def test_window_longer_than_the_series_trades_nothing(kernel: KernelEngine):
    for strategy_id, chosen in STRATEGIES.items():
        config = EngineConfig(strategy_id=strategy_id, timeframe="1h", sides="both")
        for count in (3, 4, 10):
            result = kernel.run_single(config, CANDLES.part(0, count), {})
            assert (strategy_id, result.metrics.trade_count) == (chosen.id, 0)


def test_quiet_market_trades_nothing(kernel: KernelEngine):
    quiet = bars(*([(0.1, 0.1, 0.1, 0.1)] * 300))
    for strategy_id in STRATEGIES:
        config = EngineConfig(strategy_id=strategy_id, timeframe="1h", sides="both")
        assert kernel.run_single(config, quiet, {}).trades == ()


def test_rows_dropped_for_memory_change_nothing():
    rows, few = IndicatorRows(CANDLES), IndicatorRows(CANDLES, max_bytes=2 * CANDLES.close.nbytes)
    for key in (("sma", 5), ("sma", 7), ("macd_histogram", 5, 7, 3), ("sma", 5), ("sma", 9)):
        np.testing.assert_array_equal(few.row(key), rows.row(key))
    assert len(few._rows) == 2
    assert rows.row(("sma", 5)) is rows.row(("sma", 5))


def test_registry_unknown_engine_is_named():
    with pytest.raises(EngineError, match=r"no engine 'nope'; there are kernel, backtesting\.py"):
        engine("nope")


def test_registry_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "backtests.engine.reference", raising=False)
    monkeypatch.setitem(sys.modules, "backtesting", None)
    with pytest.raises(EngineError, match=r"pip install -r requirements/backtesting\.txt"):
        engine("backtesting.py")


def test_cache_folder_that_cannot_be_written_is_named(tmp_path: Path):
    taken = tmp_path / "file"
    taken.write_text("")
    with pytest.raises(EngineError, match="cannot make the folder for compiled code"):
        engine(cache_dir=taken / "cache")
    if os.geteuid() != 0:  # root may write anywhere
        tmp_path.chmod(0o500)
        with pytest.raises(EngineError, match="is not writable"):
            engine(cache_dir=tmp_path)


def test_cache_is_written_to_its_folder_and_nowhere_else(compiled_dir: Path, kernel: KernelEngine):
    kernel.run_single(CONFIG, CANDLES, {})
    kept = {path.name.split("-")[0] for path in compiled_dir.rglob("*.nbi")}
    assert {"simulation.simulate", "measurement.measure", "indicators.sma"} <= kept
    assert {"sma_cross.signal"} <= kept
    assert not list((ROOT / "backtests").rglob("*.nbi"))


def test_imports_nothing_loads_arrays_or_the_extra_unasked():
    script = (
        "import sys, backtests.search, backtests.strategies.registry, backtests.engine.config\n"
        "import backtests.engine.registry, backtests.engine.protocol\n"
        "print(sorted({'numpy', 'numba', 'pandas', 'backtesting'} & set(sys.modules)))\n"
        "backtests.engine.registry.engine()\n"
        "print(sorted({'pandas', 'backtesting', 'django'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]


GOOD = {
    "time_ms": START_MS + 3_600_000 * np.arange(4),
    "open": np.array([1.0, 2, 3, 4]),
    "high": np.array([2.0, 3, 4, 5]),
    "low": np.array([0.5, 1, 2, 3]),
    "close": np.array([1.5, 2, 3, 4]),
    "volume": np.zeros(4),
}


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("close", [1.5, np.nan, 3, 4], "close must be finite and above 0, and is not at bar 1"),
        ("open", [0.0, 2, 3, 4], "open must be finite and above 0, and is not at bar 0"),
        ("high", [2, 3, 4, np.inf], "high must be finite and above 0, and is not at bar 3"),
        ("close", [1.5, 2, 9, 4], "close must be from low to high, and is not at bar 2"),
        ("volume", [0, -1, 0, 0], "volume must be finite, not below 0, and is not at bar 1"),
        ("volume", [0, 0, 0], "volume must be as long as time_ms"),
        (
            "time_ms",
            START_MS + np.array([0, 1, 1, 2]),
            "time_ms must ascend, and does not at bar 2",
        ),
        ("time_ms", np.arange(1, 5), "time_ms must be epoch milliseconds"),
    ],
)
def test_candles_wrong_are_refused(name: str, values: object, said: str):
    with pytest.raises(ValueError, match=said):
        Candles(**{**GOOD, name: values})  # type: ignore[arg-type]


def test_candles_too_few_are_refused():
    for first_bar in (-1, 2):
        with pytest.raises(ValueError, match="a backtest needs 3 bars from first_bar on"):
            Candles(**GOOD, first_bar=first_bar)


def test_candles_part_is_a_copy_with_its_history():
    part = CANDLES.part(100, 200, history_bars=30)
    assert (len(part), part.first_bar) == (130, 30)
    assert part.time_ms[part.first_bar] == CANDLES.time_ms[100]
    assert not np.shares_memory(part.close, CANDLES.close)
    assert CANDLES.part(10, 20, history_bars=30).first_bar == 10
    with pytest.raises(ValueError, match=r"no bars \[490, 600\) among 500"):
        CANDLES.part(490, 600)
