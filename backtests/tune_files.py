"""The files of a tune: tune.json, trials.csv, equity_best.csv and trades_best.csv."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from backtests import provenance
from backtests.artifacts import Staged
from backtests.engine.protocol import Engine

if TYPE_CHECKING:
    from backtests.engine.results import Result
    from backtests.tune import Outcome

IN_SAMPLE, OUT_OF_SAMPLE = "in_sample", "out_of_sample"
EQUITY_COLUMNS = ("part", "time_ms", "equity")
TRADE_COLUMNS = (
    *("part", "entry_ms", "exit_ms", "size", "entry_price", "exit_price", "fee"),
    *("pnl", "return_ratio", "reason"),
)


def write(files: Staged, outcome: Outcome, *, engine: Engine, result: Mapping[str, Any]) -> None:
    """Write all of them. The winner is run once more in sample, for its equity and trades."""
    order, candles = outcome.order, outcome.dataset.candles
    best = engine.run_single(
        order.config, candles.part(0, outcome.split), outcome.found.best.result.params
    )
    parts = {IN_SAMPLE: best}
    if outcome.leaders:
        parts[OUT_OF_SAMPLE] = outcome.leaders[0].result
    files.json(
        "tune.json",
        {
            **provenance.of_run(files.claim, outcome.dataset, engine),
            "config": dict(files.claim.payload) | order.payload(),
            "outputs": dict(result),
        },
        kind="tune",
    )
    names, rows = _trials(outcome)
    files.csv("trials.csv", names, rows, kind="trials")
    equity = (row for name, each in parts.items() for row in equity_rows(name, each))
    files.csv("equity_best.csv", EQUITY_COLUMNS, equity, kind="equity")
    trades = (row for name, each in parts.items() for row in trade_rows(name, each))
    files.csv("trades_best.csv", TRADE_COLUMNS, trades, kind="trades")


def _trials(outcome: Outcome) -> tuple[tuple[str, ...], Iterator[tuple[object, ...]]]:
    """All trials, the best first: ``param_…`` columns, the score, why not, then the metrics."""
    ranked = outcome.found.selection.ranked
    metrics = [each.name for each in fields(ranked[0].result.metrics)]
    params = [f"param_{name}" for name in ranked[0].result.params]
    rows = (
        (
            *(rank, each.trial, *each.result.params.values()),
            *(each.score, "; ".join(each.failures)),
            *(getattr(each.result.metrics, name) for name in metrics),
        )
        for rank, each in enumerate(ranked, 1)
    )
    return ("rank", "trial", *params, "score", "failures", *metrics), rows


def equity_rows(part: object, result: Result) -> Iterator[tuple[object, ...]]:
    """The equity at each close, behind a column that says which part it is of."""
    for time_ms, equity in zip(result.time_ms.tolist(), result.equity.tolist(), strict=True):
        yield part, time_ms, equity


def trade_rows(part: object, result: Result) -> Iterator[tuple[object, ...]]:
    """The trades, in the order of TRADE_COLUMNS."""
    for trade in result.trades:
        values = asdict(trade) | {"pnl": trade.pnl, "return_ratio": trade.return_ratio}
        yield part, *(values[name] for name in TRADE_COLUMNS[1:])
