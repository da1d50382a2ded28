"""One client's socket: reads what it says, pushes the tape's trades as they happen."""

import asyncio
import contextlib
import heapq
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from ingestion.simulator.garbage import NOISE, garbled, next_shape
from ingestion.simulator.noise import mix
from ingestion.simulator.tape import Trade
from ingestion.simulator.venue import Market, Venue

SECOND_MS = 1_000
_MILLION = 1_000_000
_DROP_KEY, _REPEAT_KEY = 0x0D, 0x2E
Frame = str


class Quiet(NamedTuple):
    """When things last happened on a socket, for the rules about silent clients."""

    opened_ms: int
    heard_ms: int
    sent_ms: int
    ponged_ms: int


class Farewell(NamedTuple):
    """Why the exchange closes a socket, with its last words."""

    code: int
    words: list[Frame]


class Dialect(Protocol):
    """How one exchange talks on one socket. It keeps what the client subscribed to."""

    binary: bool

    @property
    def markets(self) -> Mapping[str, Market]:
        """What is subscribed to, by the exchange's name for it."""

    def greeting(self, now_ms: int) -> list[Frame]:
        """Return what is said before the client says anything."""

    def heard(self, text: str, now_ms: int) -> list[Frame]:
        """Return the replies to a message, having changed ``markets`` as it asks."""

    def trade_frames(self, market: Market, trades: list[Trade]) -> list[Frame]:
        """Return the messages that tell new trades."""

    def each_second(self, now_ms: int, *, idle: bool) -> list[Frame]:
        """Return heartbeats; ``idle`` tells that nothing else was pushed in this second."""

    def farewell(self, now_ms: int, quiet: Quiet) -> Farewell | None:
        """Return the reason to close the socket now, if there is one."""


class Session:
    """A socket with its dialect and, per subscribed market, the next trade to tell."""

    def __init__(self, *, venue: Venue, dialect: Dialect, ping_every_ms: int | None) -> None:
        self._venue = venue
        self._dialect = dialect
        self._ping_every_ms = ping_every_ms
        # Pings are answered by hand: a half-open socket must not answer them.
        self._socket = web.WebSocketResponse(autoping=False, max_msg_size=1 << 20)
        self._transport: asyncio.Transport | None = None
        # Per market the number and time of the next trade to tell.
        self._next: dict[str, tuple[int, int]] = {}
        # (time of its next trade, market), the earliest first; what is no longer subscribed to,
        # or was subscribed to anew, falls out when its turn comes.
        self._due: list[tuple[int, str]] = []
        self._changed = asyncio.Event()
        now_ms = venue.clock_ms()
        self._opened_ms = self._heard_ms = self._sent_ms = self._ponged_ms = now_ms
        self._pinged_ms = now_ms

    async def run(self, request: web.Request) -> web.WebSocketResponse:
        """Serve the client until either side is done."""
        await self._socket.prepare(request)
        self._transport = request.transport
        # Binance names its streams in the path: they are subscribed to from the start.
        self._follow(self._venue.clock_ms())
        pushing = asyncio.create_task(self._push())
        try:
            await self._say(self._dialect.greeting(self._venue.stated_ms()))
            self._changed.set()
            async for message in self._socket:
                await self._hear(message)
        except ConnectionError:
            return self._socket
        finally:
            pushing.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await pushing
        return self._socket

    def cut(self) -> None:
        """Drop the connection without a close frame."""
        if self._transport is not None:
            self._transport.abort()

    def wake(self) -> None:
        """Look at the faults again."""
        self._changed.set()

    async def close(self) -> None:
        """Say goodbye: the server is going down."""
        await self._socket.close(code=WSCloseCode.GOING_AWAY)

    async def _hear(self, message: WSMessage) -> None:
        if self._silent():
            return
        now_ms = self._venue.clock_ms()
        self._heard_ms = now_ms
        if message.type is WSMsgType.PING:
            await self._socket.pong(message.data)
        elif message.type is WSMsgType.PONG:
            self._ponged_ms = now_ms
        elif message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            data = message.data
            text = data if isinstance(data, str) else bytes(data).decode("utf-8", "replace")
            replies = self._dialect.heard(text, now_ms)
            self._follow(now_ms)
            await self._say(replies)
            self._changed.set()

    def _follow(self, now_ms: int) -> None:
        """Start newly subscribed markets with their next trade, forget the others."""
        markets = self._dialect.markets
        for name in set(self._next) - set(markets):
            del self._next[name]
        for name in set(markets) - set(self._next):
            self._aim(name, markets[name], number=markets[name].tape.number_at(now_ms + 1))

    def _aim(self, name: str, market: Market, *, number: int) -> None:
        due_ms = market.tape.trade(number).event_ms
        self._next[name] = (number, due_ms)
        heapq.heappush(self._due, (due_ms, name))

    def _next_due(self, until_ms: int) -> tuple[str, Market, int] | None:
        """Take the market whose next trade happened first, with that trade's number."""
        while self._due and self._due[0][0] <= until_ms:
            due_ms, name = heapq.heappop(self._due)
            market = self._dialect.markets.get(name)
            number, current_ms = self._next.get(name, (0, -1))
            if market is not None and current_ms == due_ms:
                return name, market, number
        return None

    async def _push(self) -> None:
        """Tell trades when they happen, heartbeats each second, and goodbye when it is time."""
        next_second_ms = self._venue.clock_ms() // SECOND_MS * SECOND_MS + SECOND_MS
        told_in_second = False
        try:
            while True:
                now_ms = self._venue.clock_ms()
                if self._silent():
                    self._skip(now_ms)
                else:
                    told_in_second |= await self._tell(now_ms)
                    if await self._leave(now_ms):
                        return
                if now_ms >= next_second_ms:
                    await self._second(now_ms, idle=not told_in_second)
                    next_second_ms = now_ms // SECOND_MS * SECOND_MS + SECOND_MS
                    told_in_second = False
                await self._wait(until_ms=self._wake_ms(next_second_ms))
        except ConnectionError:
            self.cut()

    def _wake_ms(self, next_second_ms: int) -> int:
        if self._silent() or not self._due:
            return next_second_ms
        return min(next_second_ms, self._due[0][0] + self._latency_ms())

    async def _wait(self, *, until_ms: int) -> None:
        seconds = max(0.001, (until_ms - self._venue.clock_ms()) / 1000)
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    async def _tell(self, now_ms: int) -> bool:
        """Push all trades that are due; tell whether there were any."""
        seen_ms = now_ms - self._latency_ms()
        told = False
        while due := self._next_due(seen_ms):
            name, market, first = due
            last = market.tape.number_at(seen_ms + 1)
            trades = [self._venue.shown(t) for t in market.tape.by_number(first=first, last=last)]
            self._aim(name, market, number=last)
            frames = self._dialect.trade_frames(market, self._kept(trades))
            frames += self._dialect.trade_frames(market, self._repeated(trades))
            await self._say(frames)
            told |= bool(frames)
        return told

    def _kept(self, trades: list[Trade]) -> list[Trade]:
        fault = self._venue.faults.get(self._venue.name, "drop_trades")
        if fault is None:
            return trades
        return [trade for trade in trades if not chosen(trade, _DROP_KEY, fault.value)]

    def _repeated(self, trades: list[Trade]) -> list[Trade]:
        fault = self._venue.faults.get(self._venue.name, "repeat_trades")
        if fault is None:
            return []
        return [trade for trade in self._kept(trades) if chosen(trade, _REPEAT_KEY, fault.value)]

    def _skip(self, now_ms: int) -> None:
        """Let what happens while the socket is silent be lost to it, as on the real ones."""
        while due := self._next_due(now_ms):
            name, market, _ = due
            self._aim(name, market, number=market.tape.number_at(now_ms + 1))

    async def _second(self, now_ms: int, *, idle: bool) -> None:
        """Send what is sent once a second."""
        if self._silent():
            return
        stated_ms = now_ms + self._venue.lens().skew_ms
        await self._say(self._dialect.each_second(stated_ms, idle=idle))
        if self._ping_every_ms and now_ms - self._pinged_ms >= self._ping_every_ms:
            self._pinged_ms = now_ms
            await self._socket.ping(str(now_ms).encode())

    async def _leave(self, now_ms: int) -> bool:
        """Close the socket if its rules say so; tell whether they did."""
        quiet = Quiet(self._opened_ms, self._heard_ms, self._sent_ms, self._ponged_ms)
        farewell = self._dialect.farewell(now_ms, quiet)
        if farewell is None:
            return False
        await self._say(farewell.words)
        await self._socket.close(code=farewell.code)
        return True

    async def _say(self, frames: list[Frame]) -> None:
        if not frames or self._socket.closed:
            return
        self._sent_ms = self._venue.clock_ms()
        fault = self._venue.faults.get(self._venue.name, "garbage")
        for frame in frames:
            body = frame.encode()
            if fault is not None:
                body = garbled(body, shape=next_shape(fault, self._venue.name))
            if self._dialect.binary or body == NOISE:
                await self._socket.send_bytes(body)
            else:
                await self._socket.send_str(body.decode("utf-8", "replace"))

    def _silent(self) -> bool:
        faults, name = self._venue.faults, self._venue.name
        return faults.get(name, "half_open") is not None or faults.get(name, "freeze") is not None

    def _latency_ms(self) -> int:
        fault = self._venue.faults.get(self._venue.name, "latency")
        return 0 if fault is None else int(fault.value)


def chosen(trade: Trade, key: int, ratio: float) -> bool:
    """Tell whether a trade is among the given share, the same ones each time."""
    return mix(key, trade.number) % _MILLION < ratio * _MILLION


def bursts(trades: list[Trade]) -> list[list[Trade]]:
    """Return the trades in lists of one moment each, as exchanges batch them."""
    groups: list[list[Trade]] = []
    for trade in trades:
        if groups and groups[-1][0].event_ms == trade.event_ms:
            groups[-1].append(trade)
        else:
            groups.append([trade])
    return groups


DialectMaker = Callable[[Venue, web.Request], Dialect]
