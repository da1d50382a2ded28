"""1,000 combinations of the SMA cross over 100,000 one-minute bars, by us and by two others.

Each engine runs in a process of its own that keeps to one core, so that peaks of memory and what is
compiled are its own. All three trade the same: long only, signal's next open, 0.1 % commission and
1 bps slippage on each fill. vectorbt does the whole grid in chunks, for its arrays of all
combinations at once would take some 25 GB, and is asked for six metrics where we compute twelve.
backtesting.py does a few combinations, which is scaled: all of them would take half an hour.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.figures import Figure

ROOT = Path(__file__).resolve().parents[1]
BARS, COMBINATIONS = 100_000, 1_000
SLIPPAGE_BPS, TAKER_RATIO, CASH = 1.0, 0.001, 10_000.0
VECTORBT_CHUNK = 50
REFERENCE_RUNS = 3
ROUNDS = 5
NAME = f"sweep_{COMBINATIONS}x{BARS // 1000}k"


def measure() -> list[Figure]:
    """Run the three and set them side by side."""
    with tempfile.TemporaryDirectory(prefix="oracle-sweep-") as cache:
        cold = _child("kernel", cache)
        ours = _child("kernel", cache)
    reference = _child("reference", "")
    vectorbt = _child("vectorbt", "")
    seconds = ours["seconds"]
    for name, other in (("backtesting.py", reference), ("vectorbt", vectorbt)):
        _check_same(ours["returns"], other["returns"], name)
    return [
        Figure(name=NAME, value=seconds, unit="s", limit=1.5),
        Figure(name="sweep_doubled", value=ours["doubled"], unit="x", at_least=0.9, limit=1.15),
        Figure(name="sweep_memory", value=ours["megabytes"], unit="MB", limit=300),
        Figure(name="sweep_compile", value=cold["first_seconds"], unit="s"),
        Figure(name="sweep_load", value=ours["first_seconds"], unit="s"),
        Figure(
            name="sweep_to_backtesting",
            value=reference["seconds"] / seconds,
            unit="x",
            at_least=300,
        ),
        Figure(
            name="sweep_to_vectorbt", value=vectorbt["seconds"] / seconds, unit="x", at_least=15
        ),
    ]


def _child(name: str, cache: str) -> dict[str, Any]:
    environment = {
        **os.environ,
        "NUMBA_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "TQDM_DISABLE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "bench.sweep", name, cache],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        timeout=1_800,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _check_same(ours: list[float], theirs: list[float], name: str) -> None:
    """They must have done the same work. vectorbt leaves a last position open, hence the room."""
    room = 1e-9 if name == "backtesting.py" else 5e-3
    apart = max(abs(a - b) for a, b in zip(ours, theirs, strict=False))
    if apart > room:
        raise RuntimeError(f"{name} came to another return, {apart:.1e} apart: not the same work")


def _grid(combinations: int) -> list[tuple[int, int]]:
    """Windows that all differ from one step to the next; twice as many have twice the windows."""
    slows = 40 * combinations // COMBINATIONS
    return [(fast, 110 + 5 * k) for fast in range(5, 105, 4) for k in range(slows)]


def _prices() -> dict[str, Any]:
    import numpy as np

    random = np.random.default_rng(7)
    close = 30_000 * np.exp(np.cumsum(random.normal(0, 0.0008, BARS)))
    opened = np.r_[30_000.0, close[:-1]] * (1 + random.normal(0, 0.0001, BARS))
    wick = 1 + np.abs(random.normal(0, 0.0003, (2, BARS)))
    return {
        "time_ms": 1_700_000_000_000 // 60_000 * 60_000 + 60_000 * np.arange(BARS),
        "open": opened,
        "high": np.maximum(opened, close) * wick[0],
        "low": np.minimum(opened, close) / wick[1],
        "close": close,
        "volume": np.ones(BARS),
    }


def _engine(engine_id: str, cache: str) -> tuple[Any, Any, Any]:
    from backtests.engine.candles import Candles
    from backtests.engine.config import EngineConfig
    from backtests.engine.registry import engine

    config = EngineConfig(
        strategy_id="sma_cross",
        timeframe="1m",
        initial_cash=CASH,
        taker_ratio=TAKER_RATIO,
        slippage_bps=SLIPPAGE_BPS,
    )
    made = engine(engine_id, cache_dir=Path(cache) if cache else None)
    return made, config, Candles(**_prices())


def _params(grid: list[tuple[int, int]]) -> list[dict[str, int]]:
    return [{"fast": fast, "slow": slow} for fast, slow in grid]


def _kernel(cache: str) -> dict[str, Any]:
    engine, config, candles = _engine("kernel", cache)
    once, twice = _params(_grid(COMBINATIONS)), _params(_grid(2 * COMBINATIONS))
    first_seconds = _timed(lambda: engine.run_sweep(config, candles, once[:1]))
    single, double = [], []
    for _ in range(ROUNDS):
        single.append(_timed(lambda: engine.run_sweep(config, candles, once)))
        double.append(_timed(lambda: engine.run_sweep(config, candles, twice)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    results = engine.run_sweep(config, candles, once)
    return {
        "seconds": statistics.median(single),
        "doubled": min(double) / min(single) / 2,
        "megabytes": peak - 6 * 8 * BARS / 2**20,
        "first_seconds": first_seconds,
        "returns": [each.metrics.return_ratio for each in results],
    }


def _reference(_cache: str) -> dict[str, Any]:
    engine, config, candles = _engine("backtesting.py", "")
    params = _params(_grid(COMBINATIONS))[:REFERENCE_RUNS]
    engine.run_single(config, candles.part(0, 1_000), params[0])  # imports and compiles
    results: list[Any] = []
    seconds = _timed(lambda: results.extend(engine.run_sweep(config, candles, params)))
    return {
        "seconds": seconds / len(params) * COMBINATIONS,
        "returns": [each.metrics.return_ratio for each in results],
    }


def _vectorbt(_cache: str) -> dict[str, Any]:
    import pandas

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import vectorbt

        prices = _prices()
        index = pandas.to_datetime(prices["time_ms"], unit="ms")
        opened, close = (pandas.Series(prices[name], index) for name in ("open", "close"))

        def run(grid: list[tuple[int, int]]) -> list[float]:
            fast = vectorbt.MA.run(close, [each[0] for each in grid])
            slow = vectorbt.MA.run(close, [each[1] for each in grid])
            portfolio = vectorbt.Portfolio.from_signals(
                close,
                fast.ma_crossed_above(slow).vbt.signals.fshift(1),
                fast.ma_crossed_below(slow).vbt.signals.fshift(1),
                price=opened,
                direction="longonly",
                fees=TAKER_RATIO,
                slippage=SLIPPAGE_BPS / 10_000,
                freq="1min",
                init_cash=CASH,
            )
            for metric in (portfolio.sharpe_ratio, portfolio.max_drawdown):
                metric()
            for metric in ("count", "win_rate", "profit_factor"):
                getattr(portfolio.trades, metric)()
            return list(map(float, portfolio.total_return()))

        grid, returns = _grid(COMBINATIONS), []
        run(grid[:2])  # compiles
        started = time.perf_counter()
        for start in range(0, len(grid), VECTORBT_CHUNK):
            returns += run(grid[start : start + VECTORBT_CHUNK])
        return {"seconds": time.perf_counter() - started, "returns": returns}


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """One engine, on one core; prints JSON."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    name, cache = sys.argv[1:]
    print(
        json.dumps({"kernel": _kernel, "reference": _reference, "vectorbt": _vectorbt}[name](cache))
    )


if __name__ == "__main__":
    main()
