"""What candidates of a walk-forward are worth."""

from __future__ import annotations

from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtests.candidates import Candidate, ranked


def one(*scores: float, folds: int) -> Candidate:
    return Candidate(params={"fast": 1}, scores=dict(enumerate(scores, 1)), fold_count=folds)


def test_score_by_hand():
    # mean 1, sample deviation 1, worst 0: (1 - 0.5) · 3/4
    assert one(0.0, 1.0, 2.0, folds=4).score == pytest.approx(0.375)


def test_score_worst_fold_below_the_threshold_costs():
    # mean 0, deviation 1, worst -1: (0 - 0.5 - 0.3) · 1
    assert one(-1.0, 0.0, 1.0, folds=3).score == pytest.approx(-0.8)


@given(scores=st.lists(st.floats(-10, 10), min_size=2, max_size=8), more=st.integers(0, 3))
def test_score_is_the_formula(scores: list[float], more: int):
    folds = len(scores) + more
    expected = fmean(scores) - 0.5 * stdev(scores) - 0.3 * max(0.0, -min(scores))
    assert one(*scores, folds=folds).score == pytest.approx(expected * len(scores) / folds)


@pytest.mark.parametrize(("count", "eligible"), [(2, False), (3, True), (5, True)])
def test_eligible_from_three_folds_of_five_on(count: int, eligible: bool):
    assert one(*[1.0] * count, folds=5).eligible is eligible


def test_ranked_eligible_ones_first_then_by_score():
    a, b, rare = {"fast": 1}, {"fast": 2}, {"fast": 3}
    found = ranked(
        {
            1: [(a, 1.0), (b, 2.0), (rare, 9.0)],
            2: [(b, 2.0), (a, 1.0)],
            3: [(a, 1.0), (b, None)],
        }
    )
    assert [(each.params["fast"], each.eligible) for each in found] == [
        (1, True),
        (2, True),
        (3, False),
    ]
    assert found[1].scores == {1: 2.0, 2: 2.0, 3: 0.0}


def test_ranked_same_parameters_in_another_order_are_the_same_candidate():
    [found] = ranked({1: [({"a": 1, "b": 2}, 1.0)], 2: [({"b": 2, "a": 1}, 3.0)]})
    assert found.scores == {1: 1.0, 2: 3.0}
