"""A measured figure, its floor, and how both are shown and kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What was measured, what the bare machine needs for the same, and what must hold.

    ``ratio`` is value / floor; both are None where nothing barer can be set beside the figure.
    ``limit`` and ``max_ratio``, or where more is better ``at_least`` and ``min_ratio``, are what
    the project promises; None: no promise of that kind.
    """

    name: str
    value: float
    unit: str
    floor: float | None = None
    floor_is: str = ""
    limit: float | None = None
    max_ratio: float | None = None
    at_least: float | None = None
    min_ratio: float | None = None

    @property
    def ratio(self) -> float | None:
        return None if self.floor is None else self.value / self.floor

    @property
    def holds(self) -> bool:
        """Does the figure keep what is promised?"""
        return _between(self.at_least, self.value, self.limit) and _between(
            self.min_ratio, self.ratio, self.max_ratio
        )

    def line(self) -> str:
        """One line for a person."""
        promises = [
            f"{sign} {bound:g} {of}"
            for sign, bound, of in (
                (">=", self.at_least, self.unit),
                ("<=", self.limit, self.unit),
                (">=", self.min_ratio, "x floor"),
                ("<=", self.max_ratio, "x floor"),
            )
            if bound is not None
        ]
        verdict = f"{'holds' if self.holds else 'FALLS SHORT'} ({', '.join(promises)})"
        line = f"{self.name:20} {self.value:9.2f} {self.unit:4} {verdict if promises else ''}"
        if self.floor is None:
            return line
        return (
            f"{line}\n{'':20} {self.ratio:9.2f} x the floor of {self.floor:.2f} {self.unit}: "
            f"{self.floor_is}"
        )


def _between(least: float | None, value: float | None, most: float | None) -> bool:
    """Is ``value`` within the bounds there are? One that is not known is within none."""
    if least is None and most is None:
        return True
    return value is not None and (least or 0) <= value and (most is None or value <= most)


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least ``share`` of them do not exceed (nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(0, -(-int(share * 1_000) * len(ordered) // 1_000) - 1)]


def save(figures: Sequence[Figure], path: Path) -> None:
    """Write ``{name: {value, unit, floor, ratio}}``, keeping figures measured by other runs."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept |= {
        figure.name: {
            "value": round(figure.value, 3),
            "unit": figure.unit,
            "floor": None if figure.floor is None else round(figure.floor, 3),
            "ratio": None if figure.ratio is None else round(figure.ratio, 3),
        }
        for figure in figures
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
