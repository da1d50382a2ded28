"""The trades of one exchange, from its sockets to the trade log, by one process at a time.

Whoever holds the role ``collect:{exchange}`` collects; the others stand by. A collector that takes
over shuts its predecessor out of the log, reads where it stopped, and asks the exchange for what
was missed in between.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import structlog
from django.conf import settings
from msgspec.structs import replace
from redis.exceptions import RedisError

from ingestion.adapter import Adapter, UnreadableError, Unresolved
from ingestion.holes import Filler
from ingestion.ledger import CountedLedger, Ledger, Note, RecentLedger
from ingestion.outbox import FencedOutError, Outbox
from ingestion.ws import Feed, Gate
from oracle import heartbeat, metrics, trade_log
from oracle.leader import Leader
from oracle.trade_log import LoggedTrade
from oracle.values import ErrorCode, Trade

CAMPAIGN_SECONDS = 0.5
BUG_SECONDS = 10.0  # after one; an exchange counts connections too
LEASE_CHECK_SECONDS = 0.1
# Of LEASE_TTL_MS. The rest is for a successor to notice and to connect: within the whole of it
# somebody collects again.
LEASE_RATIO = 29 / 30
BEAT_SECONDS = 1.0
PAUSE_SECONDS = 0.005
FLUSH_SECONDS = 2.5  # on the way out; the whole must end within five
RESUME_MS = 60_000  # holes found longer ago are not taken up by a successor
RESUME_ENTRIES = 3_000  # of the log, read at a takeover
CLOCK_MARGIN_MS = 5_000
MAX_BEHIND_MS = 86_400_000
MAX_AHEAD_MS = 3_600_000
REFUSALS = (ErrorCode.UNKNOWN_SYMBOL, ErrorCode.BAD_REQUEST)

Symbols = Callable[[], tuple[str, ...]]

log = structlog.get_logger(__name__)


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def role_of(exchange: str) -> str:
    """The role that the collector of an exchange holds."""
    return f"collect:{exchange}"


async def stand_by(adapter: Adapter, symbols: Symbols, *, stop: asyncio.Event) -> None:
    """Collect whenever the role can be had, until ``stop``."""
    ttl_ms = int(settings.LEASE_TTL_MS * LEASE_RATIO)
    leader, announced = Leader(role_of(adapter.NAME), ttl_ms=ttl_ms), False
    while not stop.is_set():
        wanted, pause = symbols(), CAMPAIGN_SECONDS
        if wanted and await _campaign(leader):
            announced = False
            collector = Collector(adapter, symbols, leader=leader)
            try:
                await collector.run(stop)
            except Exception:
                # A bug that one exchange meets must not end the collectors of the others.
                log.exception("collect.failed", exchange=adapter.NAME)
                pause = BUG_SECONDS
            finally:
                with suppress(RedisError):  # then the lease ends by itself
                    await asyncio.to_thread(leader.resign)
        elif wanted and not announced:
            announced = True
            log.info("collect.standing_by", exchange=adapter.NAME)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause * random.uniform(0.8, 1.2))


async def _campaign(leader: Leader) -> bool:
    try:
        return await asyncio.to_thread(leader.campaign)
    except RedisError as error:
        log.warning("collect.campaign_failed", role=leader.role, error=str(error))
        return False


class Collector:
    """One exchange, for one term of leadership."""

    def __init__(self, adapter: Adapter, symbols: Symbols, *, leader: Leader) -> None:
        self._adapter = adapter
        self._exchange = adapter.NAME
        self._wanted_symbols = symbols
        self._leader = leader
        self._token = leader.token or ""
        self._outbox = Outbox(self._exchange, token=self._token)
        kind = CountedLedger if adapter.TRADE_IDS_CONTIGUOUS else RecentLedger
        self._ledger: Ledger = kind(self._outbox.put, now_ms=now_ms)
        self._filler = Filler(adapter, self._ledger, check=self._is_plausible)
        self._gate = Gate()
        self._feeds: dict[Feed, asyncio.Task[None]] = {}
        self._no_feeds_until = 0.0
        self._newest: Trade | None = None
        self._trade_count = 0
        self._duplicate_count = 0
        self._dropped_count = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Collect until told to stop, or until somebody else leads."""
        log.info("collect.began", exchange=self._exchange, token=self._token)
        writing: asyncio.Task[None] | None = None
        try:
            await self._take_over()
            writing = asyncio.create_task(self._outbox.run())
            await self._until_over(stop, writing)
        except (FencedOutError, RedisError) as error:
            log.warning("collect.interrupted", exchange=self._exchange, error=repr(error))
        finally:
            await self._hang_up()
            if writing is not None:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
                await self._flush()
            self._count()
            log.info("collect.ended", exchange=self._exchange, trades=self._trade_count)

    # --- what the sockets say ---

    def heard(
        self, message: str | bytes, state: Mapping[str, object]
    ) -> tuple[Mapping[str, object], Sequence[str], bool]:
        """Take a message: the next state, what to reply, and whether it refused a subscription."""
        try:
            frames = self._adapter.parse_message(message, state, now_ms())
        except UnreadableError as error:
            return self._unread(Unresolved(code=error.code, detail=str(error)), state)
        except Exception:
            # An adapter's bug must cost a message, not the socket.
            log.exception("collect.parse_failed", exchange=self._exchange)
            bug = Unresolved(code=ErrorCode.UNREADABLE, detail="a bug of the adapter")
            return self._unread(bug, state)
        fills = frames.fills
        for trade in frames.trades:
            self._take(trade, fills.get(trade.trade_id or "", 1) if fills else 1)
        if frames.unresolved:
            for row in frames.unresolved:
                self._wrong(row)
                if row.exchange_symbol is not None:
                    self._lost([row.exchange_symbol], why=f"a trade was {row.code}")
        if self._ledger.incomplete:
            self._filler.start_wanted()
        refused = any(row.code in REFUSALS for row in frames.unresolved)
        return frames.state, frames.replies, refused

    def pause_seconds(self) -> float:
        """A moment for the writer, when messages come faster than it writes."""
        return PAUSE_SECONDS if self._outbox.is_behind else 0.0

    def interrupted(self, symbols: Sequence[str], *, why: str) -> None:
        """Nobody listens to these symbols from now on."""
        self._ledger.interrupted(symbols, now_ms=now_ms(), why=why)

    def listening(self, symbols: Sequence[str]) -> None:
        """Somebody surely listens to these symbols from now on."""
        self._ledger.listening(symbols, now_ms=now_ms())
        self._filler.start_wanted()

    def _take(self, trade: Trade, fills: int) -> None:
        if not self._is_plausible(trade):
            self._lost([trade.exchange_symbol], why=f"a trade was {ErrorCode.BAD_TIME}")
        elif self._outbox.is_full:
            if self._dropped_count == 0:
                log.warning("collect.queue_full", exchange=self._exchange)
            self._dropped_count += 1
            self._lost([trade.exchange_symbol], why="the queue was full")
        elif self._ledger.take(trade, fills):
            self._trade_count += 1
            self._newest = trade
        else:
            self._duplicate_count += 1

    def _unread(
        self, row: Unresolved, state: Mapping[str, object]
    ) -> tuple[Mapping[str, object], Sequence[str], bool]:
        """A message that cannot be read may have held a trade of any symbol."""
        self._wrong(row)
        self._lost([each for feed in self._feeds for each in feed.symbols], why="garbage came")
        return state, (), False

    def _lost(self, symbols: Sequence[str], *, why: str) -> None:
        self._ledger.lost(symbols, now_ms=now_ms(), why=why)

    def _is_plausible(self, trade: Trade) -> bool:
        behind_ms = trade.received_ms - trade.event_ms
        if -MAX_AHEAD_MS <= behind_ms <= MAX_BEHIND_MS:
            return True
        self._wrong(Unresolved(code=ErrorCode.BAD_TIME, detail=f"{behind_ms} ms behind our clock"))
        return False

    def _wrong(self, row: Unresolved) -> None:
        metrics.TRADE_ERRORS.labels(self._exchange, row.code.value).inc()
        speak = log.warning if row.code in REFUSALS else log.debug
        speak(
            "collect.unresolved",
            exchange=self._exchange,
            code=row.code.value,
            symbol=row.exchange_symbol,
            detail=row.detail,
        )

    # --- a term, from the takeover to the last word ---

    async def _take_over(self) -> None:
        """Shut out who was before us; then read where they stopped. Raises `FencedOutError`."""
        exchange, began_ms = self._exchange, now_ms()
        if not await asyncio.to_thread(trade_log.claim, exchange, token=self._token):
            raise FencedOutError(exchange)
        listed = set(self._wanted_symbols())
        positions = await asyncio.to_thread(trade_log.positions, exchange)
        known = {symbol: each for symbol, each in positions.items() if symbol in listed}
        named = await asyncio.to_thread(trade_log.holes, exchange)
        young = []
        for hole in (hole for hole in named if hole.is_open):
            if hole.found_ms >= began_ms - RESUME_MS:
                young.append(hole)
            else:
                why = "the collector changed while it was being fetched"
                lost = replace(hole, is_open=False, reason=why)
                self._outbox.put(Note(forget=hole, record=(lost,)))
        since_ms = min((hole.found_ms for hole in young), default=0) - CLOCK_MARGIN_MS
        trades: list[LoggedTrade] = []
        if young or not self._adapter.TRADE_IDS_CONTIGUOUS:
            trades = await asyncio.to_thread(
                trade_log.tail, exchange, entries=RESUME_ENTRIES, since_ms=max(0, since_ms)
            )
        self._ledger.resume(known, holes=young, trades=trades, now_ms=began_ms)
        self._filler.start_wanted()

    async def _until_over(self, stop: asyncio.Event, writing: asyncio.Task[None]) -> None:
        """Keep the sockets as the catalogue wants them while the role is ours."""
        beat_at = 0.0
        while not stop.is_set() and self._leader.token == self._token:
            self._arrange(self._wanted_symbols())
            if not self._feeds:
                return
            if writing.done():
                writing.result()
            if time.monotonic() - beat_at >= BEAT_SECONDS:
                beat_at = time.monotonic()
                self._count()
                await self._beat()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LEASE_CHECK_SECONDS)

    def _arrange(self, wanted: Sequence[str]) -> None:
        """Give each symbol a feed with room; the feeds of those that stay are left alone."""
        self._bury()
        listed = set(wanted)
        placed = [symbol for feed in self._feeds for symbol in feed.symbols]
        if listed == set(placed):
            return
        self.interrupted([each for each in placed if each not in listed], why="not listed")
        new = [symbol for symbol in wanted if symbol not in placed]
        room = self._adapter.MAX_SYMBOLS_PER_SOCKET
        for feed in list(self._feeds):
            kept = [symbol for symbol in feed.symbols if symbol in listed]
            kept, new = kept + new[: room - len(kept)], new[room - len(kept) :]
            if kept:
                feed.change(kept)
            else:
                self._feeds.pop(feed).cancel()
        while new and time.monotonic() >= self._no_feeds_until:
            feed = Feed(self._adapter, new[:room], listener=self, gate=self._gate)
            self._feeds[feed] = asyncio.create_task(feed.run())
            new = new[room:]

    def _bury(self) -> None:
        """A feed never ends by itself: one that did met a bug. Its symbols get another, later."""
        for feed, task in list(self._feeds.items()):
            if task.done():
                del self._feeds[feed]
                self._no_feeds_until = time.monotonic() + BUG_SECONDS
                error = task.exception()
                log.error("collect.feed_failed", exchange=self._exchange, error=repr(error))
                self.interrupted(feed.symbols, why=f"the collector failed: {error!r}")

    async def _beat(self) -> None:
        newest = self._newest
        with suppress(RedisError):
            await asyncio.to_thread(
                heartbeat.beat,
                role_of(self._exchange),
                now_ms=now_ms(),
                event_ms=newest.event_ms if newest else None,
                received_ms=newest.received_ms if newest else None,
                trades=self._trade_count,
                queued=len(self._outbox),
                symbols=sum(len(feed.symbols) for feed in self._feeds),
                sockets=len(self._feeds),
                sockets_up=sum(feed.is_up for feed in self._feeds),
            )

    def _count(self) -> None:
        metrics.TRADE_DUPLICATES.labels(self._exchange).inc(self._duplicate_count)
        metrics.TRADES_DROPPED.labels(self._exchange).inc(self._dropped_count)
        self._duplicate_count = self._dropped_count = 0

    async def _hang_up(self) -> None:
        for task in self._feeds.values():
            task.cancel()
        await asyncio.gather(*self._feeds.values(), return_exceptions=True)
        self._feeds.clear()
        await self._filler.stop()

    async def _flush(self) -> None:
        """Write what is left, if the log is still ours and Redis there."""
        with suppress(FencedOutError, TimeoutError):
            if self._leader.token == self._token:
                await asyncio.wait_for(self._outbox.flush(), FLUSH_SECONDS)
        if self._outbox:
            # No hole can be named without the log. The next collector finds where it ends.
            self._dropped_count += len(self._outbox)
            log.error("collect.unwritten", exchange=self._exchange, trades=len(self._outbox))
