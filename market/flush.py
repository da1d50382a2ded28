"""Candles from Redis to the database, in two phases: commit first, forget after.

Whatever dies in between, the candle is still in Redis and is flushed again; writing it twice
changes nothing. A database that is away for hours costs time, not candles.

A candle's prices come from the index and its volumes from trades, and either may change after the
minute was flushed: each has a list of what is due and a version of its own. Both are written
together, and each is marked only as it was read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.conf import settings
from django.db import transaction

from market import candles, rollups, volumes
from market.ranges import TimeRange
from market.volumes import Volumes
from oracle import candle_book, heartbeat, keys, metrics, trade_totals
from oracle.candle_book import MINUTE_MS, OpenCandle
from oracle.connection import redis_client
from oracle.jsontext import encode

RESOURCE = "ohlcv_1m"
# One transaction's worth: after a long outage many of them follow each other.
CANDLES_PER_BATCH = 5_000
# A statement that waits for longer, for a lock of somebody's, leaves the rest to the next flush.
STATEMENT_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Flushed:
    """What a flush came to; ``waiting`` candles changed while it ran and are left for the next."""

    created: int = 0
    revised: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Candles whose prices are due, and the trades of these and of other minutes."""

    candles: list[OpenCandle]
    volumes: Volumes

    @property
    def size(self) -> int:
        return len(self.candles) + len(self.volumes.totals)


def flush_candles(*, now_ms: int, token: str) -> Flushed:
    """Write every candle whose minute is over, oldest first, batch by batch.

    Raises FencedOutError when a newer flush has begun, and the database's own errors when it is
    away: the batches committed before stay, the rest waits in Redis.
    """
    created = revised = waiting = 0
    while (batch := _due(now_ms)).size:
        written = _commit(batch, token)
        done = candle_book.mark_flushed(batch.candles, now_ms=now_ms)
        done += trade_totals.mark_flushed(batch.volumes.totals, now_ms=now_ms)
        _record(batch, now_ms)
        created += written.created
        revised += written.revised
        waiting += batch.size - done
        if not done:  # all of it changed meanwhile: leave it, or this would never end
            break
    trade_totals.forget(now_ms=now_ms)
    metrics.CANDLE_REVISIONS.inc(revised)
    heartbeat.beat("flush", now_ms=now_ms, created=created, revised=revised, waiting=waiting)
    return Flushed(created=created, revised=revised, waiting=waiting)


def _due(now_ms: int) -> _Batch:
    grace_ms, limit = settings.FLUSH_GRACE_MS, CANDLES_PER_BATCH
    found = candle_book.due(now_ms=now_ms, grace_ms=grace_ms, limit=limit)
    minutes = dict.fromkeys((candle.symbol, candle.open_ms) for candle in found)
    changed = trade_totals.due(now_ms=now_ms, grace_ms=grace_ms, limit=limit)
    return _Batch(candles=found, volumes=volumes.read([*(minutes | dict.fromkeys(changed))]))


def _commit(batch: _Batch, token: str) -> candles.Written:
    with transaction.atomic():
        candles.limit_statements(seconds=STATEMENT_SECONDS)
        candles.claim_fence(RESOURCE, token)
        written = candles.upsert(batch.candles, batch.volumes.known)
        rollups.note_touched((None, minute) for minute in _minutes(batch))
        return written


def _minutes(batch: _Batch) -> Iterable[TimeRange]:
    """The minutes of a batch, each once: of all symbols, for a flush is of all of them."""
    opens = {candle.open_ms for candle in batch.candles}
    opens |= {open_ms for _, open_ms in batch.volumes.known}
    return (TimeRange(start_ms=open_ms, end_ms=open_ms + MINUTE_MS) for open_ms in opens)


def _record(batch: _Batch, now_ms: int) -> None:
    """Note what was flushed last, of all symbols together."""
    if not batch.candles:
        return
    newest_ms = max(candle.open_ms for candle in batch.candles)
    note = encode({"open_ms": newest_ms, "at_ms": now_ms, "candles": len(batch.candles)})
    redis_client().set(keys.flush_last(), note)


def lag_ms(*, now_ms: int) -> int:
    """How long ago the oldest candle that waits for a flush was over; 0 when none is late."""
    oldest_ms = candle_book.unflushed_from()
    return 0 if oldest_ms is None else max(0, now_ms - oldest_ms - MINUTE_MS)
