"""A tune: the best parameters of a strategy in sample, and what became of them out of sample.

The candles are split once; the split bar is the first out of sample and in no other half. The
search is given a copy of the in-sample part, and nothing else: the out-of-sample part is cut out
only when the winner is fixed. `walkforward` has tunes of its folds done that have no such part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from backtests import artifacts, data, engines, leaderboard, search, tune_files
from backtests.data import Dataset
from backtests.engine.protocol import Engine
from backtests.engine.protocol import StoppedError as EngineStoppedError
from backtests.engine.results import SweepResult
from backtests.fields import OrderError
from backtests.leaderboard import Leader
from backtests.models import Job, JobType, Status
from backtests.search import Gates, Objective, Ranked, SearchError, Selection, Trials
from backtests.strategies.registry import strategy
from backtests.strategies.strategy import ParameterError, Params
from backtests.tune_order import MIN_IN_SAMPLE, MIN_OUT_OF_SAMPLE, TuneOrder
from backtests.work import Done, JobError, Running, StoppedError

if TYPE_CHECKING:
    from backtests.engine.candles import Candles
    from backtests.engine.results import Result

TOP_COUNT = 10  # of a result's `top`
LEADER_COUNT = 5
FOLD = "fold"  # of the payload: what makes it the tune of a walk-forward's fold


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search came to: ``best`` is the first of ``selection``."""

    trials: Trials
    selection: Selection
    best: Ranked


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """A combination on candles that did not choose it. ``score`` is None where it has no value."""

    result: Result
    score: float | None


def run(running: Running, *, now_ms: int) -> Done:
    """Do a tune. Raises JobError and StoppedError."""
    claim = running.claim
    order = parsed(claim.payload)
    dataset = data.prepare(order.series, order.wanted, now_ms=now_ms, running=running)
    engine = engines.engine(order.engine_id)
    fold = claim.payload.get(FOLD)
    split = count = len(dataset.candles)
    if not fold:
        split = split_bar(count, order.oos_ratio, lack=dataset.lack)
    elif count < MIN_IN_SAMPLE:
        raise JobError(
            f"{count} candles are too few to search: {MIN_IN_SAMPLE} are needed{dataset.lack}"
        )
    found = find(order, dataset.candles.part(0, split), engine=engine, running=running)
    running.check()
    leaders: list[Tested] = []
    if not fold:
        leaders = _tested_leaders(
            found, order, dataset, split=split, engine=engine, running=running
        )
    outcome = Outcome(order=order, dataset=dataset, split=split, found=found, leaders=leaders)
    result = outcome.result(top_count=fold["top_count"] if fold else TOP_COUNT)
    with artifacts.staged(claim, look=running.check) as files:
        tune_files.write(files, outcome, engine=engine, result=result)
    keep = files.keeper(revision=dataset.fingerprint.shown)
    post = leaderboard.poster(claim, order, outcome.entries)

    def keep_all() -> None:
        keep()
        post()
        if claim.parent_id is not None:
            _count_folds(claim.parent_id)

    return Done(result=result, keep=keep_all)


def _count_folds(parent_id: UUID) -> None:
    """Have a walk-forward, which no worker has meanwhile, show how many folds are searched.

    Who ends a fold has locked its row (`jobs.finish`): of two that end together the second counts
    both.
    """
    folds = Job.objects.filter(parent_id=parent_id, type=JobType.TUNE)
    parent = Job.objects.only("progress").get(pk=parent_id)
    parent.progress |= {
        "phase": "search",
        "folds_total": folds.count(),
        "folds_done": folds.filter(status=Status.SUCCEEDED).count(),
    }
    parent.save(update_fields=["progress"])


def parsed(payload: Mapping[str, Any]) -> TuneOrder:
    """The order of a job's payload. Raises JobError."""
    try:
        return TuneOrder.parse({name: it for name, it in payload.items() if name != FOLD})
    except OrderError as error:
        raise JobError(f"bad payload: {error}") from error


def split_bar(count: int, oos_ratio: float, *, lack: str = "") -> int:
    """Where the out-of-sample part begins. Raises JobError where either part would be too short.

    ``lack``: what the error says of candles that are missing.
    """
    out_of_sample = round(count * oos_ratio)
    in_sample = count - out_of_sample
    if in_sample < MIN_IN_SAMPLE or out_of_sample < MIN_OUT_OF_SAMPLE:
        raise JobError(
            f"{count} candles are too few: oos_ratio {oos_ratio:g} leaves {in_sample} in sample "
            f"and {out_of_sample} out of sample, and {MIN_IN_SAMPLE} and {MIN_OUT_OF_SAMPLE} are "
            f"needed{lack}"
        )
    return in_sample


def find(order: TuneOrder, in_sample: Candles, *, engine: Engine, running: Running) -> Found:
    """Try the combinations on these candles and choose.

    Raises JobError where none passes, and StoppedError.
    """
    try:
        trials = search.trials(
            order.strategy_id,
            order.param_space,
            max_trials=order.max_trials,
            seed=order.seed,
            sampling=order.sampling,
            look=running.check,
        )
    except (SearchError, ParameterError) as error:
        raise JobError(f"param_space: {error}") from error
    watch = _Watch(running, order.objective, order.gates, total=len(trials.params))
    try:
        results = engine.run_sweep(
            order.config,
            in_sample,
            trials.params,
            progress=watch.show,
            should_stop=running.should_stop,
        )
    except EngineStoppedError as error:
        raise StoppedError from error
    selection = search.select(results, order.objective, order.gates)
    if selection.best is None:
        raise JobError(selection.reason)
    return Found(trials=trials, selection=selection, best=selection.best)


class _Watch:
    """The progress of a search: how many trials are done, and the best so far."""

    def __init__(self, running: Running, objective: Objective, gates: Gates, *, total: int) -> None:
        self._running, self._objective, self._gates = running, objective, gates
        self._total = total
        self._best: Ranked | None = None
        running.report(phase="search", trials_done=0, trials_total=total, best=None)

    def show(self, done: int, latest: Sequence[SweepResult]) -> None:
        best = search.select(latest, self._objective, self._gates).best
        if best is not None and _score(best) > _score(self._best):
            self._best = best
            self._running.report(best={"params": dict(best.result.params), "score": best.score})
        self._running.report(trials_done=done, trials_total=self._total)


def _score(one: Ranked | None) -> float:
    return float("-inf") if one is None or one.score is None else one.score


def run_on(
    order: TuneOrder,
    candles: Candles,
    params: Params,
    *,
    bars: tuple[int, int],
    engine: Engine,
) -> Tested:
    """Run a combination on ``[start, stop)`` of the candles, with its warm-up before them."""
    start, stop = bars
    history = strategy(order.strategy_id).warm_up_bars(params)
    part = candles.part(start, stop, history_bars=history)
    result = engine.run_single(order.config, part, params)
    measured = SweepResult(params=result.params, metrics=result.metrics)
    return Tested(result=result, score=search.score(measured, order.objective))


def _tested_leaders(
    found: Found,
    order: TuneOrder,
    dataset: Dataset,
    *,
    split: int,
    engine: Engine,
    running: Running,
) -> list[Tested]:
    """The winner and those next to it, out of sample; their order stays that of the search."""
    bars = (split, len(dataset.candles))

    def tested(each: Ranked) -> Tested:
        running.check()
        return run_on(order, dataset.candles, each.result.params, bars=bars, engine=engine)

    eligible = [each for each in found.selection.ranked if each.score is not None]
    return [tested(each) for each in eligible[:LEADER_COUNT]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A tune that is done. ``leaders``: the first few out of sample, none in a fold's tune."""

    order: TuneOrder
    dataset: Dataset
    split: int
    found: Found
    leaders: Sequence[Tested]

    @property
    def overfit_gap(self) -> float | None:
        """The winner's objective in sample minus that out of sample; None where that has none."""
        inside = self.found.best.score
        outside = self.leaders[0].score if self.leaders else None
        return None if inside is None or outside is None else inside - outside

    @property
    def entries(self) -> list[Leader]:
        """For the leaderboard, by the out-of-sample objective; those without one are left out."""
        pairs = zip(self.found.selection.ranked, self.leaders, strict=False)
        return [
            Leader(
                params=tested.result.params,
                metrics={
                    "in_sample": asdict(ranked.result.metrics),
                    "out_of_sample": asdict(tested.result.metrics),
                },
                score=tested.score,
            )
            for ranked, tested in pairs
            if tested.score is not None
        ]

    def result(self, *, top_count: int) -> dict[str, Any]:
        """What the job's row keeps: small, whatever the number of trials."""
        best, selection = self.found.best, self.found.selection
        outside = self.leaders[0] if self.leaders else None
        return {
            "strategy_id": self.order.strategy_id,
            "objective": self.order.objective,
            "best": {
                "params": dict(best.result.params),
                "in_sample": {"score": best.score, "metrics": asdict(best.result.metrics)},
                "out_of_sample": outside
                and {"score": outside.score, "metrics": asdict(outside.result.metrics)},
            },
            "overfit_gap": self.overfit_gap,
            "top": [
                {
                    "params": dict(each.result.params),
                    "score": each.score,
                    "metrics": asdict(each.result.metrics),
                }
                for each in selection.ranked[:top_count]
                if each.score is not None
            ],
            "trials": {
                "method": self.found.trials.method,
                "seed": self.found.trials.seed,
                "count": len(selection.ranked),
                "passed_count": sum(each.score is not None for each in selection.ranked),
                "failure_counts": dict(selection.failure_counts),
                "grid_size": self.found.trials.grid_size,
                "valid_count": self.found.trials.valid_count,
            },
            "bars": {
                "in_sample": self.split,
                "out_of_sample": len(self.dataset.candles) - self.split,
            },
            "data": self.dataset.lineage,
        }
