"""The edge: an ASGI application in front of Django's."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Any

import structlog
from redis.asyncio import Redis

from prices.live import reads, sse
from prices.live.board import Board
from prices.live.feed import Feed, connect
from prices.live.frame import Frame, is_welcome
from prices.live.hub import Hub
from prices.live.limiter import Limiter
from prices.live.places import Places
from prices.live.reads import Reads
from prices.live.sockets import Sockets
from prices.live.sse import Events
from prices.rpc import charts_service, doors, health_service, prices_service
from prices.rpc.doors import Doors
from prices.rpc.memo import Guard, Memo
from prices.rpc.registry import Context, Health, Registry

log = structlog.get_logger(__name__)

Asgi = Callable[[dict[str, Any], Any, Any], Any]


class Edge:
    """Answers what is hot, and hands everything else to Django.

    ``guard`` is around whatever asks the database here, as Django's middleware is around views.

    What it holds belongs to one event loop, so it is made when the server starts (lifespan), or at
    the first request of a server that says nothing of its start.
    """

    def __init__(
        self, django: Asgi, *, frame: Frame, guard: Guard, health: Health, ready: Health
    ) -> None:
        self._django = django
        self._frame = frame
        self._guard = guard
        self._health = health
        self._ready = ready
        self._running: _Running | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "websocket":
            await self._started().sockets.answer(scope, receive, send)
        elif kind == "lifespan":
            await self._lifespan(receive, send)

    async def _http(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        path = scope["path"]
        running = self._running or self._started()
        if scope["method"] == "OPTIONS" or not is_welcome(scope):
            await self._django(scope, receive, send)  # middleware says what it has to
        elif path.startswith(reads.PATH) and await running.reads.answer(scope, send):
            pass
        elif path in doors.PATHS:
            await running.doors.answer(scope, receive, send)
        elif path == sse.PATH:
            await running.events.answer(scope, receive, send)
        else:
            await self._django(scope, receive, send)

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()  # lifespan.startup
        running = self._started()
        running.end_streams_on_signals()
        await running.first_load()
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown
        await running.stop()
        self._running = None
        await send({"type": "lifespan.shutdown.complete"})

    def _started(self) -> _Running:
        if self._running is None:
            self._running = _Running(self._frame, self._guard, self._health, self._ready)
        return self._running


class _Running:
    """The edge of a running event loop: its connections, tasks and doors."""

    def __init__(self, frame: Frame, guard: Guard, health: Health, ready: Health) -> None:
        self._loop = asyncio.get_running_loop()
        self._redis: Redis = connect()
        # Its own client: a limiter that waits is not to hold up the board, nor the other way.
        self._counting: Redis = connect()
        self._memo = Memo(guard)
        self.hub = Hub(frame.render)
        self.board = Board(self._redis, self.hub.publish)
        limiter = Limiter(self._counting)
        self.reads = Reads(self.board, limiter, frame)
        places = Places()
        self.events = Events(self.board, self.hub, limiter=limiter, places=places, frame=frame)
        self.sockets = Sockets(self.board, self.hub, limiter=limiter, places=places, frame=frame)
        registry = Registry(
            (prices_service.SERVICE, charts_service.SERVICE, health_service.SERVICE)
        )
        context = Context(
            board=self.board, render=frame.render, memo=self._memo, health=health, ready=ready
        )
        self.doors = Doors(registry, context, limiter, frame)
        self._feed = Feed(self.board)
        self._tasks = [
            self._loop.create_task(self._feed.run()),
            self._loop.create_task(self.hub.run()),
        ]

    async def first_load(self) -> None:
        """Wait for the first prices, but not long: a Redis that is away stops no start."""
        try:
            async with asyncio.timeout(1):
                await self._feed.subscribed.wait()
        except TimeoutError:
            log.warning("live.starts_without_prices")

    def end_streams_on_signals(self) -> None:
        """End the streams when the server is told to stop: it would wait for them otherwise.

        Added before the server's own handlers, which ASGI tells nothing of until all requests have
        ended.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)
            if callable(before):
                signal.signal(number, self._then(before))

    def _then(self, before: Callable[[int, Any], Any]) -> Callable[[int, Any], None]:
        def handle(number: int, stack: Any) -> None:
            self._loop.call_soon_threadsafe(self.hub.close)
            before(number, stack)

        return handle

    async def stop(self) -> None:
        """Give everything back."""
        self.hub.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._memo.close()
        await self._feed.close()
        await self._redis.aclose()
        await self._counting.aclose()
