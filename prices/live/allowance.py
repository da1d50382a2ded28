"""How many messages one connection may send: so many at once, and as many a minute."""

from __future__ import annotations


class Allowance:
    """A bucket of ``per_minute`` messages that fills up evenly, full at first.

    In memory and of one connection: a question to Redis for each message would cost more than the
    message. Who opens more connections is counted by the limiter, and held by `prices.live.places`.
    """

    def __init__(self, per_minute: int, *, now: float) -> None:
        self._most = float(per_minute)
        self._left = self._most
        self._at = now

    def take(self, *, now: float) -> bool:
        """One message at ``now`` (monotonic seconds): may it be heard?"""
        self._left = min(self._most, self._left + (now - self._at) * self._most / 60)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
