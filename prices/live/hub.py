"""Every update to every stream: encoded once, shared by all clients, waiting for none of them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from prometheus_client import Gauge

from prices.live.entry import Entry, Render

# The index publishes many prices at once: they go out together.
GATHER_SECONDS = 0.01
BEAT_SECONDS = 15.0
# Updates that a client which lost its connection may still ask for.
KEPT_UPDATES = 10_000
MAX_CLIENTS = 10_000

CLIENTS = Gauge(
    "oracle_stream_clients", "Clients with a stream.", ("kind",), multiprocess_mode="livesum"
)

Symbols = frozenset[str] | None  # None: all


@dataclass(frozen=True, slots=True)
class Update:
    """A price or rate that was published, with its number."""

    number: int
    entry: Entry


@dataclass(slots=True)
class Batch:
    """Updates that go out together, and what was encoded of them so far."""

    updates: list[Update]
    now_ms: int
    render: Render
    boot: str
    _events: dict[int, bytes] = field(default_factory=dict)
    _texts: dict[int, str] = field(default_factory=dict)
    _chunks: dict[Symbols, bytes] = field(default_factory=dict)

    def events(self, symbols: Symbols) -> bytes:
        """The prices of these symbols as server-sent events."""
        chunk = self._chunks.get(symbols)
        if chunk is None:
            chunk = self._chunks[symbols] = b"".join(
                self._event(*price) for price in self.prices(symbols)
            )
        return chunk

    def texts(self, symbols: frozenset[str]) -> list[str]:
        """The prices of these symbols as WebSocket messages."""
        return [self._text(*price) for price in self.prices(symbols)]

    def prices(self, symbols: Symbols) -> list[tuple[int, Entry]]:
        """What is answered of these symbols, each with its number."""
        return [
            (update.number, update.entry)
            for update in self.updates
            if update.entry.is_answer and (symbols is None or update.entry.head.symbol in symbols)
        ]

    def _event(self, number: int, entry: Entry) -> bytes:
        event = self._events.get(number)
        if event is None:
            data = entry.json(self.now_ms, self.render, away=False)
            event = self._events[number] = event_bytes(f"{self.boot}-{number}", data)
        return event

    def _text(self, number: int, entry: Entry) -> str:
        text = self._texts.get(number)
        if text is None:
            data = entry.json(self.now_ms, self.render, away=False)
            text = self._texts[number] = price_text(data)
        return text


class Listener(Protocol):
    """A client with a stream."""

    def offer(self, batch: Batch) -> None:
        """Take what of ``batch`` is wanted; must not wait."""

    def beat(self) -> None:
        """Say that the stream is alive."""

    def close(self) -> None:
        """End the stream."""


class Hub:
    """All streams of this process. Belongs to one event loop."""

    def __init__(self, render: Render) -> None:
        self._render = render
        self._listeners: set[Listener] = set()
        self._new: list[Update] = []
        self._kept: deque[Update] = deque(maxlen=KEPT_UPDATES)
        self._is_closed = False
        # Numbers begin anew with each process, so an id says of which it is.
        self.boot = secrets.token_hex(4)
        self.number = 0

    @property
    def is_full(self) -> bool:
        """Is there no room for another client?"""
        return self._is_closed or len(self._listeners) >= MAX_CLIENTS

    def add(self, listener: Listener) -> None:
        """Begin to offer updates to a client."""
        self._listeners.add(listener)

    def remove(self, listener: Listener) -> None:
        """Stop it."""
        self._listeners.discard(listener)

    def publish(self, entry: Entry) -> None:
        """Send an update to whoever wants it, a moment later, with those that follow at once."""
        self.number += 1
        update = Update(self.number, entry)
        if entry.is_answer:
            self._kept.append(update)
        if not self._new:
            asyncio.get_running_loop().call_later(GATHER_SECONDS, self.flush)
        self._new.append(update)

    def since(self, last_id: str) -> Batch | None:
        """What came after the event ``last_id``; None when that is not known any more."""
        boot, _, text = last_id.partition("-")
        if boot != self.boot or not text.isascii() or not text.isdigit() or len(text) > 18:
            return None
        number = int(text)
        oldest = self._kept[0].number if self._kept else self.number + 1
        if number > self.number or (number + 1 < oldest and len(self._kept) == KEPT_UPDATES):
            return None
        return self._batch([update for update in self._kept if update.number > number])

    async def run(self) -> None:
        """Keep the streams alive, for ever."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            listeners = list(self._listeners)
            # Not all at once: a beat to ten thousand clients would hold up a price.
            for start in range(0, len(listeners), 500):
                for listener in islice(listeners, start, start + 500):
                    listener.beat()
                await asyncio.sleep(0)

    def close(self) -> None:
        """End all streams, and take no new ones."""
        self._is_closed = True
        for listener in list(self._listeners):
            listener.close()

    def flush(self) -> None:
        """Deliver what was gathered: before a client is told what is current, for one."""
        if not self._new:
            return
        batch = self._batch(self._new)
        self._new = []
        for listener in list(self._listeners):
            listener.offer(batch)

    def _batch(self, updates: list[Update]) -> Batch:
        return Batch(updates, time.time_ns() // 1_000_000, self._render, self.boot)


def event_bytes(event_id: str, data: bytes) -> bytes:
    """A price as a server-sent event."""
    return b"event: price\nid: %b\ndata: %b\n\n" % (event_id.encode(), data)


def price_text(data: bytes) -> str:
    """A price as a WebSocket message."""
    return f'{{"type":"price","data":{data.decode()}}}'
