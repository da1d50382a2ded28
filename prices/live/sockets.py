"""Streams over WebSocket: /ws/prices by subscription, and JSON-RPC's streamPrices.

One message is one JSON object. ``{"subscribe": ["btc-usdt"]}``, ``{"unsubscribe": […]}``;
``{"id", "service", "method": "streamPrices", "input": {"pairs": […]}}``, and to end that
``{"id", "cancel": true}``. A pair of it that has no price yet is told in ``{"id", "error"}``, which
ends nothing. A client that sends garbage, or more messages than it may, is told so, and after
MAX_ERRORS left alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import msgspec
from django.conf import settings

from market.query import ApiError
from market.symbols import slug
from oracle import jsontext
from prices.live.allowance import Allowance
from prices.live.board import Board
from prices.live.frame import Frame, is_welcome, peer_address, retry_after, wait_seconds
from prices.live.hub import CLIENTS, Batch, Hub, price_text
from prices.live.limiter import Limiter
from prices.live.outbox import DROPPED, Outbox, dropper
from prices.live.places import SCOPE, Places
from prices.rpc.errors import RpcError
from prices.rpc.quotes import quote_or_error
from prices.rpc.requests import MAX_DEPTH, MAX_ID, depth, read_pairs

PATHS = frozenset(("/ws/prices", "/ws", "/netron", "/netron/ws", "/netron/stream"))
MAX_MESSAGE_BYTES = 64 * 1_024
MAX_ERRORS = 20
MAX_STREAMS = 50  # streamPrices of one connection
# For the last words to a client that is sent away: it may not read them.
FAREWELL_SECONDS = 5.0
SERVICES = ("PricesService@2.0.0", "PricesService")

NORMAL, POLICY, TOO_BIG, GOING_AWAY = 1000, 1008, 1009, 1001


class Sockets:
    """The door of WebSockets."""

    def __init__(
        self, board: Board, hub: Hub, *, limiter: Limiter, places: Places, frame: Frame
    ) -> None:
        self._board = board
        self._hub = hub
        self._limiter = limiter
        self._places = places
        self._frame = frame

    async def answer(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Serve a connection, until the client leaves or the process ends."""
        await receive()  # websocket.connect
        address = peer_address(scope)
        with ExitStack() as held:
            try:
                await self._check(scope, address)
                held.enter_context(self._places.taken(address))
            except ApiError as error:
                return await self._reject(send, error)
            await self._serve(receive, send)

    async def _serve(self, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a socket is served in a task")
        drop = dropper(send, task)
        outbox = Outbox("websocket", drop)
        client = Client(self._board, self._hub, outbox, self._frame)
        writing = asyncio.create_task(_write(send, outbox, client))
        CLIENTS.labels("websocket").inc()
        self._hub.add(client)
        try:
            await self._read(client, receive)
        finally:
            CLIENTS.labels("websocket").dec()
            self._hub.remove(client)
            outbox.close()
            await _part(writing, drop)

    async def _check(self, scope: Mapping[str, Any], address: str) -> None:
        """Raise the ApiError with which a connection is not taken."""
        if scope["path"] not in PATHS:
            raise ApiError(404, "NOT_FOUND", "there is no WebSocket here: /ws/prices is one")
        if not is_welcome(scope):
            raise ApiError(403, "FORBIDDEN", "not under this name, or not without TLS")
        verdict = await self._limiter.take(address, SCOPE, settings.RATE_LIMIT_PER_MINUTE)
        if not verdict.allowed:
            seconds = wait_seconds(verdict)
            details = {"retry_after": seconds}
            raise ApiError(429, "RATE_LIMITED", f"try again in {seconds} s", details)
        if self._hub.is_full:
            raise ApiError(503, "STREAMS_FULL", "there is no room for another stream now")

    async def _reject(self, send: Any, error: ApiError) -> None:
        """Answer a connection with an HTTP error."""
        status, body = self._frame.describe(error)
        headers = [(b"content-type", b"application/json"), *retry_after(status, body)]
        start = {"type": "websocket.http.response.start", "status": status, "headers": headers}
        await send(start)
        await send({"type": "websocket.http.response.body", "body": self._frame.render(body)})

    async def _read(self, client: Client, receive: Any) -> None:
        """Do what the client says, until it leaves or has said too much nonsense."""
        while not client.is_done:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            data = message.get("bytes") or b"" if text is None else text.encode()
            client.hear(data)


class Client:
    """One connection: a `hub.Listener` that also hears."""

    def __init__(self, board: Board, hub: Hub, outbox: Outbox, frame: Frame) -> None:
        self._board = board
        self._hub = hub
        self._outbox = outbox
        self._frame = frame
        self._symbols: frozenset[str] = frozenset()
        # By id: the symbols of each streamPrices, and the last quote that it sent of each, or the
        # code of the error in its place.
        self._streams: dict[str, dict[str, bytes]] = {}
        self._allowance = Allowance(settings.STREAM_MESSAGES_PER_MINUTE, now=time.monotonic())
        self._errors = 0
        self.is_done = False
        self.close_code = NORMAL

    # --- speaking ---

    def offer(self, batch: Batch) -> None:
        if self._symbols:
            for text in batch.texts(self._symbols):
                self._outbox.put(text)
        if self._streams:
            changed = {update.entry.head.symbol for update in batch.updates}
            for stream_id, sent in self._streams.items():
                for name in changed & sent.keys():
                    self._send_quote(stream_id, name, sent, batch.now_ms)

    def beat(self) -> None:
        self._outbox.put(f'{{"type":"ping","timestamp":{time.time_ns() // 1_000_000}}}')

    def close(self) -> None:
        self._end(GOING_AWAY)

    def _end(self, code: int) -> None:
        self.is_done, self.close_code = True, code
        self._outbox.close()

    def _send_quote(self, stream_id: str, name: str, sent: dict[str, bytes], now_ms: int) -> None:
        """Send a pair's quote if it is news; before its first, once, why there is none yet."""
        quote = quote_or_error(self._board, name, now_ms)
        if isinstance(quote, RpcError):
            if not sent[name]:  # else the quote that was sent says how old it is
                sent[name] = quote.code.encode()
                self._send({"id": stream_id, "error": quote.body()})
            return
        data = bytes(quote)
        if data != sent[name]:
            sent[name] = data
            self._send({"id": stream_id, "data": quote})

    def _send(self, message: Mapping[str, Any]) -> None:
        self._outbox.put(msgspec.json.encode(message).decode())

    # --- hearing ---

    def hear(self, data: bytes) -> None:
        """Do what a message says; an error is told, and the connection stays."""
        if not self._allowance.take(now=time.monotonic()):
            return self._complain_of_haste()
        if len(data) > MAX_MESSAGE_BYTES:
            self._complain("TOO_LARGE", f"a message has at most {MAX_MESSAGE_BYTES} bytes")
            return self._end(TOO_BIG)
        try:
            self._obey(_decode(data))
        except ApiError as error:
            self._complain(error.code, error.message, error.details)
        self._end_after_errors()

    def _complain_of_haste(self) -> None:
        """A message too many is not even read."""
        most = settings.STREAM_MESSAGES_PER_MINUTE
        message = f"more than {most} messages in a minute: this one was not read"
        self._complain("RATE_LIMITED", message, {"limit_per_minute": most})
        self._end_after_errors()

    def _end_after_errors(self) -> None:
        if self._errors >= MAX_ERRORS:
            self._end(POLICY)

    def _complain(self, code: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        self._errors += 1
        body = {"type": "error", "error": {"code": code, "message": message}}
        self._outbox.put(self._frame.render(_with_details(body, details)).decode())

    def _obey(self, message: dict[str, Any]) -> None:
        match message:
            case {"method": _} | {"service": _}:
                self._stream(message)
            case {"cancel": True, "id": str() as stream_id}:
                if self._streams.pop(stream_id, None) is not None:
                    self._send({"id": stream_id, "done": True})
            case {"subscribe": list() as texts}:
                self._subscribe(_names(texts, self._board))
            case {"unsubscribe": list() as texts}:
                self._symbols -= _names(texts, self._board)
                self._say_symbols()
            case {"ping": _}:
                self._outbox.put(f'{{"type":"pong","timestamp":{time.time_ns() // 1_000_000}}}')
            case {"type": "pong"}:
                pass
            case _:
                raise ApiError(400, "BAD_REQUEST", 'say {"subscribe": ["btc-usdt"]}')

    def _subscribe(self, names: frozenset[str]) -> None:
        """Send the current price of what is new, then each update."""
        self._hub.flush()
        new = names - self._symbols
        self._symbols |= names
        self._say_symbols()
        now_ms = time.time_ns() // 1_000_000
        for name in sorted(new):
            entry = self._board.published(name, now_ms)
            if entry is not None:
                away = self._board.away
                self._outbox.put(price_text(entry.json(now_ms, self._frame.render, away=away)))

    def _say_symbols(self) -> None:
        names = ",".join(f'"{slug(name)}"' for name in sorted(self._symbols))
        self._outbox.put(f'{{"type":"subscribed","symbols":[{names}]}}')

    def _stream(self, message: dict[str, Any]) -> None:
        """JSON-RPC: begin a stream of quotes under the request's id."""
        stream_id = message.get("id")
        # Each quote repeats it.
        if not isinstance(stream_id, str) or len(stream_id) > MAX_ID:
            accepted = f"a text of at most {MAX_ID} characters"
            raise ApiError(400, "BAD_REQUEST", f"id must be {accepted}")
        try:
            names = self._stream_names(message, stream_id)
        except RpcError as error:
            self._errors += 1
            return self._send({"id": stream_id, "error": error.body()})
        sent = self._streams[stream_id] = dict.fromkeys(names, b"")
        now_ms = time.time_ns() // 1_000_000
        for name in names:
            self._send_quote(stream_id, name, sent, now_ms)

    def _stream_names(self, message: dict[str, Any], stream_id: str) -> list[str]:
        if message.get("service") not in SERVICES or message.get("method") != "streamPrices":
            raise RpcError.not_found(
                "only PricesService@2.0.0 streamPrices is served here; POST /netron/invoke the rest"
            )
        if stream_id in self._streams or len(self._streams) >= MAX_STREAMS:
            raise RpcError.bad_request(f"ids must differ, and be at most {MAX_STREAMS}")
        return list(dict.fromkeys(read_pairs(message.get("input"), self._board)))


async def _write(send: Any, outbox: Outbox, client: Client) -> None:
    """Send what the outbox holds, then close. A client that has left ends it."""
    try:
        while (chunk := await outbox.take()) is not None:
            await send({"type": "websocket.send", "text": chunk})
        await send({"type": "websocket.close", "code": client.close_code})
    except (OSError, RuntimeError):
        pass  # uvicorn's ways of saying that the client is gone


async def _part(writing: asyncio.Task[None], drop: Callable[[], object]) -> None:
    """Let the client take what is left for it; one that does not is dropped."""
    try:
        async with asyncio.timeout(FAREWELL_SECONDS):
            await writing
    except TimeoutError:
        DROPPED.labels("websocket").inc()
        drop()


def _decode(data: bytes) -> dict[str, Any]:
    if depth(data) > MAX_DEPTH:
        raise ApiError(400, "BAD_REQUEST", f"JSON may be nested {MAX_DEPTH} deep")
    try:
        message = jsontext.decode(data)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "BAD_REQUEST", f"this is no JSON: {error}") from None
    if not isinstance(message, dict):
        raise ApiError(400, "BAD_REQUEST", "a message is a JSON object")
    return message


def _names(texts: list[Any], board: Board) -> frozenset[str]:
    for text in texts:
        if not isinstance(text, str):
            raise ApiError(400, "BAD_REQUEST", "symbols are texts such as btc-usdt")
    return board.symbols(texts)


def _with_details(body: dict[str, Any], details: Mapping[str, Any] | None) -> dict[str, Any]:
    body["error"]["details"] = dict(details or {})
    return body
