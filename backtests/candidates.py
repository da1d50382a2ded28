"""The candidates of a walk-forward: how each did on the test windows, and what that is worth.

``score = (mean − 0.5 · stdev − 0.3 · max(0, THRESHOLD − worst)) · coverage``, higher is better.
Mean, sample standard deviation and worst are of the objective on the test windows of the folds
among whose first ``leaderboard_top_k`` a candidate was; coverage is their share of all folds that
were done. An objective without a value on a window (no trades, no drawdown to divide by) counts as
0 there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from backtests.strategies.strategy import Number, Params

MIN_COVERAGE = 0.6
STDEV_WEIGHT, WORST_WEIGHT = 0.5, 0.3
THRESHOLD = 0.0  # of the worst fold: below it the candidate lost there

Key = tuple[tuple[str, Number], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Parameters, and their objective by the number of each fold they were chosen in."""

    params: Params
    scores: Mapping[int, float]
    fold_count: int

    @property
    def coverage(self) -> float:
        return len(self.scores) / self.fold_count

    @property
    def eligible(self) -> bool:
        return self.coverage >= MIN_COVERAGE

    @property
    def mean(self) -> float:
        return fmean(self.scores.values())

    @property
    def stdev(self) -> float:
        return stdev(self.scores.values()) if len(self.scores) > 1 else 0.0

    @property
    def worst(self) -> float:
        return min(self.scores.values())

    @property
    def score(self) -> float:
        short = max(0.0, THRESHOLD - self.worst)
        return (self.mean - STDEV_WEIGHT * self.stdev - WORST_WEIGHT * short) * self.coverage


def key(params: Params) -> Key:
    """Parameters as a key, whatever their order."""
    return tuple(sorted(params.items()))


def ranked(
    folds: Mapping[int, Sequence[tuple[Params, float | None]]],
) -> list[Candidate]:
    """The candidates of all folds, given with their objectives: the eligible ones first, the best
    before the others; equal ones by their parameters."""
    scores: dict[Key, dict[int, float]] = {}
    params: dict[Key, Params] = {}
    for number, tested in folds.items():
        for each, value in tested:
            params.setdefault(key(each), each)
            scores.setdefault(key(each), {})[number] = 0.0 if value is None else value
    found = [
        Candidate(params=params[each], scores=scores[each], fold_count=len(folds))
        for each in scores
    ]
    return sorted(found, key=lambda one: (not one.eligible, -one.score, key(one.params)))
