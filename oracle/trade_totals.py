"""The sums of trades per second and per minute, of each exchange and symbol, in Redis.

Sums are exact: decimal text that a script adds digit by digit. A batch of the trade log is added
and acknowledged in one script, so whatever dies, each trade counts once. Totals of a minute stay
until a flush has committed them and KEEP_MS longer: a late trade still finds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Any

import msgspec

from oracle import keys
from oracle.aggregation import EXACT, publishable
from oracle.connection import redis_client, run_script
from oracle.trade_log import GROUP

MINUTE_MS = 60_000
KEEP_MS = 2 * 3_600_000 + 5 * MINUTE_MS
SECONDS_KEPT = 120
KEEP_LISTENING_SECONDS = 2 * 86_400
FORGET_AT_ONCE = 1_000
_VERSION = b"version"

# Sums of trades are of far fewer digits; one that were not would be wrong, and raises.
SUMS = Context(prec=200, rounding=ROUND_HALF_EVEN, traps=[Inexact, InvalidOperation, Overflow])
_ZERO = Decimal(0)


class Sums(msgspec.Struct, kw_only=True, gc=False):
    """The trades of some time added up: base volume, price times size, and how many."""

    volume: Decimal = _ZERO
    quote_volume: Decimal = _ZERO
    trade_count: int = 0

    def add(self, other: Sums) -> None:
        """Add the trades of ``other``."""
        self.volume = SUMS.add(self.volume, other.volume)
        self.quote_volume = SUMS.add(self.quote_volume, other.quote_volume)
        self.trade_count += other.trade_count

    @property
    def vwap(self) -> Decimal | None:
        """The volume-weighted mean price, to 15 digits; None when nothing was traded."""
        if not self.volume:
            return None
        return publishable(EXACT.divide(self.quote_volume, self.volume))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A stream entry to acknowledge. ``wrong``: why it cannot be read; it is moved aside then."""

    exchange: str
    entry_id: str
    wrong: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteTotals:
    """The trades of a symbol's minute, over all exchanges. ``version`` counts their changes."""

    symbol: str
    open_ms: int
    sums: Sums
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondTotals:
    """The trades of one exchange and symbol over a window; ``last_second``: the newest of them."""

    sums: Sums
    last_second: int


MarketTime = tuple[str, str, int]  # exchange, symbol, second or minute_ms


# --- writing ---


def commit(
    entries: Sequence[Entry],
    *,
    consumer: str,
    seconds: Mapping[MarketTime, Sums],
    minutes: Mapping[MarketTime, Sums],
) -> list[MarketTime] | None:
    """Add the sums of ``entries`` and acknowledge these, all or nothing.

    Answers the minutes that are too old to be revised, whose sums were left out; None, and nothing
    is changed, when not every entry is pending for ``consumer``.
    """
    names = _Names(
        keys.trades_dirty(), keys.trades_flushed(), keys.trades_horizon(), keys.trades_poison()
    )
    args: list[object] = [GROUP, consumer, SECONDS_KEPT + MINUTE_MS // 1_000, len(entries)]
    for entry in entries:
        stream = names.number(keys.trades_stream(entry.exchange))
        args += (stream, entry.entry_id, entry.wrong)
    args.append(len(seconds))
    for (exchange, symbol, second), sums in seconds.items():
        args += (names.number(keys.trades_second(second)), f"{exchange}|{symbol}", *_texts(sums))
    args.append(len(minutes))
    for (exchange, symbol, minute_ms), sums in minutes.items():
        number = names.number(keys.trades_minute(symbol, minute_ms))
        args += (number, exchange, *_texts(sums), f"{symbol}|{minute_ms}", minute_ms)
    done, *too_late = run_script("trades_commit", names.keys, args)
    if not done:
        return None
    order = list(minutes)
    return [order[number - 1] for number in too_late]


class _Names:
    """The keys of a script call, each once, by their number in Lua."""

    def __init__(self, *first: str) -> None:
        self._numbers = {key: number for number, key in enumerate(first, start=1)}

    def number(self, key: str) -> int:
        return self._numbers.setdefault(key, len(self._numbers) + 1)

    @property
    def keys(self) -> list[str]:
        return list(self._numbers)


def _texts(sums: Sums) -> tuple[str, str, int]:
    return f"{sums.volume:f}", f"{sums.quote_volume:f}", sums.trade_count


def note_listening(exchange: str, *, at_ms: int) -> None:
    """Remember that the trades of an exchange were listened to at ``at_ms``, and counted."""
    key = keys.trades_listening(at_ms - at_ms % MINUTE_MS)
    with redis_client().pipeline(transaction=False) as pipe:
        pipe.sadd(key, exchange)
        pipe.expire(key, KEEP_LISTENING_SECONDS)
        pipe.execute()


# --- reading ---


def read_window(*, from_second: int, to_second: int) -> dict[str, dict[str, SecondTotals]]:
    """The trades of ``[from_second, to_second)`` by symbol and exchange."""
    pipe = redis_client().pipeline(transaction=False)
    for second in range(from_second, to_second):
        pipe.hgetall(keys.trades_second(second))
    found: dict[str, dict[str, SecondTotals]] = {}
    for second, rows in zip(range(from_second, to_second), pipe.execute(), strict=True):
        for field, text in rows.items():
            exchange, symbol = field.decode().split("|")
            by_exchange = found.setdefault(symbol, {})
            sums = _sums(text)
            if exchange in by_exchange:
                sums.add(by_exchange[exchange].sums)
            by_exchange[exchange] = SecondTotals(sums=sums, last_second=second)
    return found


def due(*, now_ms: int, grace_ms: int, limit: int) -> list[tuple[str, int]]:
    """The oldest ``limit`` (symbol, minute) over since ``grace_ms`` whose totals changed."""
    newest = now_ms - grace_ms - MINUTE_MS
    members: Any = redis_client().zrangebyscore(
        keys.trades_dirty(), "-inf", newest, start=0, num=limit
    )
    return [_split(member) for member in members]


def unflushed_from() -> int | None:
    """The oldest minute whose totals are not flushed; None when all are."""
    oldest: Any = redis_client().zrange(keys.trades_dirty(), 0, 0, withscores=True)
    return int(oldest[0][1]) if oldest else None


def read(wanted: Sequence[tuple[str, int]]) -> dict[tuple[str, int], MinuteTotals]:
    """The totals there are of these (symbol, minute), in one round trip."""
    if not wanted:
        return {}
    rows = run_script("trades_read", [keys.trades_minute(*each) for each in wanted], [])
    return {each: _totals(each, row) for each, row in zip(wanted, rows, strict=True) if row}


def horizon_ms() -> int:
    """The newest minute whose totals are forgotten; -1 while none is."""
    text: Any = redis_client().get(keys.trades_horizon())
    return int(text) if text else -1


def listening(minutes: Iterable[int]) -> dict[int, frozenset[str]]:
    """The exchanges that were listened to in each of these minutes."""
    order = list(minutes)
    pipe = redis_client().pipeline(transaction=False)
    for minute_ms in order:
        pipe.smembers(keys.trades_listening(minute_ms))
    return {
        minute_ms: frozenset(name.decode() for name in names)
        for minute_ms, names in zip(order, pipe.execute(), strict=True)
    }


# --- after a flush ---


def mark_flushed(totals: Sequence[MinuteTotals], *, now_ms: int) -> int:
    """Take committed totals off the list; what changed meanwhile stays on it. How many are done."""
    if not totals:
        return 0
    script_keys = [keys.trades_dirty(), keys.trades_flushed()]
    args: list[object] = [now_ms]
    for each in totals:
        script_keys.append(keys.trades_minute(each.symbol, each.open_ms))
        args += (f"{each.symbol}|{each.open_ms}", each.version)
    return int(run_script("trades_flushed", script_keys, args))


def forget(*, now_ms: int) -> int:
    """Delete totals that were flushed more than KEEP_MS ago. How many."""
    newest, count = now_ms - KEEP_MS, 0
    while True:
        members: Any = redis_client().zrangebyscore(
            keys.trades_flushed(), "-inf", newest, start=0, num=FORGET_AT_ONCE
        )
        if not members:
            return count
        script_keys = [keys.trades_flushed(), keys.trades_horizon()]
        args: list[object] = [newest]
        for symbol, minute_ms in map(_split, members):
            script_keys.append(keys.trades_minute(symbol, minute_ms))
            args += (f"{symbol}|{minute_ms}", minute_ms)
        count += int(run_script("trades_forget", script_keys, args))


def lags_ms(exchanges: Iterable[str], *, now_ms: int) -> dict[str, int]:
    """How old the oldest entry of each trade log is that was not counted yet; 0 when all were."""
    return {exchange: max(0, now_ms - _waits_since(exchange, now_ms)) for exchange in exchanges}


def _waits_since(exchange: str, now_ms: int) -> int:
    stream, client = keys.trades_stream(exchange), redis_client()
    groups: Any = client.xinfo_groups(stream) if client.exists(stream) else []
    group = next((each for each in groups if each["name"] == GROUP.encode()), None)
    if group is None:
        unread: Any = client.xrange(stream, count=1)
    elif group["pending"]:
        pending: Any = client.xpending(stream, GROUP)
        unread = [(pending["min"], None)] if pending["min"] else []
    else:
        last = group["last-delivered-id"].decode()
        unread = client.xrange(stream, min=f"({last}", count=1)
    return int(unread[0][0].decode().split("-")[0]) if unread else now_ms


def _split(member: bytes) -> tuple[str, int]:
    symbol, minute_ms = member.decode().rsplit("|", 1)
    return symbol, int(minute_ms)


def _totals(key: tuple[str, int], row: Sequence[bytes]) -> MinuteTotals:
    sums, version = Sums(), ""
    for field, text in zip(row[::2], row[1::2], strict=True):
        if field == _VERSION:
            version = text.decode()
        else:
            sums.add(_sums(text))
    return MinuteTotals(symbol=key[0], open_ms=key[1], sums=sums, version=version)


def _sums(text: bytes) -> Sums:
    volume, quote_volume, trade_count = text.decode().split("|")
    return Sums(
        volume=Decimal(volume), quote_volume=Decimal(quote_volume), trade_count=int(trade_count)
    )
