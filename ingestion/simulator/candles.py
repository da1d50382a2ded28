"""Candles as exact folds of the tape, at any number of minutes."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from ingestion.simulator.tape import GENESIS_MINUTE, MINUTE_MS, Tape, taker_buys

HOUR_MINUTES = 60
_CACHE_ENTRIES = 12_000


class Candle(NamedTuple):
    """Prices in ticks, volumes in lots, quote volumes in ticks x lots.

    Without a trade, the four prices are the last price before it.
    """

    open: int
    high: int
    low: int
    close: int
    lots: int
    quote: int
    trade_count: int
    buy_lots: int
    buy_quote: int


class CandleBook:
    """Candles of one tape. Closed hours and days are remembered, in a cache all books share."""

    def __init__(self, *, tape: Tape, cache: "CandleCache") -> None:
        self._tape = tape
        self._cache = cache

    def minute(self, minute: int, *, until_ms: int | None = None) -> Candle | None:
        """Return a minute's candle, of its trades before ``until_ms`` only; None without one."""
        tape = self._tape
        if until_ms is None:
            shape = tape.minute(minute)
            count = shape.trade_count
        else:
            shape = tape.recent(minute)
            count = tape.count_until(shape, ms=until_ms)
        if count == 0:
            return None
        prices, first = shape.prices, shape.first_number
        start_lots = previous = tape.lots_before(first)
        quote = buy_lots = buy_quote = 0
        used = 0
        for level, end in enumerate(shape.ends):
            used = level
            lots = tape.lots_before(first + (end if end < count else count))
            traded = lots - previous
            value = prices[level] * traded
            quote += value
            if taker_buys(shape, level):
                buy_lots += traded
                buy_quote += value
            previous = lots
            if end >= count:
                break
        seen = prices[: used + 1]
        return Candle(
            seen[0], max(seen), min(seen), seen[-1],
            previous - start_lots, quote, count, buy_lots, buy_quote,
        )  # fmt: skip

    def bucket(self, start: int, *, minutes: int, now_ms: int) -> Candle | None:
        """Return the candle over [start, start + minutes) as traded until now; None if empty."""
        end = start + minutes
        closed = end * MINUTE_MS <= now_ms
        if minutes == 1:
            return self.minute(start, until_ms=None if closed else now_ms + 1)
        key = (id(self), start, minutes)
        if closed and minutes >= HOUR_MINUTES and key in self._cache:
            return self._cache.get(key)
        step = HOUR_MINUTES if minutes > HOUR_MINUTES and minutes % HOUR_MINUTES == 0 else 1
        total: Candle | None = None
        for part in range(max(start, GENESIS_MINUTE), end, step):
            if part * MINUTE_MS > now_ms:
                break
            candle = self.bucket(part, minutes=step, now_ms=now_ms)
            if candle is not None:
                total = candle if total is None else joined(total, candle)
        if closed and minutes >= HOUR_MINUTES:
            self._cache.put(key, total)
        return total

    def rows(
        self, *, first: int, last: int, minutes: int, now_ms: int, fill: bool
    ) -> Iterator[tuple[int, Candle]]:
        """Yield (open minute, candle) for buckets opening in [first, last], oldest first.

        With ``fill`` an empty bucket repeats the price before it, as exchanges that show empty
        minutes do; without, it is left out.
        """
        close: int | None = None
        for start in range(first, last + 1, minutes):
            candle = self.bucket(start, minutes=minutes, now_ms=now_ms)
            if candle is None:
                if not fill:
                    continue
                close = self._tape.close_before(start) if close is None else close
                candle = Candle(close, close, close, close, 0, 0, 0, 0, 0)
            close = candle.close
            yield start, candle


class CandleCache:
    """A bounded memory of closed candles."""

    def __init__(self, capacity: int = _CACHE_ENTRIES) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[tuple[int, int, int], Candle | None] = OrderedDict()

    def __contains__(self, key: tuple[int, int, int]) -> bool:
        return key in self._entries

    def get(self, key: tuple[int, int, int]) -> Candle | None:
        self._entries.move_to_end(key)
        return self._entries[key]

    def put(self, key: tuple[int, int, int], candle: Candle | None) -> None:
        self._entries[key] = candle
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)


def joined(left: Candle, right: Candle) -> Candle:
    """Return the candle over two neighbouring spans, both with trades."""
    return Candle(
        left.open,
        max(left.high, right.high),
        min(left.low, right.low),
        right.close,
        left.lots + right.lots,
        left.quote + right.quote,
        left.trade_count + right.trade_count,
        left.buy_lots + right.buy_lots,
        left.buy_quote + right.buy_quote,
    )
