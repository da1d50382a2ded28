"""Which trades are new, by their ids: across reconnects, two sockets at once, and takeovers.

Pure bookkeeping of one symbol each. Where ids are contiguous, a jump names exactly what is missing,
and a smaller id is new only if it was. Where they are not, only the ids seen lately tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

# So many "duplicates" in a row, all of them later than any trade we have: the exchange has begun
# to count anew, and to go on would mean to refuse its trades for ever.
RESTART_COUNT = 20
RESTART_AHEAD_MS = 60_000
RECENT_IDS = 1_000  # remembered of a symbol; twice the longest list of recent trades


class Span(NamedTuple):
    """Missing ids, both ends included; ``after_ms`` is the time of the trade before them."""

    first: int
    last: int
    after_ms: int


class CountedIds:
    """The ids of a symbol whose trades are numbered one by one."""

    __slots__ = ("_refused", "event_ms", "high", "missing")

    def __init__(self, high: int | None = None, event_ms: int = 0) -> None:
        self.high = high
        self.event_ms = event_ms  # the latest
        self.missing: list[Span] = []
        # First ids of "duplicates" in a row that are later than any trade we have.
        self._refused: list[int] = []

    def accept(self, last: int, *, event_ms: int, fills: int = 1) -> bool:
        """Is the trade new? Ids that it jumps over are ``missing`` from then on.

        ``fills``: it stands for that many ids, of which ``last`` is the last. One that is known in
        part is not accepted; the rest of it is then missing, to be asked for singly. So are those
        that were refused before it was plain that the exchange has begun to count anew.
        """
        high, first = self.high, last - fills + 1
        if high is None or first == high + 1:
            return self._advance(last, event_ms)
        if first > high:
            self.missing.append(Span(high + 1, first - 1, self.event_ms))
            return self._advance(last, event_ms)
        if last <= high:
            return self._take(first, last, event_ms) or self._refuse(first, last, event_ms)
        self.missing.append(Span(high + 1, last, self.event_ms))
        self.high = last
        return False

    def forget_known(self, ids: Iterable[int]) -> None:
        """Miss these ids no longer: they were logged before."""
        for each in ids:
            self._take(each, each, 0)

    def _advance(self, last: int, event_ms: int) -> bool:
        self.high = last
        self._refused.clear()
        if event_ms > self.event_ms:
            self.event_ms = event_ms
        return True

    def _take(self, first: int, last: int, event_ms: int) -> bool:
        for index, span in enumerate(self.missing):
            if span.first <= first and last <= span.last:
                rest = (
                    Span(span.first, first - 1, span.after_ms),
                    Span(last + 1, span.last, max(span.after_ms, event_ms)),
                )
                self.missing[index : index + 1] = [each for each in rest if each.first <= each.last]
                self._refused.clear()
                return True
        return False

    def _refuse(self, first: int, last: int, event_ms: int) -> bool:
        """Refuse a known id, unless it is one too many that cannot be known."""
        if event_ms <= self.event_ms + RESTART_AHEAD_MS:
            return False
        self._refused.append(first)
        if len(self._refused) < RESTART_COUNT:
            return False
        lowest = min(self._refused)
        if lowest < first:
            self.missing.append(Span(lowest, first - 1, self.event_ms))
        return self._advance(last, event_ms)


class RecentIds:
    """The ids seen lately of a symbol whose ids say nothing but who they are."""

    __slots__ = ("_ids",)

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._ids: dict[str, None] = dict.fromkeys(ids)

    def accept(self, trade_id: str) -> bool:
        """Is the trade new?"""
        if trade_id in self._ids:
            return False
        self._ids[trade_id] = None
        if len(self._ids) > RECENT_IDS:
            del self._ids[next(iter(self._ids))]
        return True

    def __contains__(self, trade_id: object) -> bool:
        return trade_id in self._ids

    def snapshot(self) -> frozenset[str]:
        """The ids seen until now."""
        return frozenset(self._ids)
