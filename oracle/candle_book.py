"""The 1m candles that are not yet safe in the database, in Redis.

A candle is keyed by symbol and minute. It stays until a flush has committed it; only then is it
marked flushed, and expires an hour later. Whatever the database does, nothing is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from oracle import keys
from oracle.connection import redis_client, run_script

KEEP_SECONDS = 3_600
NOTE_SECONDS = 7 * 86_400
MINUTE_MS = 60_000


class OpenCandle(msgspec.Struct, frozen=True, kw_only=True):
    """A candle in Redis. ``version`` counts its changes: a flush marks the one it has read."""

    symbol: str
    open_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    sources: tuple[str, ...]
    version: str


def due(*, now_ms: int, grace_ms: int, limit: int) -> list[OpenCandle]:
    """The oldest ``limit`` candles whose minute is over since ``grace_ms``, not yet flushed."""
    newest = now_ms - grace_ms - MINUTE_MS
    members: Any = redis_client().zrangebyscore(
        keys.open_candles(), "-inf", newest, start=0, num=limit
    )
    return read([_split(member.decode()) for member in members])


def read(wanted: Sequence[tuple[str, int]]) -> list[OpenCandle]:
    """The candles there are of these (symbol, minute), in one round trip."""
    if not wanted:
        return []
    rows = run_script("candles_read", [keys.candle(*each) for each in wanted], [])
    return [
        _candle(symbol, minute_ms, row)
        for (symbol, minute_ms), row in zip(wanted, rows, strict=True)
        if row
    ]


def unflushed_from() -> int | None:
    """The oldest minute of any candle that may not be in the database yet; None: all are."""
    oldest: Any = redis_client().zrange(keys.open_candles(), 0, 0, withscores=True)
    return int(oldest[0][1]) if oldest else None


def unflushed_span() -> tuple[int, int] | None:
    """The oldest and the newest minute of candles that may not be in the database yet."""
    pipe = redis_client().pipeline(transaction=True)
    for place in (0, -1):
        pipe.zrange(keys.open_candles(), place, place, withscores=True)
    oldest, newest = pipe.execute()
    return (int(oldest[0][1]), int(newest[0][1])) if oldest else None


def unflushed(symbol: str, *, from_ms: int, to_ms: int) -> list[OpenCandle]:
    """A symbol's candles that open in ``[from_ms, to_ms)`` and may not be in the database yet."""
    span = unflushed_span()
    return [] if span is None else read_span(symbol, span, from_ms=from_ms, to_ms=to_ms)


def read_span(symbol: str, span: tuple[int, int], *, from_ms: int, to_ms: int) -> list[OpenCandle]:
    """A symbol's candles that open in ``[from_ms, to_ms)``, of what `unflushed_span` told."""
    oldest_ms, newest_ms = span
    start = max(-(-from_ms // MINUTE_MS) * MINUTE_MS, oldest_ms)
    end = min(to_ms, newest_ms + 1)
    return read([(symbol, minute_ms) for minute_ms in range(start, end, MINUTE_MS)])


def mark_flushed(candles: Sequence[OpenCandle], *, now_ms: int) -> int:
    """Forget candles that are committed; one that changed meanwhile stays. How many are done.

    Notes for each symbol what was flushed last, and when.
    """
    if not candles:
        return 0
    script_keys = [keys.open_candles()]
    args: list[object] = [KEEP_SECONDS, NOTE_SECONDS]
    for candle in candles:
        script_keys += (
            keys.candle(candle.symbol, candle.open_ms),
            keys.flush_last(candle.symbol),
        )
        note = f'{{"open_ms":{candle.open_ms},"at_ms":{now_ms}}}'
        args += (f"{candle.symbol}|{candle.open_ms}", candle.version, note)
    return int(run_script("candles_flushed", script_keys, args))


def waiting() -> int:
    """How many candles are in Redis only, the open minute's included."""
    return int(redis_client().zcard(keys.open_candles()))


def _split(member: str) -> tuple[str, int]:
    symbol, minute_ms = member.rsplit("|", 1)
    return symbol, int(minute_ms)


def _candle(symbol: str, minute_ms: int, row: Sequence[bytes]) -> OpenCandle:
    opened, high, low, close, sources, version = (field.decode() for field in row)
    return OpenCandle(
        symbol=symbol,
        open_ms=minute_ms,
        open=Decimal(opened),
        high=Decimal(high),
        low=Decimal(low),
        close=Decimal(close),
        sources=tuple(sources.split(",")),
        version=version,
    )
