"""What a run's page shows: its words and numbers as text, and what its scripts are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.urls import reverse

from backtests import artifacts, lineage, metric_words, shown, trials
from backtests.artifacts import ArtifactError
from backtests.asked import WFO
from backtests.candidates import MIN_COVERAGE
from backtests.models import LIVE, Artifact, Job, JobEvent, Status
from backtests.strategies.registry import STRATEGIES
from market.candles import to_datetime

TOP_COUNT = 20  # trials and candidates in a table
MAX_EVENTS = 200
MAX_FOLD_COLUMNS = 12
_ORDER = (
    *("workspace_id", "strategy_id", "objective", "data_config", "param_space", "gates"),
    *("wfo_config", "oos_ratio", "max_trials", "sampling", "seed", "engine_id", "engine_config"),
)


def what(row: Job) -> dict[str, str]:
    """What a run is about, from what was asked; it may be a payload that nobody understands."""
    payload = row.payload if isinstance(row.payload, Mapping) else {}
    data = payload.get("data_config")
    data = data if isinstance(data, Mapping) else {}
    strategy_id = str(payload.get("strategy_id", ""))
    known = STRATEGIES.get(strategy_id)
    return {
        "strategy": known.title if known else strategy_id or "?",
        "objective": str(payload.get("objective", "")),
        "market": " ".join(str(data.get(name, "?")) for name in ("exchange", "symbol")),
        "timeframe": str(data.get("timeframe", "")),
        "range": f"{_day(data.get('start_ts'))} – {_day(data.get('end_ts'))}",
    }


def _day(seconds: Any) -> str:
    if type(seconds) is not int:
        return str(seconds)[:16] if seconds else "?"
    return f"{to_datetime(seconds * 1_000):%Y-%m-%d %H:%M}".removesuffix(" 00:00")


def shown_run(row: Job) -> dict[str, Any]:
    """All that the page's template is given."""
    files = {each.kind: each for each in Artifact.objects.filter(job=row).order_by("-path")}
    result = row.result if isinstance(row.result, Mapping) else None
    page: dict[str, Any] = {
        "run": {**shown.run(row), "attempt": row.attempt, "max_attempts": row.max_attempts},
        "job": row,
        "is_live": row.status in LIVE,
        "is_lost": row.status in (Status.FAILED, Status.CANCELED),
        "what": what(row),
        "payload": row.payload,
        "config": _config(row.payload),
        "parent": row.parent,
        "children": shown.children(row),
        "events": reversed(JobEvent.objects.filter(job=row).order_by("-pk")[:MAX_EVENTS]),
        "artifacts": [
            shown.artifact(each) for each in Artifact.objects.filter(job=row).order_by("path")
        ],
        "has_files": "equity" in files,
        "told": _told(row),
    }
    if result is None:
        return page
    page["data"] = lineage.data(row)
    page |= _of_wfo(result) if row.type == WFO else _of_tune(result, files)
    page["told"] |= page.pop("more_told", {})
    return page


def _told(row: Job) -> dict[str, Any]:
    names = ("state", "drift", "equity", "candles", "heat")
    return {
        "type": row.type,
        "status": row.status,
        "urls": {name: reverse(f"runs:{name}", args=[row.pk]) for name in names},
    }


def _config(payload: Any) -> list[tuple[str, str]]:
    """What was asked as lines of name and value, sections unfolded, in the order of an order."""
    given = payload if isinstance(payload, Mapping) else {}
    names = [*_ORDER, *(name for name in given if name not in _ORDER and name != "fold")]
    lines: list[tuple[str, str]] = []
    for name in names:
        value = given.get(name)
        if isinstance(value, Mapping):
            lines += [(f"{name}.{key}", _said(key, item)) for key, item in value.items()]
        elif name in given:
            lines.append((name, _said(name, value)))
    return lines


def _said(name: str, value: Any) -> str:
    if name.endswith("_ts"):
        return f"{_day(value)} UTC"
    if isinstance(value, Mapping):
        return f"{value.get('min')} to {value.get('max')} by {value.get('step')}"
    if isinstance(value, list):
        few = ", ".join(map(str, value[:12]))
        return f"{few}, … ({len(value)} values)" if len(value) > 12 else few
    return metric_words.NONE if value is None else str(value)


# --- a tune ---


def _of_tune(result: Mapping[str, Any], files: Mapping[str, Artifact]) -> dict[str, Any]:
    best = result["best"]
    inside, outside = best["in_sample"], best["out_of_sample"]
    summary = _summary(files.get("trials"))
    page: dict[str, Any] = {
        "best_params": _ordered(best["params"], result),
        "score": metric_words.number(inside["score"]),
        "oos_score": metric_words.number(outside["score"]) if outside else None,
        "overfit_gap": metric_words.number(result["overfit_gap"]),
        "metric_rows": metric_words.rows(
            inside["metrics"], *([outside["metrics"]] if outside else [])
        ),
        "metric_columns": ["In sample", *(["Out of sample"] if outside else [])],
        "trials": result["trials"],
        "bars": result["bars"],
        "top": [_top_row(each, result) for each in (summary.top if summary else result["top"])],
    }
    if summary is not None:
        page["heat"] = {
            "params": summary.varied or summary.params,
            "metrics": [(name, _metric_label(name)) for name in summary.metrics],
        }
        page["more_told"] = {"varied": summary.varied or summary.params}
    return page


def _summary(artifact: Artifact | None) -> trials.Summary | None:
    if artifact is None:
        return None
    try:
        return trials.summary(artifacts.locate(artifact), top_count=TOP_COUNT)
    except (ArtifactError, OSError):
        return None


def _ordered(params: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as their strategy declares them: the database keeps no order."""
    known = STRATEGIES.get(str(result["strategy_id"]))
    names = [each.name for each in known.parameters] if known else []
    return {name: params[name] for name in (*names, *params) if name in params}


def _metric_label(name: str) -> str:
    return "Score (the objective)" if name == trials.SCORE else metric_words.label(name)


def _top_row(each: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    metrics = each["metrics"]
    shown_metrics = ("return_ratio", "sharpe", "max_drawdown_ratio", "trade_count", "win_ratio")
    return {
        "params": metric_words.params(_ordered(each["params"], result)),
        "score": metric_words.number(each["score"]),
        "failures": each.get("failures", ""),
        "metrics": [metric_words.text(name, metrics.get(name)) for name in shown_metrics],
    }


# --- a walk-forward ---


def _of_wfo(result: Mapping[str, Any]) -> dict[str, Any]:
    folds = [_fold(each, result) for each in result["folds"]]
    numbers = [str(each["number"]) for each in folds][:MAX_FOLD_COLUMNS]
    return {
        "best_params": _ordered((result["best"] or {}).get("params", {}), result),
        "score": metric_words.number((result["best"] or {}).get("score")),
        "metric_rows": metric_words.rows(result["out_of_sample"]["metrics"]),
        "metric_columns": ["Out of sample"],
        "folds": folds,
        "left_out": result["left_out"],
        "drift_of_run": result["drift"],
        "candidate_count": result["candidate_count"],
        "least_coverage": f"{MIN_COVERAGE * 100:.0f} %",
        "fold_numbers": numbers,
        "candidates": [_candidate(each, numbers, result) for each in result["top"][:TOP_COUNT]],
        "more_told": {"folds": [_fold_told(each) for each in result["folds"]]},
    }


def _fold(each: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    metrics = each["metrics"]
    return {
        "number": each["number"],
        "page": reverse("runs:one", args=[each["tune_id"]]),
        "train": each["train"],
        "test": each["test"],
        "winner": metric_words.params(_ordered(each["winner"], result)),
        "in_sample": metric_words.number(each["in_sample"]),
        "out_of_sample": metric_words.number(each["out_of_sample"]),
        "return_": metric_words.text("return_ratio", metrics.get("return_ratio")),
        "drawdown": metric_words.text("max_drawdown_ratio", metrics.get("max_drawdown_ratio")),
        "trade_count": metrics.get("trade_count"),
    }


def _fold_told(each: Mapping[str, Any]) -> dict[str, Any]:
    names = ("number", "train", "test", "in_sample", "out_of_sample")
    return {name: each[name] for name in names}


def _candidate(
    each: Mapping[str, Any], numbers: Sequence[str], result: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "params": metric_words.params(_ordered(each["params"], result)),
        "score": metric_words.number(each["score"]),
        "coverage": f"{each['coverage'] * 100:.0f} %",
        "mean": metric_words.number(each["mean_oos"]),
        "stdev": metric_words.number(each["stdev_oos"]),
        "worst": metric_words.number(each["worst_fold_oos"]),
        "folds": [metric_words.number(each["fold_scores"].get(number)) for number in numbers],
    }
