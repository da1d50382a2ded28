"""Candles as arrays, refusing to be built wrong."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from oracle.values import MAX_MS, MIN_MS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MIN_BARS = 3  # a signal, its fill, and a close after it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candles:
    """Bars in ascending order of their opening times; holes in time are allowed.

    The bars before ``first_bar`` are history: indicators see them, nothing on them is traded or
    measured. Arrays are C-contiguous float64 (``time_ms``: int64), and are not copied if they come
    so; whoever built them leaves them alone.
    """

    time_ms: NDArray[np.int64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    first_bar: int = 0

    def __post_init__(self) -> None:
        for field in fields(self)[:6]:
            kind = np.int64 if field.name == "time_ms" else np.float64
            array = np.ascontiguousarray(getattr(self, field.name), dtype=kind)
            object.__setattr__(self, field.name, array)
            if array.shape != (len(self.time_ms),):
                raise ValueError(f"{field.name} must be as long as time_ms, one row")
        self._check_bars()
        self._check_values()

    def __len__(self) -> int:
        return len(self.time_ms)

    def part(self, start: int, stop: int, *, history_bars: int = 0) -> Candles:
        """Bars ``[start, stop)``, copied, with up to ``history_bars`` before them as history."""
        if not 0 <= start < stop <= len(self):
            raise ValueError(f"no bars [{start}, {stop}) among {len(self)}")
        begin = max(0, start - history_bars)
        arrays = {
            each.name: getattr(self, each.name)[begin:stop].copy() for each in fields(self)[:6]
        }
        return Candles(**arrays, first_bar=start - begin)

    def _check_bars(self) -> None:
        if not 0 <= self.first_bar <= len(self) - MIN_BARS:
            raise ValueError(
                f"a backtest needs {MIN_BARS} bars from first_bar on, "
                f"got {len(self)} bars and first_bar {self.first_bar}"
            )
        if self.time_ms[0] < MIN_MS or self.time_ms[-1] >= MAX_MS:
            raise ValueError("time_ms must be epoch milliseconds")
        if (later := np.diff(self.time_ms) <= 0).any():
            raise ValueError(f"time_ms must ascend, and does not at bar {int(later.argmax()) + 1}")

    def _check_values(self) -> None:
        low, high = self.low, self.high
        for name in ("open", "high", "low", "close"):
            values = getattr(self, name)
            _check_all(np.isfinite(values) & (values > 0), f"{name} must be finite and above 0")
        for name in ("open", "close"):
            values = getattr(self, name)
            _check_all((low <= values) & (values <= high), f"{name} must be from low to high")
        _check_all(
            np.isfinite(self.volume) & (self.volume >= 0), "volume must be finite, not below 0"
        )


def _check_all(good: NDArray[np.bool_], rule: str) -> None:
    if not good.all():
        raise ValueError(f"{rule}, and is not at bar {int(good.argmin())}")
