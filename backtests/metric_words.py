"""Metrics as people read them: their names, their units, and which way is better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NONE = "—"
_DAY_MS, _HOUR_MS = 86_400_000, 3_600_000
# In the order they are shown: name, what it is called, what it is measured in.
_WORDS: Mapping[str, tuple[str, str]] = {
    "return_ratio": ("Return", "%"),
    "cagr_ratio": ("CAGR", "%"),
    "sharpe": ("Sharpe", ""),
    "sortino": ("Sortino", ""),
    "calmar": ("Calmar", ""),
    "max_drawdown_ratio": ("Max drawdown", "%"),
    "max_drawdown_ms": ("Longest drawdown", "ms"),
    "exposure_ratio": ("Exposure", "%"),
    "trade_count": ("Trades", ""),
    "win_ratio": ("Win rate", "%"),
    "profit_factor": ("Profit factor", ""),
    "expectancy_ratio": ("Expectancy", "%"),
}


def label(name: str) -> str:
    """What a metric is called."""
    return _WORDS[name][0] if name in _WORDS else name.replace("_", " ").capitalize()


def text(name: str, value: Any) -> str:
    """A metric's value with its unit."""
    if not isinstance(value, int | float):
        return NONE
    match _WORDS.get(name, ("", ""))[1]:
        case "%":
            return f"{value * 100:.2f} %"
        case "ms":
            return duration(int(value))
    return number(value)


def number(value: Any) -> str:
    """A number to a few digits, a whole one whole; a dash for none."""
    if not isinstance(value, int | float):
        return NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"


def duration(ms: int) -> str:
    """A length of time in its largest unit."""
    if ms >= 2 * _DAY_MS:
        return f"{ms / _DAY_MS:.1f} d"
    return f"{ms / _HOUR_MS:.1f} h" if ms >= 2 * _HOUR_MS else f"{ms / 60_000:.0f} min"


def rows(*columns: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Metrics side by side: a row for each, a value for each of the columns."""
    return [
        {
            "label": words,
            "values": [text(name, (column or {}).get(name)) for column in columns],
        }
        for name, (words, _) in _WORDS.items()
    ]


def params(values: Mapping[str, Any]) -> str:
    """Parameters in a line."""
    return ", ".join(f"{name} {value}" for name, value in values.items())
