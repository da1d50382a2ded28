"""What one client of a stream has still to take, bounded; and how a slow one is dropped."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from prometheus_client import Counter

# Beside the 64 KB that its connection holds.
MAX_PENDING_BYTES = 256 * 1_024

DROPPED = Counter("oracle_stream_dropped", "Clients dropped for being too slow.", ("kind",))


class Outbox:
    """What one client has still to take. Too much of it, and the client is dropped."""

    def __init__(self, kind: str, drop: Callable[[], object]) -> None:
        self._kind = kind
        self._drop = drop
        self._chunks: deque[bytes | str] = deque()
        self._size = 0
        self._is_closed = False
        self._wake = asyncio.Event()

    def put(self, chunk: bytes | str) -> None:
        """Send a chunk when its turn comes. Never waits.

        One chunk is always taken, however large: all prices of a large catalogue are one.
        """
        if self._is_closed:
            return
        if self._chunks and self._size + len(chunk) > MAX_PENDING_BYTES:
            DROPPED.labels(self._kind).inc()
            self.close()
            self._chunks.clear()
            self._drop()
            return
        self._chunks.append(chunk)
        self._size += len(chunk)
        self._wake.set()

    async def take(self) -> bytes | str | None:
        """The next chunk; None at the end."""
        while not self._chunks:
            if self._is_closed:
                return None
            self._wake.clear()
            await self._wake.wait()
        chunk = self._chunks.popleft()
        self._size -= len(chunk)
        return chunk

    def close(self) -> None:
        """End, after what is still there."""
        self._is_closed = True
        self._wake.set()


def dropper(send: object, task: asyncio.Task[Any]) -> Callable[[], object]:
    """What drops a client at once, whatever its connection still holds for it.

    ASGI knows no such thing: closing waits until a slow client has taken the rest. uvicorn's
    ``send`` is a method of the object that owns the transport; under another server the task is
    cancelled, and the rest is that server's.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    abort: Callable[[], object] | None = getattr(transport, "abort", None)

    return task.cancel if abort is None else abort
