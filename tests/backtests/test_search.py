from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest

from backtests.engine.results import SweepResult
from backtests.search import Gates, SearchError, Selection, score, select, trials
from backtests.stats import Metrics
from backtests.strategies.registry import UnknownStrategyError
from backtests.strategies.strategy import ParameterError

SPACE: dict[str, object] = {"fast": [5, 10, 20], "slow": {"min": 10, "max": 30, "step": 10}}
LARGE: dict[str, object] = {
    "fast": {"min": 1, "max": 2_000, "step": 1},
    "slow": {"min": 2, "max": 5_000, "step": 1},
}


def pairs(chosen: Any) -> list[tuple[Any, ...]]:
    return [tuple(params.values()) for params in chosen.params]


# Trials


def test_grid_is_all_that_keeps_the_constraints_in_order():
    chosen = trials("sma_cross", SPACE, max_trials=100, seed=1)
    assert pairs(chosen) == [(5, 10), (5, 20), (5, 30), (10, 20), (10, 30), (20, 30)]
    assert (chosen.method, chosen.grid_size, chosen.valid_count) == ("grid", 9, 6)


def test_grid_counts_against_max_trials_after_constraints():
    assert trials("sma_cross", SPACE, max_trials=6, seed=1).method == "grid"
    assert trials("sma_cross", SPACE, max_trials=5, seed=1).method == "latin_hypercube"


def test_parameters_not_named_keep_their_defaults():
    chosen = trials("bollinger_reversion", {"window": [10, 20]}, max_trials=10, seed=1)
    assert chosen.params == ({"window": 10, "width": 2.0}, {"window": 20, "width": 2.0})


def test_values_twice_are_tried_once():
    chosen = trials("bollinger_reversion", {"width": [1, 1.0, 2, 2.0]}, max_trials=10, seed=1)
    assert [each["width"] for each in chosen.params] == [1.0, 2.0]


def test_range_steps_are_decimal_and_keep_to_max():
    chosen = trials(
        "bollinger_reversion",
        {"width": {"min": 0.1, "max": 0.75, "step": 0.1}},
        max_trials=10,
        seed=1,
    )
    assert [each["width"] for each in chosen.params] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


@pytest.mark.parametrize("sampling", ["latin_hypercube", "random"])
@pytest.mark.parametrize("space", [SPACE, LARGE], ids=["counted", "not counted"])
def test_sample_is_distinct_valid_and_the_same_for_a_seed(sampling: Any, space: dict[str, object]):
    count = 5 if space is SPACE else 300
    one = trials("sma_cross", space, max_trials=count, seed=7, sampling=sampling)
    random.seed(99)  # nobody else's randomness plays a part
    assert trials("sma_cross", space, max_trials=count, seed=7, sampling=sampling) == one
    assert trials("sma_cross", space, max_trials=count, seed=8, sampling=sampling) != one
    assert one.method == sampling
    assert len(set(pairs(one))) == len(pairs(one)) == count
    assert all(fast < slow for fast, slow in pairs(one))


def test_sample_is_pinned_so_that_another_machine_may_compare():
    chosen = trials("sma_cross", LARGE, max_trials=3, seed=42, sampling="random")
    assert pairs(chosen) == [(374, 3200), (84, 4695), (822, 4426)]
    chosen = trials("sma_cross", LARGE, max_trials=3, seed=42)
    assert pairs(chosen) == [(1334, 3334), (1, 1668), (469, 1527)]


def test_sample_size_of_the_grid_is_told_without_making_it():
    space: dict[str, object] = {
        "window": {"min": 2, "max": 1_000, "step": 1},
        **{
            name: {"min": low, "max": low + 9, "step": 0.001}
            for name, low in (("oversold", 20), ("middle", 45), ("overbought", 60))
        },
    }
    chosen = trials("rsi_reversion", space, max_trials=50, seed=1)
    assert (chosen.grid_size, chosen.valid_count) == (999 * 9_001**3, None)
    assert len(chosen.params) == 50


def test_hypercube_uses_each_axis_evenly():
    space: dict[str, object] = {
        "window": {"min": 10, "max": 100, "step": 10},
        "width": {"min": 1, "max": 5.5, "step": 0.5},
    }
    chosen = trials("bollinger_reversion", space, max_trials=20, seed=3)
    windows = Counter(params["window"] for params in chosen.params)
    assert len(windows) == 10
    assert max(windows.values()) <= 4  # 2 each, but for duplicates that were drawn again


def test_sample_of_nearly_nothing_finds_what_there_is():
    space: dict[str, object] = {"fast": [2_000], "slow": {"min": 2, "max": 5_000, "step": 1}}
    chosen = trials("sma_cross", space, max_trials=2_999, seed=1)
    assert len(set(pairs(chosen))) == 2_999
    assert chosen.valid_count == 3_000


@pytest.mark.parametrize("least", [1_951, 1_000], ids=["counted", "not counted"])
def test_search_for_combinations_that_hardly_are_can_be_ended_all_along(least: int):
    looks = []

    def look() -> None:
        looks.append(True)
        if len(looks) == 1_000:
            raise InterruptedError

    space: dict[str, object] = {
        "fast": {"min": least, "max": 2_000, "step": 1},
        "slow": {"min": 2, "max": 2_000 - least + 2, "step": 1},
    }
    with pytest.raises(InterruptedError):
        trials("sma_cross", space, max_trials=10, seed=1, look=look)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, "is empty: name at least one of fast, slow"),
        ([], "must be an object, got list"),
        ({"fast": []}, "fast must have 1 to 10000 values, got 0"),
        ({"fast": list(range(10_001))}, "fast must have 1 to 10000 values, got 10001"),
        ({"fast": 5}, "fast must be a list of values or an object with min, max and step"),
        ({"fast": "5"}, "fast must be a list of values"),
        ({"speed": [1]}, "sma_cross has no parameter 'speed'; it has fast, slow"),
        ({"fast": [5.5]}, "fast must be a whole number"),
        ({"fast": [0]}, "fast must be from 1 to 2000"),
        ({"fast": {"min": 1, "max": 5}}, "a range of fast has min, max and step"),
        ({"fast": {"min": 5, "max": 1, "step": 1}}, "fast: min 5 is above max 1"),
        ({"fast": {"min": 1, "max": 5, "step": 0}}, "the step of fast must be above 0"),
        ({"fast": {"min": 1, "max": 5, "step": -1}}, "the step of fast must be above 0"),
        ({"fast": {"min": 1, "max": 5, "step": 0.5}}, "the step of fast must be a whole number"),
        ({"fast": {"min": 1, "max": 5, "step": 10**400}}, "the step of fast must be above 0"),
        ({"fast": [100], "slow": [50]}, "no combination of these values keeps the constraints"),
    ],
)
def test_space_wrong_is_refused_with_what_would_do(space: Any, said: str):
    with pytest.raises((SearchError, ParameterError), match=said):
        trials("sma_cross", space, max_trials=10, seed=1)


def test_step_nan_is_refused():
    space = {"width": json.loads('{"min": 1, "max": 5, "step": NaN}')}
    with pytest.raises(SearchError, match="the step of width must be above 0"):
        trials("bollinger_reversion", space, max_trials=10, seed=1)


def test_step_tiny_is_refused_and_not_counted_through():
    space = {"width": {"min": 1, "max": 5, "step": 5e-324}}
    with pytest.raises(SearchError, match="width must have 1 to 10000 values"):
        trials("bollinger_reversion", space, max_trials=10, seed=1)


@pytest.mark.parametrize(
    "wrong", [{"max_trials": 0}, {"max_trials": True}, {"seed": 1.5}, {"sampling": "lucky"}]
)
def test_arguments_wrong_are_refused(wrong: dict[str, Any]):
    with pytest.raises(SearchError):
        trials("sma_cross", SPACE, **{"max_trials": 10, "seed": 1, **wrong})


def test_strategy_unknown_is_refused():
    with pytest.raises(UnknownStrategyError):
        trials("nope", SPACE, max_trials=10, seed=1)


# Selection


def result(fast: int = 5, **metrics: Any) -> SweepResult:
    usual: dict[str, Any] = {
        "return_ratio": 0.5,
        "cagr_ratio": 0.4,
        "sharpe": 1.5,
        "sortino": 2.0,
        "calmar": 4.0,
        "max_drawdown_ratio": 0.1,
        "max_drawdown_ms": 1,
        "exposure_ratio": 0.5,
        "win_ratio": 0.5,
        "profit_factor": 2.0,
        "trade_count": 20,
        "expectancy_ratio": 0.01,
    }
    return SweepResult(params={"fast": fast, "slow": 50}, metrics=Metrics(**{**usual, **metrics}))


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("sharpe", 1.5),
        ("sharpe_dd_penalty", 1.5 - 0.02 * 10),
        ("return", 0.5),
        ("return_dd_penalty", 0.5 - 0.02 * 10),
        ("calmar", 4.0),
    ],
)
def test_score_takes_two_hundredths_for_a_point_of_drawdown(objective: Any, expected: float):
    assert score(result(), objective) == pytest.approx(expected)
    assert score(result(sharpe=None, calmar=None), objective) in (
        None,
        0.5,
        pytest.approx(0.3),
    )


@pytest.mark.parametrize("objective", ["sharp", "calmar_dd_penalty", "", None])
def test_score_unknown_objective_is_refused(objective: Any):
    with pytest.raises(SearchError, match="there are sharpe, sharpe_dd_penalty"):
        score(result(), objective)


def test_select_takes_the_best_that_passes():
    results = [
        result(1, sharpe=9.0, max_drawdown_ratio=0.2001),
        result(2, sharpe=8.0, trade_count=9),
        result(3, sharpe=None),
        result(4, sharpe=1.0, max_drawdown_ratio=0.2, trade_count=10),
        result(5, sharpe=2.0),
    ]
    selected = select(results, "sharpe")
    assert selected.best is not None
    assert (selected.best.trial, selected.best.score) == (4, 2.0)
    assert [each.trial for each in selected.ranked[:2]] == [4, 3]
    assert {each.trial: each.failures for each in selected.ranked if each.failures} == {
        0: ("max_drawdown 20.0% is above 20.0%",),
        1: ("trades 9 are fewer than 10",),
        2: ("sharpe has no value here",),
    }
    assert selected.reason == "best of 2 of 5 trials that passed the gates"


def test_select_none_passes_says_why():
    selected = select([result(max_drawdown_ratio=0.5, trade_count=1)] * 3, "sharpe")
    assert selected.best is None
    assert selected.failure_counts == {"max_drawdown": 3, "trades": 3}
    assert selected.reason == "none of 3 trials passed the gates (max_drawdown: 3, trades: 3)"
    assert select([], "sharpe") == Selection(best=None, ranked=(), failure_counts={})


def test_select_ties_do_not_depend_on_the_order():
    tied = [
        result(7),
        result(3),
        result(5),
        result(1, max_drawdown_ratio=0.11),
        result(5, sharpe=1),
    ]
    for seed in range(10):
        shuffled = random.Random(seed).sample(tied, len(tied))
        ranked = [each.result for each in select(shuffled, "sharpe").ranked]
        assert [each.params["fast"] for each in ranked] == [3, 5, 7, 1, 5]


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_drawdown_ratio": 20},
        {"max_drawdown_ratio": 0},
        {"max_drawdown_ratio": float("nan")},
        {"min_trade_count": -1},
        {"min_trade_count": 1.5},
    ],
)
def test_gates_wrong_are_refused(wrong: dict[str, Any]):
    with pytest.raises(SearchError):
        Gates(**wrong)
