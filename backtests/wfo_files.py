"""The files of a walk-forward: wfo.json, candidates.csv, equity_oos.csv, trades_oos.csv, folds/."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from backtests import provenance
from backtests.artifacts import Staged
from backtests.candidates import Candidate
from backtests.engine.protocol import Engine
from backtests.folds import Fold
from backtests.tune_files import TRADE_COLUMNS, trade_rows
from market.candles import to_datetime
from market.ranges import TimeRange

if TYPE_CHECKING:
    from backtests.engine.results import Trade
    from backtests.walkforward import FoldOutcome, Outcome

Equity = list[tuple[int, int, float]]  # fold, time_ms, equity


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
    files.csv("equity_oos.csv", ("fold", "time_ms", "equity"), equity, kind="equity")
    trades = (
        row for each in outcome.folds for row in trade_rows(each.fold.number, each.held.result)
    )
    files.csv("trades_oos.csv", ("fold", *TRADE_COLUMNS[1:]), trades, kind="trades")
    for each in outcome.folds:
        _write_fold(files, each)
    return result


def _write_fold(files: Staged, each: FoldOutcome) -> None:
    number = each.fold.number
    files.json(f"folds/{number}/fold.json", _fold(each), kind="fold")
    first = each.tested[0][1].result
    names = list(first.params)
    metrics = list(asdict(first.metrics))
    rows = (
        (
            *(rank, *(one["params"][name] for name in names)),
            *(one["score"], tested.score),
            *asdict(tested.result.metrics).values(),
        )
        for rank, (one, tested) in enumerate(each.tested, 1)
    )
    columns = ("rank", *(f"param_{name}" for name in names), "in_sample", "out_of_sample", *metrics)
    files.csv(f"folds/{number}/candidates.csv", columns, rows, kind="fold_candidates")


def _stitched(outcome: Outcome) -> Equity:
    """The equity of who followed the procedure: each fold's winner on its own test window, one
    after the other, the next with the money of the one before; in cash between windows."""
    rows: Equity = []
    money = outcome.order.tune.config.initial_cash
    for each in outcome.folds:
        result = each.held.result
        factor = money / outcome.order.tune.config.initial_cash
        values = (result.equity * factor).tolist()
        rows += [
            (each.fold.number, time_ms, value)
            for time_ms, value in zip(result.time_ms.tolist(), values, strict=True)
        ]
        money = values[-1]
    return rows


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

    trades: list[Trade] = [trade for each in outcome.folds for trade in each.held.result.trades]
    metrics = stats.measure(
        np.array([row[2] for row in equity]),
        np.array([row[1] for row in equity]),
        trades,
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
    winner, tested = each.tested[0]
    return {
        "number": each.fold.number,
        "tune_id": each.job_id,
        **_windows(each.fold),
        "winner": dict(winner["params"]),
        "in_sample": winner["score"],
        "out_of_sample": tested.score,
        "metrics": asdict(tested.result.metrics),
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
