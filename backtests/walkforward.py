"""A walk-forward: tunes of folds, whose best are run on the windows right after.

Done in two goes, between which nobody's worker waits: the first fetches and pins the candles and
orders a tune for each fold's train window; the second, when the last of these has ended, runs what
they chose on the test windows. What the first go found is kept in the children's payload.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backtests import artifacts, candidates, data, engines, folds, leaderboard, tune, wfo_files
from backtests.candidates import Candidate
from backtests.data import Dataset
from backtests.engine.protocol import Engine
from backtests.fields import OrderError
from backtests.folds import Fold, TooFewFoldsError
from backtests.job_orders import Order
from backtests.leaderboard import Leader
from backtests.models import Job, JobType, Status
from backtests.tune import FOLD, Tested
from backtests.tune_order import MIN_IN_SAMPLE
from backtests.wfo_order import MIN_TEST_BARS, WfoOrder
from backtests.work import Done, JobError, Running, Wait
from market.ranges import TimeRange

if TYPE_CHECKING:
    from backtests.engine.candles import Candles
    from backtests.engine.results import Result
    from backtests.stats import Metrics
    from backtests.strategies.strategy import Params


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A candidate of a fold: the tune's objective, and that on the test window, with its metrics
    there. No equity and no trades: a thousand candidates' would fill the memory."""

    params: Params
    in_sample: float
    out_of_sample: float | None
    metrics: Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldOutcome:
    """A fold whose tune went well. ``tested``: its best on the test window, in the tune's order.

    ``held``: its winner on the part of that which is before the next fold's.
    """

    fold: Fold
    job_id: str
    tested: Sequence[Scored]
    held: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A walk-forward that is done. ``left_out``: folds without a tune, and why; ``drift``: how the
    candles changed after the tunes began."""

    order: WfoOrder
    dataset: Dataset
    folds: Sequence[FoldOutcome]
    candidates: Sequence[Candidate]
    left_out: Mapping[int, str]
    drift: str | None

    @property
    def leaders(self) -> list[Candidate]:
        """Those to be recommended, the best first."""
        eligible = [each for each in self.candidates if each.eligible]
        return eligible[: self.order.top_count]


def run(running: Running, *, now_ms: int) -> Done | Wait:
    """Do a walk-forward's first or second go. Raises JobError and StoppedError."""
    try:
        order = WfoOrder.parse(running.claim.payload)
    except OrderError as error:
        raise JobError(f"bad payload: {error}") from error
    children = sorted(
        # What each came to is read with its fold: of all at once it may be megabytes.
        Job.objects.filter(parent_id=running.claim.job_id, type=JobType.TUNE).defer("result"),
        key=lambda child: child.payload[FOLD]["number"],
    )
    if not children:
        return _begin(order, running, now_ms=now_ms)
    return _end(order, children, running, now_ms=now_ms)


# --- the first go ---


def _begin(order: WfoOrder, running: Running, *, now_ms: int) -> Wait:
    dataset = data.prepare(order.tune.series, order.tune.wanted, now_ms=now_ms, running=running)
    found = _folds(order, dataset.whole)
    for fold in found:
        for window, name, least in (
            (fold.train, "train", MIN_IN_SAMPLE),
            (fold.held, "test", MIN_TEST_BARS),
        ):
            title = f"the {name} window of fold {fold.number}"
            _bars(dataset.candles, window, title, least=least, lack=dataset.lack)
    running.report(phase="search", folds_total=len(found), folds_done=0)
    parent = Job.objects.get(pk=running.claim.job_id)
    return Wait(children=[_child(order, fold, dataset, parent) for fold in found])


def _folds(order: WfoOrder, whole: TimeRange) -> list[Fold]:
    """The folds of what is there: the range's end may not have come yet."""
    end_ms = min(order.span.end_ms, whole.end_ms)
    try:
        span = TimeRange(start_ms=order.span.start_ms, end_ms=end_ms)
        return folds.enough(span, order.windows, min_folds=order.min_folds)
    except TooFewFoldsError as error:
        raise JobError(str(error)) from error
    except ValueError:
        raise JobError("no candle of wfo_config's range has closed yet") from None


def _child(order: WfoOrder, fold: Fold, dataset: Dataset, parent: Job) -> Order:
    payload = order.tune.payload()
    payload["data_config"] |= {
        "start_ts": fold.train.start_ms // 1_000,
        "end_ts": fold.train.end_ms // 1_000,
    }
    del payload["oos_ratio"]  # its test window is the parent's business
    payload[FOLD] = {
        "number": fold.number,
        "top_count": order.top_count,
        "data": dataset.lineage,
    }
    return Order(
        type=JobType.TUNE,
        payload=payload,
        workspace_id=parent.workspace_id,
        priority=parent.priority,
    )


# --- the second go ---


def _end(order: WfoOrder, children: Sequence[Job], running: Running, *, now_ms: int) -> Done:
    searched = sum(child.status == Status.SUCCEEDED for child in children)
    running.report(phase="search", folds_total=len(children), folds_done=searched)
    done, left_out = _sorted_out(order, children)
    # Counted anew: now those whose test window is run.
    running.report(phase="test", folds_done=0)
    pinned = children[0].payload[FOLD]["data"]
    whole = TimeRange(start_ms=pinned["start_ms"], end_ms=pinned["end_ms"])
    dataset = data.read(order.tune.series, whole, now_ms=now_ms, running=running)
    drift = data.drifted(pinned, dataset.fingerprint)
    if drift:
        running.note("warn", drift)
    engine = engines.engine(order.tune.engine_id)
    by_number = {fold.number: fold for fold in _folds(order, whole)}
    outcomes: list[FoldOutcome] = []
    for child in done:
        fold = by_number[child.payload[FOLD]["number"]]
        outcomes.append(
            _tested(order, fold, child, dataset.candles, engine=engine, running=running)
        )
        running.report(folds_done=len(outcomes))
    outcome = Outcome(
        order=order,
        dataset=dataset,
        folds=outcomes,
        candidates=candidates.ranked(
            {
                each.fold.number: [(one.params, one.out_of_sample) for one in each.tested]
                for each in outcomes
            }
        ),
        left_out=left_out,
        drift=drift,
    )
    return _filed(outcome, running, engine=engine)


def _sorted_out(order: WfoOrder, children: Sequence[Job]) -> tuple[list[Job], dict[int, str]]:
    """The children that went well, and why the others did not. Raises JobError."""
    done = [child for child in children if child.status == Status.SUCCEEDED]
    left_out = {
        child.payload[FOLD]["number"]: ": ".join(filter(None, (child.status, child.error)))
        for child in children
        if child.status != Status.SUCCEEDED
    }
    if left_out and not order.allow_partial:
        reasons = "; ".join(f"fold {number}: {why}" for number, why in left_out.items())
        raise JobError(f"{len(left_out)} of {len(children)} folds have no tune: {reasons}")
    if len(done) < order.min_folds:
        reasons = "; ".join(f"fold {number}: {why}" for number, why in left_out.items())
        raise JobError(f"{len(done)} folds are left, and min_folds is {order.min_folds}: {reasons}")
    return done, left_out


def _tested(
    order: WfoOrder,
    fold: Fold,
    child: Job,
    candles: Candles,
    *,
    engine: Engine,
    running: Running,
) -> FoldOutcome:
    result = Job.objects.values_list("result", flat=True).get(pk=child.pk) or {}
    top = result["top"][: order.top_count]

    def run_on(params: Params, window: TimeRange) -> Tested:
        running.check()
        bars = _bars(candles, window, f"the test window of fold {fold.number}")
        return tune.run_on(order.tune, candles, params, bars=bars, engine=engine)

    def scored(one: Mapping[str, Any]) -> Scored:
        found = run_on(one["params"], fold.test)
        return Scored(
            params=found.result.params,
            in_sample=one["score"],
            out_of_sample=found.score,
            metrics=found.result.metrics,
        )

    tested = [scored(one) for one in top]
    held = run_on(tested[0].params, fold.held).result
    return FoldOutcome(fold=fold, job_id=str(child.pk), tested=tested, held=held)


def _bars(
    candles: Candles, window: TimeRange, name: str, *, least: int = MIN_TEST_BARS, lack: str = ""
) -> tuple[int, int]:
    """The bars that open in a window. Raises JobError where there are too few.

    ``lack``: what the error says of the whole range.
    """
    start, stop = candles.time_ms.searchsorted([window.start_ms, window.end_ms]).tolist()
    if stop - start < least:
        raise JobError(f"{name} has {stop - start} candles, and {least} are needed{lack}")
    return start, stop


def _filed(outcome: Outcome, running: Running, *, engine: Engine) -> Done:
    claim = running.claim
    with artifacts.staged(claim, look=running.check) as files:
        result = wfo_files.write(files, outcome, engine=engine)
    keep = files.keeper(revision=outcome.dataset.fingerprint.shown)
    leaders = [
        Leader(params=each.params, metrics=wfo_files.facts(each), score=each.score)
        for each in outcome.leaders
    ]
    post = leaderboard.poster(claim, outcome.order.tune, leaders)
    if not leaders:
        share = f"{candidates.MIN_COVERAGE:.0%}"
        running.note("warn", f"no candidate was among the best of {share} of the folds")

    def keep_all() -> None:
        keep()
        post()

    return Done(result=result, keep=keep_all)
