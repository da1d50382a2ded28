"""A socket that stays open: subscribed, pinged, watched, renewed, and opened again when it breaks.

What is said on it goes to one function; this module reads nothing but the clock. A quiet pair is
not a dead socket: in a silence the server is asked something it always answers, and only when it
does not is the socket given up. An old socket is left only after its successor speaks.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Protocol
from urllib.parse import urlsplit
from uuid import uuid4

import structlog
from django.conf import settings
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from ingestion import http
from ingestion.adapter import Adapter, TokenAdapter, UnreadableError
from ingestion.fetch import base_url
from ingestion.rest import Refused, call
from oracle import metrics

OPEN_SECONDS = 10.0
READ_SECONDS = 10.0  # of silence, and the socket is dead
PROBE_SECONDS = 4.0  # of silence, and the server is asked to speak
PONG_SECONDS = 10.0
CLOSE_SECONDS = 1.0
OVERLAP_SECONDS = 2.0  # two sockets at once, the new one subscribed
HEALTHY_SECONDS = 60.0
FIRST_RETRY_SECONDS = 1.0
MAX_RETRY_SECONDS = 30.0
RENEW_RETRY_SECONDS = 30.0
LIFETIME_RATIO = 23 / 24  # renewed an hour before a day is over
CONNECT_SPACING_SECONDS = 0.4  # OKX allows three connects a second, the others more
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MESSAGES_AT_ONCE = 100  # then others have their turn
USER_AGENT = "token-price-oracle/1.0"

log = structlog.get_logger(__name__)


class DeadError(Exception):
    """A socket that says nothing any more."""


BREAKS = (
    *(OSError, WebSocketException, DeadError, TimeoutError),
    *(http.FetchError, UnreadableError, Refused),
)


class Listener(Protocol):
    """Who is told what sockets say."""

    def heard(
        self, message: str | bytes, state: Mapping[str, object]
    ) -> tuple[Mapping[str, object], Sequence[str], bool]:
        """Take a message: the next state, what to reply, and whether it refused a subscription."""
        ...

    def pause_seconds(self) -> float:
        """How long to let messages wait in the socket; 0: not at all."""
        ...

    def interrupted(self, symbols: Sequence[str], *, why: str) -> None:
        """Be told that nobody listens to these symbols from now on."""
        ...

    def listening(self, symbols: Sequence[str]) -> None:
        """Be told that somebody surely listens to these symbols from now on."""
        ...


class Gate:
    """Spaces the connects of one exchange."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> None:
        await self._lock.acquire()
        asyncio.get_running_loop().call_later(CONNECT_SPACING_SECONDS, self._lock.release)

    async def __aexit__(self, *_: object) -> None:
        return None


def retry_seconds(failures: int) -> float:
    """How long to wait before the next try: at most a second at first, doubling, never alike."""
    longest = min(MAX_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 10))
    return random.uniform(longest / 4, longest)


async def socket_url(adapter: Adapter) -> str:
    """Where the exchange's socket is; KuCoin has to be asked. Raises what `call` raises."""
    if isinstance(adapter, TokenAdapter):
        parsed = await asyncio.to_thread(
            call, adapter, adapter.token_request(), adapter.parse_token, spare=False
        )
        return f"{_configured(parsed.values[0], adapter)}&connectId={uuid4().hex}"
    if settings.SIMULATOR_URL:
        base = urlsplit(base_url(adapter))
        scheme = "wss" if base.scheme == "https" else "ws"
        return f"{scheme}://{base.netloc}/{adapter.NAME}{urlsplit(adapter.WS_URL).path}"
    return _configured(adapter.WS_URL, adapter)


def _configured(url: str, adapter: Adapter) -> str:
    """``url``, moved to where the settings say that the exchange's sockets are.

    A setting without a path keeps the exchange's own; the query (KuCoin's token) always stays.
    """
    elsewhere = urlsplit(settings.EXCHANGE_WS_URLS.get(adapter.NAME, ""))
    if not elsewhere.netloc or settings.SIMULATOR_URL:
        return url
    own = urlsplit(url)
    return own._replace(
        scheme=elsewhere.scheme,
        netloc=elsewhere.netloc,
        path=own.path if elsewhere.path in ("", "/") else elsewhere.path,
    ).geturl()


class Link:
    """One connection, from its opening to its end."""

    def __init__(
        self, adapter: Adapter, symbols: Sequence[str], *, listener: Listener, gate: Gate
    ) -> None:
        self.symbols = tuple(symbols)
        self.opened_at = monotonic()
        self.speaks = asyncio.Event()  # it has said something since it was subscribed
        self._adapter = adapter
        self._listener = listener
        self._gate = gate
        self._connection: ClientConnection | None = None
        self._state: Mapping[str, object] = {}
        self._heard_at = monotonic()
        self._greeted = asyncio.Event()
        self._subscribed = False
        self._singly = False
        self._sending = asyncio.Lock()
        self._extra: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Connect. Raises one of BREAKS."""
        async with self._gate:
            url = await socket_url(self._adapter)
        self._connection = await connect(
            url,
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            ping_interval=PONG_SECONDS,
            ping_timeout=PONG_SECONDS,
            max_size=MAX_MESSAGE_BYTES,
            max_queue=256,
            compression=None,
            user_agent_header=USER_AGENT,
            proxy=None if settings.SIMULATOR_URL else True,
        )
        self.opened_at = self._heard_at = monotonic()

    async def serve(self) -> None:
        """Subscribe and listen until the connection breaks. Raises one of BREAKS, always."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._subscribe(self._adapter.subscribe_messages(self.symbols)))
                tasks.create_task(self._watch())
                tasks.create_task(self._listen())
        except* BREAKS as group:
            errors = group.exceptions
            raise next((e for e in errors if isinstance(e, DeadError)), errors[0]) from None

    async def close(self) -> None:
        """Close, politely but not for long."""
        for task in self._extra:
            task.cancel()
        if self._connection is not None:
            with suppress(*BREAKS):
                await self._connection.close()

    async def _listen(self) -> None:
        assert self._connection is not None
        turn = 0
        async for message in self._connection:
            self._heard_at = monotonic()
            self._greeted.set()
            if self._subscribed and not self.speaks.is_set():
                self.speaks.set()
            self._state, replies, refused = self._listener.heard(message, self._state)
            if replies:
                self._later(self._send(replies))
            if refused and self._adapter.ONE_BAD_SYMBOL_REFUSES_ALL and not self._singly:
                self._singly = True
                log.warning("collect.subscribing_singly", exchange=self._adapter.NAME)
                self._later(self._subscribe(self._one_by_one()))
            turn += 1
            if turn % MESSAGES_AT_ONCE == 0:
                await asyncio.sleep(self._listener.pause_seconds())
        raise DeadError("the exchange closed the socket")

    def _later(self, work: Awaitable[None]) -> None:
        async def do() -> None:
            with suppress(*BREAKS):  # the reader meets the same error
                await work

        task = asyncio.create_task(do())
        self._extra.add(task)
        task.add_done_callback(self._extra.discard)

    def _one_by_one(self) -> list[str]:
        return [text for one in self.symbols for text in self._adapter.subscribe_messages([one])]

    async def _subscribe(self, messages: Sequence[str]) -> None:
        if isinstance(self._adapter, TokenAdapter):
            await self._greeted.wait()  # KuCoin hears nothing before it has said welcome
        await self._send(messages)
        self._subscribed = True
        if self._adapter.WS_PROBE is not None:
            await self._send([self._adapter.WS_PROBE])  # its answer: all before it was heard

    async def _send(self, messages: Sequence[str]) -> None:
        """Send at the exchange's pace: one sender at a time."""
        assert self._connection is not None
        async with self._sending:
            for message in messages:
                await self._connection.send(message)
                await asyncio.sleep(1 / self._adapter.MAX_MESSAGES_PER_SECOND)

    async def _watch(self) -> None:
        """Ping as the exchange wants it, probe a silence, and end a dead connection."""
        ping, every = self._adapter.WS_PING, self._adapter.WS_PING_INTERVAL_MS / 1_000
        pinged_at = probed_at = monotonic()
        while True:
            await asyncio.sleep(PROBE_SECONDS / 8)
            now = monotonic()
            silence = now - self._heard_at
            if silence > READ_SECONDS:
                self._abort()
                raise DeadError(f"nothing heard for {silence:.0f} s")
            if ping is not None and now - pinged_at >= every:
                pinged_at = now
                await self._send([ping])
            elif silence > PROBE_SECONDS and now - probed_at > PROBE_SECONDS:
                probed_at = now
                if self._adapter.WS_PROBE is not None:
                    await self._send([self._adapter.WS_PROBE])

    def _abort(self) -> None:
        # A close frame to a peer that is gone would wait for its answer.
        if self._connection is not None and self._connection.transport is not None:
            self._connection.transport.abort()


class Feed:
    """The trades of some symbols of an exchange, over one connection after another."""

    def __init__(
        self, adapter: Adapter, symbols: Sequence[str], *, listener: Listener, gate: Gate
    ) -> None:
        self.symbols = tuple(symbols)
        self.is_up = False
        self._adapter = adapter
        self._listener = listener
        self._gate = gate
        self._changed = asyncio.Event()
        self._failures = 0
        self._links: dict[Link, asyncio.Task[None]] = {}

    def change(self, symbols: Sequence[str]) -> None:
        """Listen to these symbols instead, over a new connection."""
        if tuple(symbols) != self.symbols:
            self.symbols = tuple(symbols)
            self._changed.set()

    async def run(self) -> None:
        """Listen for ever; ends only when cancelled."""
        try:
            link = await self._connected()
            while True:
                if await self._renewal_due(link):
                    link = await self._renewed(link)
                else:
                    await self._drop(link)
                    link = await self._connected()
        finally:
            self.is_up = False
            await asyncio.gather(*(self._drop(link) for link in list(self._links)))

    async def _connected(self) -> Link:
        """A new connection, however long it takes."""
        while True:
            if self._failures:
                await asyncio.sleep(retry_seconds(self._failures))
            try:
                link = await self._start()
            except BREAKS as error:
                self._failed("no_connection", error)
                continue
            self._listener.listening(link.symbols)
            self.is_up = True
            return link

    async def _start(self) -> Link:
        """Open a connection and wait until it speaks. Raises one of BREAKS."""
        self._changed.clear()
        link = Link(self._adapter, self.symbols, listener=self._listener, gate=self._gate)
        await link.open()
        task = self._links[link] = asyncio.create_task(link.serve())
        task.add_done_callback(lambda task: self._ended(link, task))
        speaking = asyncio.create_task(link.speaks.wait())
        try:
            await asyncio.wait({task, speaking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            speaking.cancel()
        if task.done():
            await self._drop(link)
            task.result()
        return link

    async def _renewal_due(self, link: Link) -> bool:
        """Wait until the connection breaks (False) or should be followed by another (True)."""
        lifetime_ms = self._adapter.SOCKET_LIFETIME_MS or 86_400_000
        left = link.opened_at + lifetime_ms * LIFETIME_RATIO / 1_000 - monotonic()
        task, changed = self._links[link], asyncio.create_task(self._changed.wait())
        healthy = asyncio.get_running_loop().call_later(HEALTHY_SECONDS, self._recovered)
        try:
            await asyncio.wait(
                {task, changed}, timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            changed.cancel()
            healthy.cancel()
        if not task.done():
            return True
        self.is_up = False
        self._failed("broken", task.exception())
        return False

    async def _renewed(self, link: Link) -> Link:
        """The next connection, the old one kept until the new one is as good."""
        metrics.SOCKET_RECONNECTS.labels(self._adapter.NAME, "renewed").inc()
        task = self._links[link]
        while not task.done():
            try:
                new = await self._start()
            except BREAKS as error:
                self._renewal_failed(error)
                await asyncio.wait({task}, timeout=RENEW_RETRY_SECONDS)
                continue
            self._listener.listening(new.symbols)
            successor = self._links[new]
            await asyncio.wait(
                {task, successor}, timeout=OVERLAP_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if successor.done() and not task.done():
                # To leave the old one now would be a break that nobody is told of.
                self._renewal_failed(successor.exception())
                await self._drop(new)
                await asyncio.wait({task}, timeout=RENEW_RETRY_SECONDS)
                continue
            await self._drop(link)
            return new
        self._failed("broken", task.exception())
        await self._drop(link)
        return await self._connected()

    async def _drop(self, link: Link) -> None:
        task = self._links.pop(link)
        task.cancel()
        try:
            # Awaiting the task itself could not tell its cancellation from our own.
            await asyncio.wait({task})
        finally:
            await link.close()
        if not task.cancelled():
            with suppress(*BREAKS):
                task.result()

    def _ended(self, link: Link, task: asyncio.Task[None]) -> None:
        """At once, before a successor's first trades are taken for the old one's."""
        if task.cancelled():
            return
        others = (other for other, serving in self._links.items() if not serving.done())
        heard = {each for other in others if other.speaks.is_set() for each in other.symbols}
        lost = [each for each in link.symbols if each not in heard]
        if lost:
            self._listener.interrupted(lost, why=f"the socket broke: {task.exception()}")

    def _failed(self, why: str, error: BaseException | None) -> None:
        self._failures += 1
        metrics.SOCKET_RECONNECTS.labels(self._adapter.NAME, why).inc()
        log.warning(
            "collect.socket_down", exchange=self._adapter.NAME, why=why, error=str(error)[:200]
        )

    def _renewal_failed(self, error: BaseException | None) -> None:
        log.warning("collect.renewal_failed", exchange=self._adapter.NAME, error=str(error)[:200])

    def _recovered(self) -> None:
        self._failures = 0
