"""Half-open ranges of time, in epoch milliseconds: joined, cut, and taken from each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class TimeRange:
    """``[start_ms, end_ms)``, never empty."""

    start_ms: int
    end_ms: int

    def __post_init__(self) -> None:
        if self.start_ms >= self.end_ms:
            raise ValueError(f"start_ms {self.start_ms} must be before end_ms {self.end_ms}")

    @property
    def length_ms(self) -> int:
        return self.end_ms - self.start_ms

    def holds(self, ms: int) -> bool:
        """Is this moment in it?"""
        return self.start_ms <= ms < self.end_ms


def join(ranges: Iterable[TimeRange]) -> list[TimeRange]:
    """The same times as ranges that neither overlap nor touch, oldest first."""
    joined: list[TimeRange] = []
    for each in sorted(ranges):
        if joined and each.start_ms <= joined[-1].end_ms:
            end_ms = max(joined[-1].end_ms, each.end_ms)
            joined[-1] = TimeRange(start_ms=joined[-1].start_ms, end_ms=end_ms)
        else:
            joined.append(each)
    return joined


def subtract(whole: TimeRange, parts: Iterable[TimeRange]) -> list[TimeRange]:
    """What of ``whole`` lies in none of the ``parts``, oldest first."""
    left, start_ms = [], whole.start_ms
    for part in join(parts):
        if part.start_ms > start_ms and start_ms < whole.end_ms:
            end_ms = min(part.start_ms, whole.end_ms)
            left.append(TimeRange(start_ms=start_ms, end_ms=end_ms))
        start_ms = max(start_ms, part.end_ms)
    if start_ms < whole.end_ms:
        left.append(TimeRange(start_ms=start_ms, end_ms=whole.end_ms))
    return left


def widen(whole: TimeRange, *, step_ms: int) -> TimeRange:
    """The smallest range of whole buckets of ``step_ms`` that holds it."""
    return TimeRange(
        start_ms=whole.start_ms // step_ms * step_ms, end_ms=-(-whole.end_ms // step_ms) * step_ms
    )


def cut(whole: TimeRange, *, length_ms: int, newest_first: bool = False) -> Iterator[TimeRange]:
    """``whole`` in pieces of at most ``length_ms``, counted from the end that comes first."""
    if newest_first:
        end_ms = whole.end_ms
        while end_ms > whole.start_ms:
            start_ms = max(whole.start_ms, end_ms - length_ms)
            yield TimeRange(start_ms=start_ms, end_ms=end_ms)
            end_ms = start_ms
        return
    for start_ms in range(whole.start_ms, whole.end_ms, length_ms):
        yield TimeRange(start_ms=start_ms, end_ms=min(start_ms + length_ms, whole.end_ms))
