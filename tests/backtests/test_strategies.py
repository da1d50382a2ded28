from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backtests.engine import indicators
from backtests.engine.config import EngineConfig
from backtests.engine.indicator_rows import IndicatorRows
from backtests.engine.kernel import KernelEngine
from backtests.strategies.registry import STRATEGIES, UnknownStrategyError, strategy
from backtests.strategies.strategy import ParameterError
from tests.backtests.series import bars, walk

SMALL: dict[str, dict[str, Any]] = {
    "sma_cross": {"fast": 2, "slow": 5},
    "ema_cross": {"fast": 2, "slow": 5},
    "rsi_reversion": {"window": 3, "oversold": 40, "overbought": 60},
    "donchian_breakout": {"entry_window": 5, "exit_window": 3},
    "bollinger_reversion": {"window": 5, "width": 1.0},
    "macd": {"fast": 3, "slow": 6, "smoothing": 3},
}


def target(kernel: KernelEngine, strategy_id: str, candles: Any, params: Any) -> Any:
    chosen = strategy(strategy_id)
    return kernel.signals.target(chosen, IndicatorRows(candles), chosen.checked(params)).tolist()


# Look-ahead


@pytest.mark.parametrize("strategy_id", STRATEGIES)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10**6), cut=st.integers(3, 119), bracket=st.booleans())
def test_cutting_the_series_changes_nothing_before(
    kernel: KernelEngine, strategy_id: str, seed: int, cut: int, bracket: bool
):
    candles = walk(120, seed=seed, volatility=0.03, gap=0.02)
    before = candles.part(0, cut)
    params = SMALL[strategy_id]
    assert (
        target(kernel, strategy_id, before, params)
        == (target(kernel, strategy_id, candles, params)[:cut])
    )
    stops: dict[str, Any] = {"stop_loss_ratio": 0.02, "take_profit_ratio": 0.03} if bracket else {}
    config = EngineConfig(strategy_id=strategy_id, timeframe="1h", sides="both", **stops)
    whole = kernel.run_single(config, candles, params)
    part = kernel.run_single(config, before, params)
    # The last bar of the part closes what is open, as no bar of the whole does.
    assert part.equity[:-1].tolist() == whole.equity[: cut - 1].tolist()
    last = cut - 1
    assert [trade for trade in part.trades if trade.exit_bar < last] == [
        trade for trade in whole.trades if trade.exit_bar < last
    ]


# Signals


@pytest.mark.parametrize(
    ("strategy_id", "params", "closes", "expected"),
    [
        # fast mean above or below the slow one; a tie keeps what was held
        ("sma_cross", {"fast": 1, "slow": 2}, [1, 2, 3, 3, 2, 3], [0, 1, 1, 1, -1, 1]),
        ("ema_cross", {"fast": 1, "slow": 2}, [1, 2, 3, 3, 2, 1], [0, 1, 1, 1, -1, -1]),
        # RSI -, -, 0, 50, 75, 87.5, 43.75, 43.75
        (
            "rsi_reversion",
            {"window": 2},
            [10, 9, 8, 9, 10, 11, 10, 10],
            [0, 0, 1, 0, -1, -1, 0, 0],
        ),
        # new highs; below the last two but not the last three; a new low
        (
            "donchian_breakout",
            {"entry_window": 3, "exit_window": 2},
            [1, 2, 3, 4, 5, 3.5, 1, 1],
            [0, 0, 0, 1, 1, 0, -1, -1],
        ),
        # one stdev of (10, 10, 7) is 1.41 about 9: below; 7.6 is above its mean, within its band
        (
            "bollinger_reversion",
            {"window": 3, "width": 1.0},
            [10, 10, 7, 7.5, 7.6, 10],
            [0, 0, 1, 1, 0, -1],
        ),
        ("macd", {"fast": 1, "slow": 2, "smoothing": 1}, [1, 2, 3, 4], [0, 0, 0, 0]),
    ],
)
def test_signal_by_hand(
    kernel: KernelEngine, strategy_id: str, params: Any, closes: list[float], expected: list[int]
):
    candles = bars(*((close, close, close, close) for close in closes))
    assert target(kernel, strategy_id, candles, params) == expected


def test_signal_compiled_is_what_it_is_in_python(kernel: KernelEngine):
    candles = walk(300, seed=5)
    rows = IndicatorRows(candles)
    for chosen in STRATEGIES.values():
        params = chosen.checked(SMALL[chosen.id])
        plain = np.zeros(len(candles), np.int8)
        chosen.signal(
            candles.close,
            tuple(rows.row(key) for key in chosen.indicators(params)),
            np.array(list(params.values()), np.float64),
            plain,
        )
        assert plain.tolist() == kernel.signals.target(chosen, rows, params).tolist()
        assert set(plain.tolist()) == {-1, 0, 1}


@pytest.mark.parametrize("strategy_id", STRATEGIES)
def test_warm_up_is_history_enough(strategy_id: str):
    chosen = strategy(strategy_id)
    params = chosen.checked({})
    enough = chosen.warm_up_bars(params)
    assert enough >= 1
    for seed in range(20):
        candles = walk(1_000, seed=seed)
        long, short = IndicatorRows(candles), IndicatorRows(candles.part(900 - enough, 1_000))
        for key in chosen.indicators(params):
            np.testing.assert_allclose(
                short.row(key)[enough:],
                long.row(key)[900:],
                rtol=1e-3,
                atol=0.5 if key[0] == "rsi" else 0.01,  # of 100 points, of a price of 100
            )


# Parameters


def test_registry_unknown_strategy_is_named_with_those_there_are():
    for wrong in ("nope", None, 5, ["sma_cross"]):
        with pytest.raises(UnknownStrategyError, match="there are sma_cross, ema_cross"):
            strategy(wrong)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"speed": 1}, "sma_cross has no parameter 'speed'; it has fast, slow"),
        ({"fast": 5.0}, "fast must be a whole number, got '5.0'"),
        ({"fast": True}, "fast must be a whole number"),
        ({"fast": "5"}, "fast must be a whole number"),
        ({"fast": None}, "fast must be a whole number"),
        ({"fast": 0}, "fast must be from 1 to 2000, got 0"),
        ({"slow": 10**400}, "slow must be from 2 to 5000, got 1000"),
        ({"fast": 60}, "sma_cross needs fast < slow, got fast 60, slow 50"),
    ],
)
def test_parameters_wrong_are_refused_with_what_would_do(params: dict[str, object], said: str):
    with pytest.raises(ParameterError, match=said):
        strategy("sma_cross").checked(params)


def test_parameters_float_takes_an_int_and_no_nan():
    chosen = strategy("bollinger_reversion")
    assert chosen.checked({"width": 2}) == {"window": 20, "width": 2.0}
    assert type(chosen.checked({"width": 2})["width"]) is float
    with pytest.raises(ParameterError, match="width must be a finite number"):
        chosen.checked({"width": float("nan")})


def test_parameters_defaults_keep_their_own_rules():
    for chosen in STRATEGIES.values():
        assert list(chosen.checked({})) == [each.name for each in chosen.parameters]


# Indicators, against their definitions written plainly


def rolled(values: np.ndarray, window: int, of: Callable[[np.ndarray], float]) -> list[float]:
    return [
        of(values[i - window + 1 : i + 1]) if i >= window - 1 else np.nan
        for i in range(len(values))
    ]


@pytest.mark.parametrize("window", [1, 2, 7, 50, 299, 300, 301])
def test_indicators_windows_are_those_of_the_definition(window: int):
    values = walk(300, seed=21).close
    np.testing.assert_allclose(
        indicators.sma(values, window), rolled(values, window, np.mean), rtol=1e-13
    )
    np.testing.assert_allclose(
        indicators.stdev(values, window), rolled(values, window, np.std), rtol=1e-9, atol=1e-13
    )
    shifted = [np.nan, *rolled(values, window, np.max)[:-1]]
    np.testing.assert_array_equal(indicators.highest(values, window), shifted)
    shifted = [np.nan, *rolled(values, window, np.min)[:-1]]
    np.testing.assert_array_equal(indicators.lowest(values, window), shifted)


def test_indicators_spike_leaves_no_trace():
    values = np.ones(200)
    values[50] = 1e15
    values[100:] = 1.5
    assert indicators.sma(values, 10)[120:].tolist() == [1.5] * 80
    assert indicators.stdev(values, 10)[120:].tolist() == [0.0] * 80


def test_indicators_ema_is_seeded_with_the_mean():
    values = np.array([2.0, 4, 6, 8, 4])
    assert indicators.ema(values, 3).tolist()[2:] == [4.0, 6.0, 5.0]
    late = np.r_[np.nan, np.nan, values]
    assert indicators.ema(late, 3).tolist()[4:] == [4.0, 6.0, 5.0]


def test_indicators_rsi_is_wilders():
    # New Concepts in Technical Trading Systems, the usual worked example (14 days).
    closes = np.array([
        44.3389, 44.0902, 44.1497, 43.6124, 44.3278, 44.8264, 45.0955, 45.4245, 45.8433, 46.0826,
        45.8931, 46.0328, 45.6140, 46.2820, 46.2820, 46.0028, 46.0328, 46.4116, 46.2222, 45.6439,
    ])  # fmt: skip
    assert indicators.rsi(closes, 14)[14:].round(2).tolist() == [
        70.53,
        66.32,
        66.55,
        69.41,
        66.36,
        57.97,
    ]
    assert indicators.rsi(np.ones(5), 2).tolist()[2:] == [50.0] * 3


def test_indicators_macd_is_the_line_less_its_average():
    values = walk(60, seed=8).close
    fast, slow = indicators.ema(values, 5), indicators.ema(values, 10)
    line = fast - slow
    expected = line - indicators.ema(line, 4)
    np.testing.assert_array_equal(indicators.macd_histogram(fast, slow, 4), expected)
    assert int(np.isnan(expected).sum()) == 9 + 3
