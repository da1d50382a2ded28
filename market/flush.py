"""Candles from Redis to the database, in two phases: commit first, forget after.

Whatever dies in between, the candle is still in Redis and is flushed again; writing it twice
changes nothing. A database that is away for hours costs time, not candles.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.db import transaction

from market import candles
from oracle import candle_book, heartbeat, keys, metrics
from oracle.candle_book import MINUTE_MS, OpenCandle
from oracle.connection import redis_client
from oracle.jsontext import encode

RESOURCE = "ohlcv_1m"
# One transaction's worth: after a long outage many of them follow each other.
CANDLES_PER_BATCH = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Flushed:
    """What a flush came to; ``waiting`` candles changed while it ran and are left for the next."""

    created: int = 0
    revised: int = 0
    waiting: int = 0


def flush_candles(*, now_ms: int, token: str) -> Flushed:
    """Write every candle whose minute is over, oldest first, batch by batch.

    Raises FencedOutError when a newer flush has begun, and the database's own errors when it is
    away: the batches committed before stay, the rest waits in Redis.
    """
    created = revised = waiting = 0
    while True:
        batch = candle_book.due(
            now_ms=now_ms, grace_ms=settings.FLUSH_GRACE_MS, limit=CANDLES_PER_BATCH
        )
        if not batch:
            break
        written = _commit(batch, token)
        done = candle_book.mark_flushed(batch, now_ms=now_ms)
        _record(batch, now_ms)
        created += written.created
        revised += written.revised
        waiting += len(batch) - done
        if not done:  # all of it changed meanwhile: leave it, or this would never end
            break
    metrics.CANDLE_REVISIONS.inc(revised)
    heartbeat.beat("flush", now_ms=now_ms, created=created, revised=revised, waiting=waiting)
    return Flushed(created=created, revised=revised, waiting=waiting)


def _commit(batch: list[OpenCandle], token: str) -> candles.Written:
    with transaction.atomic():
        candles.claim_fence(RESOURCE, token)
        return candles.upsert_prices(batch)


def _record(batch: list[OpenCandle], now_ms: int) -> None:
    """Note what was flushed last, of all symbols together."""
    newest_ms = max(candle.open_ms for candle in batch)
    note = encode({"open_ms": newest_ms, "at_ms": now_ms, "candles": len(batch)})
    redis_client().set(keys.flush_last(), note)


def lag_ms(*, now_ms: int) -> int:
    """How long ago the oldest candle that waits for a flush was over; 0 when none is late."""
    oldest = redis_client().zrange(keys.open_candles(), 0, 0, withscores=True)
    return max(0, now_ms - int(oldest[0][1]) - MINUTE_MS) if oldest else 0
