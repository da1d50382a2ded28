"""All trials of a tune, from its file: the best of them, and a map of two parameters.

The file is read row by row: a hundred thousand trials must not fill a web process.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

PARAM = "param_"
SCORE = "score"
MAX_SIDE = 60  # values on a side of the map; more are put together
LOWER_IS_BETTER = ("max_drawdown_ratio", "max_drawdown_ms")

Others = Literal["best", "fixed"]


class UnknownColumnError(ValueError):
    """The file has no such parameter or metric. The text says what there is."""

    retryable = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What is in trials.csv. ``varied``: parameters of more than one value, most values first."""

    count: int
    params: tuple[str, ...]
    metrics: tuple[str, ...]
    varied: tuple[str, ...]
    top: Sequence[Mapping[str, Any]]


def summary(path: Path, *, top_count: int) -> Summary:
    """Read trials.csv, whose first row is the best trial."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.DictReader(file)
        params, metrics = _columns(lines.fieldnames or ())
        values: dict[str, set[str]] = {name: set() for name in params}
        top, count = [], 0
        for row in lines:
            if count < top_count:
                top.append(_trial(row, params, metrics))
            count += 1
            for name in params:
                values[name].add(row[PARAM + name])
    many = [name for name in params if len(values[name]) > 1]
    return Summary(
        count=count,
        params=params,
        metrics=metrics,
        varied=tuple(sorted(many, key=lambda name: -len(values[name]))),
        top=top,
    )


def _columns(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    params = tuple(name.removeprefix(PARAM) for name in names if name.startswith(PARAM))
    others = ("rank", "trial", "failures")
    metrics = (name for name in names if not name.startswith(PARAM) and name not in others)
    return params, tuple(metrics)


def _trial(row: Mapping[str, str], params: Iterable[str], metrics: Iterable[str]) -> dict[str, Any]:
    return {
        "rank": int(row["rank"]),
        "params": {name: _number(row[PARAM + name]) for name in params},
        "score": _number(row[SCORE]),
        "failures": row["failures"],
        "metrics": {name: _number(row[name]) for name in metrics if name != SCORE},
    }


def heat(path: Path, *, x: str, y: str | None, metric: str, others: Others) -> dict[str, Any]:
    """The metric over two parameters, as cells ``[x place, y place, value, trial count]``.

    Where several trials share a cell, it shows the best value among them (``others`` best), or only
    trials whose other parameters are the winner's count (``others`` fixed). A value is None where
    no trial of the cell has one: for the score, where none passed the gates.
    """
    found: dict[tuple[str, str], list[Any]] = {}
    best: tuple[str, str] | None = None
    better = min if metric in LOWER_IS_BETTER else max
    for key, text in _points(path, x, y, metric, others):
        best = best or key
        cell = found.setdefault(key, [None, 0])
        _add(cell, _number(text), 1, better)
    columns, lines = _side(key[0] for key in found), _side(key[1] for key in found)
    cells: dict[tuple[int, int], list[Any]] = {}
    for (left, right), (value, count) in found.items():
        cell = cells.setdefault((columns.place[left], lines.place[right]), [None, 0])
        _add(cell, value, count, better)
    return {
        "x": {"name": x, "labels": columns.labels},
        "y": {"name": y, "labels": lines.labels},
        "metric": metric,
        "lower_is_better": metric in LOWER_IS_BETTER,
        "others": others,
        "cells": [[*place, *cell] for place, cell in sorted(cells.items())],
        "best": [columns.place[best[0]], lines.place[best[1]]] if best else None,
    }


def _points(
    path: Path, x: str, y: str | None, metric: str, others: Others
) -> Iterator[tuple[tuple[str, str], str]]:
    """Each trial that counts: where it lies, and its metric."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        names = next(lines, [])
        params, metrics = _columns(names)
        for name in (x, *([y] if y else [])):
            if name not in params:
                raise UnknownColumnError(f"no parameter {name[:40]!r}: {', '.join(params)}")
        if metric not in metrics:
            raise UnknownColumnError(f"no metric {metric[:40]!r}: {', '.join(metrics)}")
        left, value = names.index(PARAM + x), names.index(metric)
        right = names.index(PARAM + y) if y else None
        rest = [names.index(PARAM + name) for name in params if name not in (x, y)]
        winner: list[str] | None = None
        for row in lines:
            rest_of = [row[place] for place in rest]
            winner = rest_of if winner is None else winner
            if others == "best" or rest_of == winner:
                yield (row[left], "" if right is None else row[right]), row[value]


def _add(cell: list[Any], value: Any, count: int, better: Any) -> None:
    cell[1] += count
    if value is not None:
        cell[0] = value if cell[0] is None else better(cell[0], value)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    labels: list[str]
    place: Mapping[str, int]


def _side(texts: Iterable[str]) -> _Side:
    """The values on a side, in their order; neighbours put together where there are too many."""
    values = sorted(set(texts), key=lambda text: float(text or 0))
    size = max(1, -(-len(values) // MAX_SIDE))
    groups = [values[start : start + size] for start in range(0, len(values), size)]
    return _Side(
        labels=[each[0] if len(each) == 1 else f"{each[0]}–{each[-1]}" for each in groups],
        place={value: number for number, each in enumerate(groups) for value in each},
    )


def _number(text: str) -> float | int | None:
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        return float(text)
