"""How many streams each address has at the same moment, server-sent events and sockets together.

The limiter counts how often a stream is begun; this, how many are held. Each web process counts its
own: what is to be spared is its memory and its turn of the event loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from market.query import ApiError

SCOPE = "stream"  # of the limiter, for the beginning of one
# When a client that was refused may try again: nobody knows when it ends a stream of its own.
RETRY_AFTER_SECONDS = 5


class Places:
    """The streams of this process by address. Belongs to one event loop."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, address: str) -> Iterator[None]:
        """Hold a place in here. Raises ApiError, 429, when the address has all of its own."""
        most = settings.STREAMS_PER_ADDRESS
        if self._taken[address] >= most:
            raise ApiError(
                429,
                "TOO_MANY_STREAMS",
                f"{most} streams of one address are open already: end one of them first",
                {"limit": most, "retry_after": RETRY_AFTER_SECONDS},
            )
        self._taken[address] += 1
        try:
            yield
        finally:
            self._taken[address] -= 1
            if not self._taken[address]:
                del self._taken[address]
