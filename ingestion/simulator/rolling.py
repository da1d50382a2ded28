"""Highest and lowest price of a span of minutes, without looking at all of them.

An hour's prices have cheap, generous bounds. Only hours whose bounds reach beyond what is already
found are looked at, and what was found of an hour is kept.
"""

from collections.abc import Iterator

from ingestion.simulator.tape import Tape

HOUR_MINUTES = 60
_KEPT_HOURS = 30
_KEPT_ANSWERS = 4
Range = tuple[int, int]


class RollingExtremes:
    """The extremes of one tape's closed minutes."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._bounds: dict[int, Range] = {}
        # (first minute, end) -> (low, high), None without a trade.
        self._found: dict[Range, Range | None] = {}
        # The same few spans are asked for all minute long.
        self._answers: dict[Range, Range | None] = {}

    def over(self, first: int, end: int) -> Range | None:
        """Return (low, high) of the minutes [first, end), or None without a trade."""
        if (first, end) not in self._answers:
            if len(self._answers) >= _KEPT_ANSWERS:
                self._answers.clear()
            self._answers[first, end] = self._search(first, end)
        return self._answers[first, end]

    def _search(self, first: int, end: int) -> Range | None:
        parts = [(self._bound(part[0] // HOUR_MINUTES), part) for part in hour_parts(first, end)]
        low = high = None
        for (_, most), part in sorted(parts, key=lambda entry: -entry[0][1]):
            if high is not None and most <= high:
                break
            found = self._exact(part)
            if found is not None:
                high = found[1] if high is None else max(high, found[1])
        for (least, _), part in sorted(parts):
            if low is not None and least >= low:
                break
            found = self._exact(part)
            if found is not None:
                low = found[0] if low is None else min(low, found[0])
        return None if low is None or high is None else (low, high)

    def _bound(self, hour: int) -> Range:
        bound = self._bounds.get(hour)
        if bound is None:
            bound = self._bounds[hour] = self._tape.hour_bounds(hour)
            if len(self._bounds) > _KEPT_HOURS:
                del self._bounds[next(iter(self._bounds))]
        return bound

    def _exact(self, part: Range) -> Range | None:
        if part in self._found:
            return self._found[part]
        first, end = part
        shorter = (first, end - 1)
        # The running hour grows by a minute each time.
        known = self._found.pop(shorter) if shorter in self._found else None
        start = end - 1 if known is not None else first
        found = joined(known, self._scan(start, end))
        self._found[part] = found
        if len(self._found) > _KEPT_HOURS:
            del self._found[next(iter(self._found))]
        return found

    def _scan(self, first: int, end: int) -> Range | None:
        found: Range | None = None
        for minute in range(first, end):
            found = joined(found, self._tape.extremes(minute))
        return found


def hour_parts(first: int, end: int) -> Iterator[Range]:
    """Yield [first, end) cut at the full hours."""
    while first < end:
        stop = min(end, (first // HOUR_MINUTES + 1) * HOUR_MINUTES)
        yield first, stop
        first = stop


def joined(left: Range | None, right: Range | None) -> Range | None:
    """Return the extremes of two spans."""
    if left is None or right is None:
        return left or right
    return min(left[0], right[0]), max(left[1], right[1])
