"""A run's equity and trades as a browser draws them: thinned out, and no extreme lost."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backtests.tune_files import OUT_OF_SAMPLE

MAX_POINTS = 1_500  # of a curve
MAX_TRADES = 1_000  # of a window


def equity(path: Path, *, stitched: bool) -> list[dict[str, Any]]:
    """The parts of an equity file, each with its equity and drawdown, at most MAX_POINTS in all.

    ``stitched``: its parts carry one account on, and are one curve. Drawdown is that of every bar:
    a point of a thinned curve has the deepest of its bars.
    """
    parts: dict[str, tuple[array[float], array[float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        next(rows, None)  # part or fold, time_ms, equity
        for part, time_ms, value in rows:
            name = OUT_OF_SAMPLE if stitched else part
            times, values = parts.setdefault(name, (array("d"), array("d")))
            times.append(float(time_ms))
            values.append(float(value))
    room = MAX_POINTS // max(1, len(parts))
    return [_curve(name, times, values, room) for name, (times, values) in parts.items()]


def _curve(name: str, times: array[float], values: array[float], room: int) -> dict[str, Any]:
    depths, peak = array("d"), 0.0
    for value in values:
        peak = max(peak, value)
        depths.append(value / peak - 1 if peak > 0 else 0.0)
    deepest = min(range(len(depths)), key=depths.__getitem__)
    return {
        "part": name,
        "start_ms": int(times[0]),
        "end_ms": int(times[-1]),
        "first": values[0],
        "last": values[-1],
        "deepest": [int(times[deepest]), depths[deepest]],
        "equity": _thin(times, values, room),
        "drawdown": _thin(times, depths, room),
    }


def _thin(times: array[float], values: array[float], room: int) -> list[list[float]]:
    """The lowest and the highest of each of ``room / 2`` buckets, in their order; ends included."""
    count = len(values)
    if count <= room:
        return [[int(at), value] for at, value in zip(times, values, strict=True)]
    kept = {0, count - 1}
    buckets = room // 2 - 1
    for bucket in range(buckets):
        span = range(bucket * count // buckets, (bucket + 1) * count // buckets)
        kept.add(min(span, key=values.__getitem__))
        kept.add(max(span, key=values.__getitem__))
    return [[int(times[i]), values[i]] for i in sorted(kept)]


def trades(path: Path, *, start_ms: int, end_ms: int) -> dict[str, Any]:
    """The trades that touch ``[start_ms, end_ms)``, MAX_TRADES at most; and how many there are."""
    found: list[dict[str, Any]] = []
    total = inside = 0
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            total += 1
            if int(row["exit_ms"]) < start_ms or int(row["entry_ms"]) >= end_ms:
                continue
            inside += 1
            if len(found) < MAX_TRADES:
                found.append(_trade(row))
    return {"trades": found, "inside": inside, "total": total}


def _trade(row: Mapping[str, str]) -> dict[str, Any]:
    numbers = ("size", "entry_price", "exit_price", "fee", "pnl", "return_ratio")
    return {
        "part": row.get("part") or row.get("fold"),
        "entry_ms": int(row["entry_ms"]),
        "exit_ms": int(row["exit_ms"]),
        "reason": row["reason"],
        **{name: float(row[name]) for name in numbers},
    }
