"""The trade logs of all exchanges, folded into sums: `manage.py aggregate`.

Any number of aggregators share the consumer group. Each reads a batch, folds it, and writes sums
and acknowledgement in one script; nothing is kept in memory between rounds. What a dead one had
read is taken over once it has been idle for RECLAIM_IDLE_MS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from django.conf import settings
from prometheus_client import Counter
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from oracle import heartbeat, keys, trade_log, trade_totals
from oracle.catalog import CatalogReader
from oracle.connection import TIMEOUT_SECONDS
from oracle.trade_log import GROUP
from oracle.trade_totals import Entry, MarketTime
from prices.fold import Fold

BLOCK_MS = 250
ENTRIES_PER_STREAM = 8  # of up to 500 trades each
RECLAIM_EVERY_MS = 5_000
RECLAIM_IDLE_MS = 15_000
RECLAIM_COUNT = 100
BEAT_EVERY_MS = 1_000
MAX_WRONG_CHARS = 200
TOO_LATE = "TOO_LATE"

FOLDED = Counter("oracle_trades_folded", "Trades added to the sums.", ("exchange",))
REFUSED = Counter("oracle_trades_refused", "Trades not added, by code.", ("exchange", "code"))
POISON = Counter("oracle_trade_log_poison", "Entries nobody could read.", ("exchange",))
REVOKED = Counter("oracle_trade_batches_revoked", "Batches that were given to somebody else.")

log = structlog.get_logger(__name__)

# As Redis gives them: id and fields, None where the log has dropped an entry that was pending.
Rows = Sequence[tuple[bytes, dict[bytes, bytes] | None]]


@dataclass(slots=True, kw_only=True)
class _Batch:
    """What one round has read; ``drained``: the exchanges of which nothing was left to read."""

    rows: dict[str, Rows] = field(default_factory=dict)
    drained: frozenset[str] = frozenset()
    entries: list[Entry] = field(default_factory=list)
    fold: Fold = field(default_factory=Fold)


class Aggregator:
    """One consumer of the group; ``step`` does one round."""

    def __init__(self, consumer: str) -> None:
        self.consumer = consumer
        self._catalog = CatalogReader()
        self._grouped: set[str] = set()
        self._reclaimed_ms = self._beaten_ms = 0
        self._drained: set[str] = set()
        # What we have read and not acknowledged comes first: a consumer of this name may have left
        # something behind, and so does each batch whose commit failed.
        self._own_first = True
        # Not the process's own: a blocking read must not keep others from their connection.
        self._redis = Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=TIMEOUT_SECONDS + BLOCK_MS / 1_000,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),  # the next round is the retry
        )

    def close(self) -> None:
        """Give the connection back."""
        self._redis.close()

    def step(self, *, now_ms: int, block_ms: int = BLOCK_MS) -> int:
        """Read a batch, add it, acknowledge it; how many entries. Raises RedisError."""
        catalog = self._catalog.current()
        batch = self._read_batch(catalog.exchanges, now_ms=now_ms, block_ms=block_ms)
        for exchange, rows in batch.rows.items():
            _fold(batch, exchange, rows, catalog.markets[exchange], now_ms)
        if batch.entries:
            self._commit(batch)
        self._drained |= batch.drained
        if now_ms - self._beaten_ms >= BEAT_EVERY_MS:
            self._beaten_ms = now_ms
            _note_listening(self._drained)
            self._drained.clear()
            heartbeat.beat("aggregate", now_ms=now_ms, consumer=self.consumer)
        return len(batch.entries)

    # --- reading ---

    def _read_batch(self, exchanges: Sequence[str], *, now_ms: int, block_ms: int) -> _Batch:
        if not exchanges:
            return _Batch()
        try:
            for exchange in exchanges:
                if exchange not in self._grouped:
                    trade_log.ensure_group(exchange)
                    self._grouped.add(exchange)
            if now_ms - self._reclaimed_ms >= RECLAIM_EVERY_MS:
                self._reclaimed_ms = now_ms
                self._reclaim(exchanges)
            if self._own_first:
                rows = self._read(exchanges, "0", block_ms=None)
                if rows:
                    return _Batch(rows=rows)
            self._own_first = True  # should the answer be lost on its way
            rows = self._read(exchanges, ">", block_ms=block_ms)
            self._own_first = False
        except ResponseError as error:
            if not str(error).startswith(("NOGROUP", "UNBLOCKED")):
                raise
            self._grouped.clear()  # Redis came back without its data
            return _Batch()
        full = {name for name, found in rows.items() if len(found) == ENTRIES_PER_STREAM}
        return _Batch(rows=rows, drained=frozenset(exchanges) - full)

    def _read(
        self, exchanges: Sequence[str], after: str, *, block_ms: int | None
    ) -> dict[str, Rows]:
        names = {keys.trades_stream(exchange).encode(): exchange for exchange in exchanges}
        streams: dict[Any, Any] = dict.fromkeys(names, after)
        answer: Any = self._redis.xreadgroup(
            GROUP, self.consumer, streams, count=ENTRIES_PER_STREAM, block=block_ms
        )
        return {names[stream]: rows for stream, rows in answer or () if rows}

    def _reclaim(self, exchanges: Sequence[str]) -> None:
        """Make those entries ours that a dead consumer had read."""
        for exchange in exchanges:
            claimed: Any = self._redis.xautoclaim(
                keys.trades_stream(exchange),
                GROUP,
                self.consumer,
                min_idle_time=RECLAIM_IDLE_MS,
                count=RECLAIM_COUNT,
                justid=True,
            )
            if claimed:
                self._own_first = True
                log.warning("aggregate.reclaimed", exchange=exchange, entries=len(claimed))

    # --- adding ---

    def _commit(self, batch: _Batch) -> None:
        # If this fails, or nobody knows whether it did, what we have read may still be pending.
        own_first, self._own_first = self._own_first, True
        too_late = trade_totals.commit(
            batch.entries,
            consumer=self.consumer,
            seconds=batch.fold.seconds,
            minutes=batch.fold.minutes,
        )
        if too_late is None:
            REVOKED.inc()
            log.warning("aggregate.revoked", entries=len(batch.entries))
            return
        self._own_first = own_first
        _count(batch, too_late)


def _fold(
    batch: _Batch, exchange: str, rows: Rows, symbols: Mapping[str, str], now_ms: int
) -> None:
    for entry_id, fields in rows:
        wrong = ""
        if fields:  # else the log has dropped it, and named its trades
            try:
                trades = trade_log.decode(fields)
            except (ValueError, ArithmeticError, msgspec.MsgspecError) as error:
                wrong = f"{type(error).__name__}: {error}"[:MAX_WRONG_CHARS]
            else:
                batch.fold.add(exchange, trades, symbols=symbols, now_ms=now_ms)
        batch.entries.append(Entry(exchange=exchange, entry_id=entry_id.decode(), wrong=wrong))


def _count(batch: _Batch, too_late: Sequence[MarketTime]) -> None:
    fold = batch.fold
    for market in too_late:
        exchange, symbol, minute_ms = market
        count = fold.minutes[market].trade_count
        fold.refused[exchange, TOO_LATE] += count
        fold.counted[exchange] -= count
        log.error(
            "aggregate.too_late",
            exchange=exchange,
            symbol=symbol,
            minute_ms=minute_ms,
            trades=count,
        )
    for exchange, count in fold.counted.items():
        FOLDED.labels(exchange).inc(count)
    for (exchange, code), count in fold.refused.items():
        REFUSED.labels(exchange, code).inc(count)
    for entry in batch.entries:
        if entry.wrong:
            POISON.labels(entry.exchange).inc()
            log.error(
                "aggregate.poison",
                exchange=entry.exchange,
                entry_id=entry.entry_id,
                error=entry.wrong,
            )


def _note_listening(exchanges: Iterable[str]) -> None:
    """Remember the minutes in which a collector had a socket up, of logs read to their end.

    While the aggregators are behind, a minute without trades is not known to have had none.
    """
    roles = {f"collect:{exchange}": exchange for exchange in exchanges}
    if roles:
        for role, facts in heartbeat.last(roles).items():
            if not facts.get("sockets_up"):
                continue
            trade_totals.note_listening(roles[role], at_ms=int(str(facts["at_ms"])))
