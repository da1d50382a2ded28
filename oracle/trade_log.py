"""The trades of each exchange, in a Redis stream: written by its collector, read by aggregators.

One entry is a batch. Who writes holds the role ``collect:{exchange}``, and its fencing token is
checked with every batch. A batch sent twice, because its answer was lost, is logged once. Entries
go when they are old, never before the aggregators have acknowledged them; only the hard limit that
keeps Redis alive drops more, and each trade dropped is named in a hole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import msgspec
import structlog
from django.conf import settings
from redis.exceptions import ResponseError

from oracle import keys, metrics
from oracle.connection import redis_client, run_script
from oracle.values import Side, Trade

GROUP = "aggregator-group"
FIELD = b"trades"
MAX_TRADES_PER_ENTRY = 500
KEEP_HOLES_MS = 7 * 86_400_000
MAX_HOLES = 10_000  # of an exchange; beyond, the oldest are forgotten

log = structlog.get_logger(__name__)


class LoggedTrade(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A trade of the log; what it holds was checked when it was an `oracle.values.Trade`.

    ``fills`` executions of one price were merged into it by the exchange (OKX). A msgspec.Struct,
    because twenty thousand are written and read each second.
    """

    exchange_symbol: str
    price: Decimal
    size: Decimal
    side: Side
    trade_id: str | None
    event_ms: int
    received_ms: int
    fills: int = 1


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """The newest trade logged of a symbol."""

    trade_id: str
    event_ms: int


class Hole(msgspec.Struct, frozen=True, kw_only=True):
    """Trades that are not in the log, or may not be.

    They lie after ``after_id`` and before ``before_id``, in ``[from_ms, to_ms]`` of the exchange's
    time; None: not known. ``missing`` is their exact number where ids are contiguous.
    ``is_open`` while the collector still tries to fetch them; ``found_ms`` is of our own clock.
    """

    exchange_symbol: str
    after_id: str | None
    before_id: str | None
    from_ms: int
    to_ms: int
    missing: int | None
    reason: str
    is_open: bool = False
    found_ms: int = 0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[LoggedTrade])
_hole_decoder = msgspec.json.Decoder(Hole)


def logged(trade: Trade, fills: int = 1) -> LoggedTrade:
    """Make a trade one of the log."""
    return LoggedTrade(
        trade.exchange_symbol,
        trade.price,
        trade.size,
        trade.side,
        trade.trade_id,
        trade.event_ms,
        trade.received_ms,
        fills,
    )


# --- writing ---


def claim(exchange: str, *, token: str) -> bool:
    """Shut out the collectors before us, so that what is read next is all that they wrote.

    False when a newer one has claimed or written.
    """
    return bool(run_script("trades_claim", [keys.fence(f"trades:{exchange}")], [token]))


def append(exchange: str, trades: Sequence[LoggedTrade], *, token: str) -> bool:
    """Log up to MAX_TRADES_PER_ENTRY trades as one entry; False when a newer collector has written.

    Safe to call again with the same trades while nothing else was logged in between.
    """
    if len(trades) > MAX_TRADES_PER_ENTRY:
        raise ValueError(f"an entry has at most {MAX_TRADES_PER_ENTRY} trades, got {len(trades)}")
    if not trades:
        raise ValueError("an entry has at least one trade")
    batch = _encoder.encode(trades)
    dropped = run_script(
        "trades_append",
        [
            keys.fence(f"trades:{exchange}"),
            keys.trades_stream(exchange),
            keys.trade_positions(exchange),
            keys.trade_batch(exchange),
        ],
        [
            token,
            blake2b(batch, digest_size=16).hexdigest(),
            batch,
            settings.TRADE_LOG_KEEP_MS,
            settings.TRADE_LOG_MAX_ENTRIES,
            GROUP,
            *_newest(trades),
        ],
    )
    if dropped is None:
        return False
    if dropped:
        _name_dropped(exchange, [trade for entry in dropped for trade in _decoder.decode(entry)])
    return True


def _newest(trades: Iterable[LoggedTrade]) -> list[str | int]:
    """The newest trade of each symbol, flat: symbol, id, time."""
    newest: dict[str, tuple[tuple[int, str, int], str, int]] = {}
    for trade in trades:
        trade_id = trade.trade_id
        if trade_id is None:
            continue
        rank = _rank(trade_id, trade.event_ms)
        known = newest.get(trade.exchange_symbol)
        if known is None or rank >= known[0]:
            newest[trade.exchange_symbol] = (rank, trade_id, trade.event_ms)
    return [
        part
        for symbol, (_, trade_id, event_ms) in newest.items()
        for part in (symbol, trade_id, event_ms)
    ]


def _rank(trade_id: str, event_ms: int) -> tuple[int, str, int]:
    """Order the ids of one symbol as trades_append.lua does."""
    return (len(trade_id), trade_id, event_ms) if trade_id.isdigit() else (0, "", event_ms)


def _name_dropped(exchange: str, trades: Sequence[LoggedTrade]) -> None:
    metrics.TRADES_DROPPED.labels(exchange).inc(len(trades))
    for hole in span_holes(trades, reason="the log was full and nobody had read them"):
        record_hole(exchange, hole)
    counts = Counter(trade.exchange_symbol for trade in trades)
    log.error("trade_log.dropped", exchange=exchange, trades=len(trades), symbols=dict(counts))


def span_holes(trades: Iterable[LoggedTrade], *, reason: str) -> list[Hole]:
    """Name trades that are given up: a hole for each symbol, its ids the first and last lost."""
    lost: dict[str, list[LoggedTrade]] = {}
    for trade in trades:
        lost.setdefault(trade.exchange_symbol, []).append(trade)
    return [
        Hole(
            exchange_symbol=symbol,
            after_id=None,
            before_id=None,
            from_ms=min(trade.event_ms for trade in rows),
            to_ms=max(trade.event_ms for trade in rows),
            missing=len(rows),
            reason=f"{reason}: {rows[0].trade_id} to {rows[-1].trade_id}",
        )
        for symbol, rows in lost.items()
    ]


# --- reading ---


def ensure_group(exchange: str) -> None:
    """Make the aggregators' group, from the first entry on, unless there is one."""
    try:
        redis_client().xgroup_create(keys.trades_stream(exchange), GROUP, id="0", mkstream=True)
    except ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise


def decode(entry: Mapping[bytes, bytes]) -> list[LoggedTrade]:
    """The trades of an entry, given its fields. Raises ValueError when it is none of ours."""
    batch = entry.get(FIELD)
    if batch is None:
        raise ValueError(f"an entry of the trade log has a field {FIELD.decode()}")
    return _decoder.decode(batch)


def tail(exchange: str, *, entries: int, since_ms: int = 0) -> list[LoggedTrade]:
    """The trades of the newest ``entries`` logged since then, oldest first: for a takeover."""
    rows: Any = redis_client().xrevrange(
        keys.trades_stream(exchange), min=f"{since_ms}-0", count=entries
    )
    return [trade for _, entry in reversed(rows) for trade in decode(entry)]


def positions(exchange: str) -> dict[str, Position]:
    """The newest logged trade of each symbol."""
    fields: Any = redis_client().hgetall(keys.trade_positions(exchange))
    found: dict[str, Position] = {}
    for symbol, text in fields.items():
        trade_id, _, event_ms = text.decode().rpartition("|")
        found[symbol.decode()] = Position(trade_id=trade_id, event_ms=int(event_ms))
    return found


# --- holes ---


def record_hole(exchange: str, hole: Hole) -> None:
    """Name trades that the log lacks. Safe to call again."""
    key = keys.trade_holes(exchange)
    with redis_client().pipeline(transaction=True) as pipe:
        pipe.zadd(key, {msgspec.json.encode(hole): hole.to_ms})
        pipe.zremrangebyscore(key, "-inf", hole.to_ms - KEEP_HOLES_MS)
        pipe.zremrangebyrank(key, 0, -MAX_HOLES - 1)
        pipe.pexpire(key, KEEP_HOLES_MS)
        pipe.execute()


def forget_hole(exchange: str, hole: Hole) -> None:
    """Take back a hole whose trades were had after all."""
    redis_client().zrem(keys.trade_holes(exchange), msgspec.json.encode(hole))


def holes(exchange: str) -> list[Hole]:
    """The holes of the last week, by the end of each."""
    rows: Any = redis_client().zrange(keys.trade_holes(exchange), 0, -1)
    return [_hole_decoder.decode(row) for row in rows]
