"""Candles as exact folds of the tape, at any number of minutes."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from operator import sub
from typing import NamedTuple

from ingestion.simulator.tape import GENESIS_MINUTE, MINUTE_MS, SIDE_BITS, Minute, Tape

HOUR_MINUTES = 60
_CACHE_ENTRIES = 12_000
# Worked out together: more would keep other questions waiting.
_BATCH_MINUTES = 120


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
            return self.minutes(minute, minute + 1)[0]
        shape = tape.recent(minute)
        count = tape.count_until(shape, ms=until_ms)
        if count == 0:
            return None
        ends = [*(end for end in shape.ends if end < count), count]
        first = shape.first_number
        lots = tape.lots_before_each([first, *[first + end for end in ends]])
        return _fold(shape, list(map(sub, lots[1:], lots)), count)

    def minutes(self, start: int, end: int) -> list[Candle | None]:
        """Return the candle of each whole minute in [start, end), None without a trade."""
        shapes = self._tape.minutes(start, end)
        # Minutes follow each other without a hole: the volume after one is that before the next.
        numbers = [shapes[0].first_number] if shapes else []
        for shape in shapes:
            first = shape.first_number
            numbers += [first + end for end in shape.ends]
        lots = self._tape.lots_before_each(numbers)
        traded = list(map(sub, lots[1:], lots))
        candles: list[Candle | None] = []
        at = 0
        for shape in shapes:
            after, count = at + len(shape.ends), shape.trade_count
            candles.append(_fold(shape, traded[at:after], count) if count else None)
            at = after
        return candles

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
        last = min(end - step, now_ms // MINUTE_MS)
        parts = self._buckets(max(start, GENESIS_MINUTE), last, minutes=step, now_ms=now_ms)
        for _, candle in parts:
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
        for start, candle in self._buckets(first, last, minutes=minutes, now_ms=now_ms):
            if candle is None:
                if not fill:
                    continue
                close = self._tape.close_before(start) if close is None else close
                candle = Candle(close, close, close, close, 0, 0, 0, 0, 0)
            close = candle.close
            yield start, candle

    def _buckets(
        self, first: int, last: int, *, minutes: int, now_ms: int
    ) -> Iterator[tuple[int, Candle | None]]:
        if minutes == 1:
            closed = min(last + 1, now_ms // MINUTE_MS)
            for start in range(first, closed, _BATCH_MINUTES):
                end = min(start + _BATCH_MINUTES, closed)
                yield from enumerate(self.minutes(start, end), start)
            first = max(first, closed)
        for start in range(first, last + 1, minutes):
            yield start, self.bucket(start, minutes=minutes, now_ms=now_ms)


def _fold(shape: Minute, traded: Sequence[int], count: int) -> Candle:
    """Return the candle of a minute's first ``count`` trades, at least one.

    ``traded`` is the volume on each of its levels, as far as they come to it.
    """
    prices, bits = shape.prices[: len(traded)], shape.bits
    before = prices[0]
    quote = buy_lots = buy_quote = 0
    for bit, (price, lots) in enumerate(zip(prices, traded, strict=True), SIDE_BITS):
        worth = price * lots
        quote += worth
        # As `taker_buys` says: an uptick was bought.
        if price > before or (price == before and bits >> bit & 1):
            buy_lots += lots
            buy_quote += worth
        before = price
    return Candle(
        prices[0], max(prices), min(prices), prices[-1],
        sum(traded), quote, count, buy_lots, buy_quote,
    )  # fmt: skip


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
