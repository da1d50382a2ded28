"""GET /api/v1/stream: prices as server-sent events."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from django.http import QueryDict

from market.query import ApiError
from prices.live.board import Board
from prices.live.frame import Exchange, Frame, peer_address
from prices.live.hub import CLIENTS, Batch, Hub, Symbols, event_bytes
from prices.live.limiter import Limiter
from prices.live.outbox import Outbox, dropper
from prices.live.places import SCOPE, Places

PATH = "/api/v1/stream"
# When a client whose connection ended comes back: not all of them at the same moment.
RETRY_MS = (500, 2_500)
MAX_QUERY = 65_536
_BEAT = b": still here\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream"),
    # nginx would gather events before it passes them on.
    (b"x-accel-buffering", b"no"),
]


class Events:
    """The door of server-sent events."""

    def __init__(
        self, board: Board, hub: Hub, *, limiter: Limiter, places: Places, frame: Frame
    ) -> None:
        self._board = board
        self._hub = hub
        self._limiter = limiter
        self._places = places
        self._frame = frame

    async def answer(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Answer a request for a stream, until the client leaves or the process ends."""
        exchange = Exchange(scope, send, self._frame, "prices:stream")
        verdict = await exchange.count(self._limiter, SCOPE)
        if not verdict.allowed:
            return await exchange.refuse(verdict)
        with ExitStack() as held:
            try:
                symbols = self._wanted(scope)
                held.enter_context(self._places.taken(peer_address(scope)))
            except ApiError as error:
                return await exchange.fail(error)
            await self._serve(exchange, symbols, receive, send)

    async def _serve(self, exchange: Exchange, symbols: Symbols, receive: Any, send: Any) -> None:
        exchange.observe(200)  # how long it took to begin; a stream has no duration
        await exchange.start(200, _HEADERS)
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a stream is served in a task")
        client = _Client(symbols, Outbox("sse", dropper(send, task)))
        leaving = asyncio.create_task(_until_gone(receive, client.outbox))
        CLIENTS.labels("sse").inc()
        try:
            self._hub.flush()
            client.outbox.put(self._first(exchange, symbols))
            self._hub.add(client)
            while (chunk := await client.outbox.take()) is not None:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            CLIENTS.labels("sse").dec()
            self._hub.remove(client)
            leaving.cancel()

    def _wanted(self, scope: Mapping[str, Any]) -> Symbols:
        """The symbols asked for; None for all. Raises ApiError."""
        if scope["method"] != "GET":
            message = f"a stream is read with GET, not {scope['method']}"
            raise ApiError(405, "METHOD_NOT_ALLOWED", message)
        if self._hub.is_full:
            raise ApiError(503, "STREAMS_FULL", "there is no room for another stream now")
        if len(scope["query_string"]) > MAX_QUERY:
            raise ApiError(400, "BAD_REQUEST", f"a query has at most {MAX_QUERY} bytes")
        text = QueryDict(scope["query_string"]).get("symbols")
        if text is None:
            return None
        return self._board.symbols(text.split(","))

    def _first(self, exchange: Exchange, symbols: Symbols) -> bytes:
        """What a client gets at once: what it missed where that is known, else all prices."""
        retry = b"retry: %d\n\n" % random.randint(*RETRY_MS)
        last_id = exchange.headers.get(b"last-event-id", b"").decode("latin-1")
        if missed := self._hub.since(last_id):
            return retry + missed.events(symbols)
        board, now_ms = self._board, time.time_ns() // 1_000_000
        event_id = f"{self._hub.boot}-{self._hub.number}"
        entries = (
            board.published(name, now_ms)
            for name in board.names
            if symbols is None or name in symbols
        )
        return retry + b"".join(
            event_bytes(event_id, entry.json(now_ms, self._frame.render, away=board.away))
            for entry in entries
            if entry is not None
        )


class _Client:
    """One stream: a `hub.Listener`."""

    def __init__(self, symbols: Symbols, outbox: Outbox) -> None:
        self.outbox = outbox
        self._symbols = symbols

    def offer(self, batch: Batch) -> None:
        if chunk := batch.events(self._symbols):
            self.outbox.put(chunk)

    def beat(self) -> None:
        self.outbox.put(_BEAT)

    def close(self) -> None:
        self.outbox.close()


async def _until_gone(receive: Any, outbox: Outbox) -> None:
    """Close the outbox when the client leaves. What it may still send is not read."""
    while (await receive())["type"] != "http.disconnect":
        pass
    outbox.close()
