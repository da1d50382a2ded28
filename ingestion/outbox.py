"""What a collector has still to write: bounded in memory, in order, kept while Redis is away."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence

import structlog
from redis.exceptions import RedisError

from ingestion.ledger import Note
from oracle import metrics, trade_log
from oracle.trade_log import MAX_TRADES_PER_ENTRY, LoggedTrade

MAX_QUEUED = 100_000  # trades; some 40 MB
BEHIND = 5_000  # trades
BATCH_SECONDS = 0.02  # the longest a trade waits for company
RETRY_SECONDS = 0.1
MAX_RETRY_SECONDS = 1.0

log = structlog.get_logger(__name__)


class FencedOutError(Exception):
    """A newer collector writes: ours is over."""


class Outbox:
    """A queue between the sockets and the trade log, of one exchange and one term."""

    def __init__(self, exchange: str, *, token: str, max_queued: int = MAX_QUEUED) -> None:
        self._exchange = exchange
        self._token = token
        self._max_queued = max_queued
        self._items: deque[LoggedTrade | Note] = deque()
        # Being written. Kept until that is certain: sent again unchanged it is logged once.
        self._batch: list[LoggedTrade] = []
        self._notes: list[Note] = []
        # One after the other: the log knows a batch again only until it has the next one.
        self._writing = threading.Lock()
        self._filled = asyncio.Event()
        self._is_failing = False

    def __len__(self) -> int:
        return len(self._items) + len(self._batch) + len(self._notes)

    @property
    def is_full(self) -> bool:
        """Is there no room for another trade? Notes always have room."""
        return len(self._items) >= self._max_queued

    @property
    def is_behind(self) -> bool:
        """Would it help to send less? Not while Redis is away: then there is only the queue."""
        return len(self._items) > BEHIND and not self._is_failing

    def put(self, item: LoggedTrade | Note) -> None:
        """Queue a trade or a note."""
        self._items.append(item)
        if not self._filled.is_set():
            self._filled.set()

    async def run(self) -> None:
        """Write for ever. Raises `FencedOutError`."""
        while True:
            await self._filled.wait()
            if len(self._items) < MAX_TRADES_PER_ENTRY:
                await asyncio.sleep(BATCH_SECONDS)
            await self.flush()
            self._filled.clear()

    async def flush(self) -> None:
        """Write all there is, waiting for Redis if need be. Raises `FencedOutError`."""
        while self:
            if not self._batch and not self._notes:
                self._fill()
            await self._persist()

    def _fill(self) -> None:
        """Take the next trades, or the next notes: never past one another."""
        items = self._items
        if type(items[0]) is Note:
            while items and isinstance(note := items[0], Note):
                self._notes.append(note)
                items.popleft()
            return
        batch = self._batch
        while items and len(batch) < MAX_TRADES_PER_ENTRY:
            item = items[0]
            if isinstance(item, Note):
                return
            batch.append(item)
            items.popleft()

    async def _persist(self) -> None:
        pause = RETRY_SECONDS
        while True:
            try:
                await asyncio.to_thread(self._write, tuple(self._notes), tuple(self._batch))
                break
            except RedisError as error:
                self._is_failing = True
                if pause == RETRY_SECONDS:
                    log.warning(
                        "collect.log_away",
                        exchange=self._exchange,
                        queued=len(self),
                        error=str(error),
                    )
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_RETRY_SECONDS)

        # Here and not in the thread, which goes on though whoever waits for it is cancelled.
        self._is_failing = False
        metrics.TRADES.labels(self._exchange).inc(len(self._batch))
        self._notes.clear()
        self._batch.clear()

    def _write(self, notes: Sequence[Note], batch: Sequence[LoggedTrade]) -> None:
        """Blocking, and safe to do again. Raises `FencedOutError`."""
        with self._writing:
            for note in notes:
                for hole in note.record:
                    trade_log.record_hole(self._exchange, hole)
                if note.forget is not None and note.forget not in note.record:
                    trade_log.forget_hole(self._exchange, note.forget)
            if batch and not trade_log.append(self._exchange, batch, token=self._token):
                raise FencedOutError(self._exchange)
