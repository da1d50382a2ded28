"""How a range is cut into folds."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtests.folds import DAY_MS, Fold, TooFewFoldsError, Windows, enough, folds
from market.ranges import TimeRange

START_MS = 1_704_067_200_000  # 2024-01-01


def days(start: int, end: int) -> TimeRange:
    return TimeRange(start_ms=START_MS + start * DAY_MS, end_ms=START_MS + end * DAY_MS)


def test_folds_test_right_after_train_stepping():
    windows = Windows(train_days=60, test_days=20, step_days=20)
    assert folds(days(0, 125), windows) == [
        Fold(number=1, train=days(0, 60), test=days(60, 80), held=days(60, 80)),
        Fold(number=2, train=days(20, 80), test=days(80, 100), held=days(80, 100)),
        Fold(number=3, train=days(40, 100), test=days(100, 120), held=days(100, 120)),
    ]


def test_folds_that_overlap_are_held_until_the_next_begins():
    windows = Windows(train_days=10, test_days=6, step_days=2)
    assert [each.held for each in folds(days(0, 20), windows)] == [
        days(10, 12),
        days(12, 14),
        days(14, 20),
    ]


@pytest.mark.parametrize(("end", "count"), [(79, 0), (80, 1), (99, 1), (100, 2)])
def test_folds_only_whole_ones(end: int, count: int):
    assert len(folds(days(0, end), Windows(train_days=60, test_days=20, step_days=20))) == count


lengths = st.integers(1, 40)


@given(total=st.integers(1, 400), train=lengths, test=lengths, step=lengths)
def test_folds_always_keep_the_rules(total: int, train: int, test: int, step: int):
    whole = days(0, total)
    found = folds(whole, Windows(train_days=train, test_days=test, step_days=step))
    for fold in found:
        assert fold.train.end_ms == fold.test.start_ms == fold.held.start_ms
        assert (fold.train.length_ms, fold.test.length_ms) == (train * DAY_MS, test * DAY_MS)
        assert whole.start_ms <= fold.train.start_ms
        assert fold.held.end_ms <= fold.test.end_ms <= whole.end_ms
    for one, other in pairwise(found):
        assert other.train.start_ms - one.train.start_ms == step * DAY_MS
        assert one.held.end_ms <= other.held.start_ms
    left_ms = whole.end_ms - (found[-1].train.start_ms + step * DAY_MS if found else START_MS)
    assert left_ms < (train + test) * DAY_MS


@given(total=st.integers(1, 400), train=lengths, test=lengths, step=lengths)
def test_enough_says_what_would_do(total: int, train: int, test: int, step: int):
    windows = Windows(train_days=train, test_days=test, step_days=step)
    try:
        enough(days(0, total), windows, min_folds=3)
    except TooFewFoldsError as error:
        needed = int(str(error).split("min_folds is 3: ")[1].split()[0])
        assert len(folds(days(0, needed), windows)) == 3
        assert len(folds(days(0, needed - 1), windows)) == 2


def test_enough_too_few_says_how_many_there_are():
    windows = Windows(train_days=60, test_days=20, step_days=20)
    with pytest.raises(TooFewFoldsError, match=r"holds 2 folds, and min_folds is 3: 120 days"):
        enough(days(0, 100), windows, min_folds=3)
