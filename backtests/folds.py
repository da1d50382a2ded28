"""The folds of a walk-forward: a window to choose on, and right after it one to be tested on."""

from __future__ import annotations

from dataclasses import dataclass

from market.candles import to_datetime
from market.ranges import TimeRange

DAY_MS = 86_400_000


class TooFewFoldsError(ValueError):
    """The range holds fewer folds than are wanted; the text says how many, and what gives more."""

    retryable = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One of them, numbered from 1. Both windows are half-open; ``train`` ends where ``test``
    begins. ``held`` is the part of ``test`` before the next fold's begins: who follows the
    procedure holds this fold's winner for so long."""

    number: int
    train: TimeRange
    test: TimeRange
    held: TimeRange


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Lengths of the windows, and how far the next fold lies behind the one before, in days."""

    train_days: int
    test_days: int
    step_days: int

    @property
    def fold_ms(self) -> int:
        return (self.train_days + self.test_days) * DAY_MS


def folds(whole: TimeRange, windows: Windows) -> list[Fold]:
    """Every fold that lies in ``whole``, the oldest first; the rest at its end is left over."""
    step_ms, test_ms = windows.step_days * DAY_MS, windows.test_days * DAY_MS
    starts = range(whole.start_ms, whole.end_ms - windows.fold_ms + 1, step_ms)
    found = []
    for number, start_ms in enumerate(starts, 1):
        middle_ms = start_ms + windows.train_days * DAY_MS
        end_ms = middle_ms + test_ms
        last = start_ms == starts[-1]
        held_end_ms = end_ms if last else min(end_ms, middle_ms + step_ms)
        found.append(
            Fold(
                number=number,
                train=TimeRange(start_ms=start_ms, end_ms=middle_ms),
                test=TimeRange(start_ms=middle_ms, end_ms=end_ms),
                held=TimeRange(start_ms=middle_ms, end_ms=held_end_ms),
            )
        )
    return found


def enough(whole: TimeRange, windows: Windows, *, min_folds: int) -> list[Fold]:
    """The folds of a range. Raises TooFewFoldsError."""
    found = folds(whole, windows)
    if len(found) >= min_folds:
        return found
    needed_days = windows.train_days + windows.test_days + (min_folds - 1) * windows.step_days
    start, end = to_datetime(whole.start_ms), to_datetime(whole.end_ms)
    count = "1 fold" if len(found) == 1 else f"{len(found)} folds"
    raise TooFewFoldsError(
        f"[{start:%Y-%m-%dT%H:%MZ}, {end:%Y-%m-%dT%H:%MZ}) holds {count}, and "
        f"min_folds is {min_folds}: {needed_days} days would do, and it has "
        f"{whole.length_ms / DAY_MS:.4g}. Take a longer range, or fewer train_days, test_days or "
        "step_days"
    )
