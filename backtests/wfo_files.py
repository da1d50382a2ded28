"""The files of a walk-forward: wfo.json, candidates.csv, equity_oos.csv, trades_oos.csv, folds/."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from backtests import provenance
from backtests.artifacts import Staged
from backtests.candidates import Candidate
from backtests.engine.protocol import Engine
from backtests.folds import Fold
from backtests.tune_files import EQUITY_COLUMNS, TRADE_COLUMNS, equity_rows, trade_rows
from market.candles import to_datetime
from market.ranges import TimeRange

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from backtests.walkforward import FoldOutcome, Outcome

    Equity = list[NDArray[np.float64]]  # of each fold, one account carried on


def write(files: Staged, outcome: Outcome, *, engine: Engine) -> dict[str, Any]:
    """Write all of them; the result that the job's row keeps."""
    equity = _stitched(outcome)
    result = _result(outcome, equity)
    files.json(
        "wfo.json",
        {
            **provenance.of_run(files.claim, outcome.dataset, engine),
            "config": outcome.order.payload(),
            "outputs": result,
        },
        kind="wfo",
    )
    files.csv("candidates.csv", *_candidates(outcome), kind="candidates")
    rows = (
        row
        for each, values in zip(outcome.folds, equity, strict=True)
        for row in equity_rows(each.fold.number, replace(each.held, equity=values))
    )
    files.csv("equity_oos.csv", ("fold", *EQUITY_COLUMNS[1:]), rows, kind="equity")
    trades = (row for each in outcome.folds for row in trade_rows(each.fold.number, each.held))
    files.csv("trades_oos.csv", ("fold", *TRADE_COLUMNS[1:]), trades, kind="trades")
    for each in outcome.folds:
        _write_fold(files, each)
    return result


def _write_fold(files: Staged, each: FoldOutcome) -> None:
    number = each.fold.number
    files.json(f"folds/{number}/fold.json", _fold(each), kind="fold")
    names = list(each.tested[0].params)
    metrics = list(asdict(each.tested[0].metrics))
    rows = (
        (
            *(rank, *(one.params[name] for name in names)),
            *(one.in_sample, one.out_of_sample),
            *asdict(one.metrics).values(),
        )
        for rank, one in enumerate(each.tested, 1)
    )
    columns = ("rank", *(f"param_{name}" for name in names), "in_sample", "out_of_sample", *metrics)
    files.csv(f"folds/{number}/candidates.csv", columns, rows, kind="fold_candidates")


def _stitched(outcome: Outcome) -> Equity:
    """The equity of who followed the procedure: each fold's winner on its own test window, one
    after the other, the next with the money of the one before; in cash between windows."""
    cash = outcome.order.tune.config.initial_cash
    stitched: Equity = []
    for each in outcome.folds:
        money = float(stitched[-1][-1]) if stitched else cash
        stitched.append(each.held.equity * (money / cash))
    return stitched


def _result(outcome: Outcome, equity: Equity) -> dict[str, Any]:
    order = outcome.order
    leaders = [{"params": dict(each.params)} | facts(each) for each in outcome.leaders]
    return {
        "strategy_id": order.tune.strategy_id,
        "objective": order.tune.objective,
        "best": leaders[0] if leaders else None,
        "top": leaders,
        "candidate_count": len(outcome.candidates),
        "out_of_sample": _measured(outcome, equity),
        "folds": [_fold(each) for each in outcome.folds],
        "left_out": {str(number): why for number, why in outcome.left_out.items()},
        "drift": outcome.drift,
        "data": outcome.dataset.lineage,
    }


def _measured(outcome: Outcome, equity: Equity) -> dict[str, Any]:
    """The metrics of the stitched equity, by the same definitions as a run's."""
    import numpy as np

    from backtests import stats

    metrics = stats.measure(
        np.concatenate(equity),
        np.concatenate([each.held.time_ms for each in outcome.folds]),
        [trade for each in outcome.folds for trade in each.held.trades],
        outcome.order.tune.config.timeframe_ms,
    )
    return {"metrics": asdict(metrics)}


def facts(one: Candidate) -> dict[str, Any]:
    """What a candidate came to on the folds' test windows."""
    return {
        "score": one.score,
        "coverage": one.coverage,
        "mean_oos": one.mean,
        "stdev_oos": one.stdev,
        "worst_fold_oos": one.worst,
        "fold_scores": {str(number): score for number, score in one.scores.items()},
    }


def _fold(each: FoldOutcome) -> dict[str, Any]:
    winner = each.tested[0]
    return {
        "number": each.fold.number,
        "tune_id": each.job_id,
        **_windows(each.fold),
        "winner": dict(winner.params),
        "in_sample": winner.in_sample,
        "out_of_sample": winner.out_of_sample,
        "metrics": asdict(winner.metrics),
    }


def _windows(fold: Fold) -> dict[str, Any]:
    return {name: _shown(getattr(fold, name)) for name in ("train", "test", "held")}


def _shown(window: TimeRange) -> list[str]:
    return [
        f"{to_datetime(at_ms):%Y-%m-%dT%H:%M:%SZ}" for at_ms in (window.start_ms, window.end_ms)
    ]


def _candidates(outcome: Outcome) -> tuple[tuple[str, ...], Iterator[tuple[object, ...]]]:
    """All candidates, eligible or not, in their order."""
    names = list(outcome.candidates[0].params)
    numbers = [each.fold.number for each in outcome.folds]
    columns = (
        *("rank", *(f"param_{name}" for name in names), "eligible", "score", "coverage"),
        *("mean_oos", "stdev_oos", "worst_fold_oos", *(f"fold_{number}" for number in numbers)),
    )
    rows = (
        (
            *(rank, *(each.params[name] for name in names)),
            *(each.eligible, each.score, each.coverage, each.mean, each.stdev, each.worst),
            *(each.scores.get(number) for number in numbers),
        )
        for rank, each in enumerate(outcome.candidates, 1)
    )
    return columns, rows
