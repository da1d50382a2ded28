"""The tape: every trade of a listing as a pure function of (seed, exchange, symbol, time).

Nothing is stored. Two counters with a closed form carry it: ``count_before(minute)`` trades had
happened when a minute began, ``lots_before(number)`` lots had been traded before a trade. Their
differences are a minute's trade count and any span's volume, which makes trade numbers contiguous
and a 24 h volume two subtractions. A minute's trades stand on at most ``LEVELS`` price levels in
a row, so that its candle costs the same at any trade rate and still is the exact fold of them.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from ingestion.simulator.markets import Listing
from ingestion.simulator.noise import BILLION, AssetPath, key_of, mix, mix_each

MINUTE_MS = 60_000
GENESIS_MS = 1_483_228_800_000  # 2017-01-01: before it there was no market.
GENESIS_MINUTE = GENESIS_MS // MINUTE_MS
LEVELS = 8
MIN_PRICE_TICKS = 20
_BILLION_SQUARED = BILLION**2
# From this bit of a minute on: who takes at a level whose price is that of the one before.
SIDE_BITS = 36
_OFFSET_CELL_MINUTES = 32
_PERSISTENT_OFFSET_PPB = 200_000
_MOVING_OFFSET_PPB = 150_000
_WICK_PPM = 120
_MIN_RATE_PERMILLE = 10
_RECENT_MINUTES = 4


class Trade(NamedTuple):
    """One execution; ``number`` counts a listing's trades without a hole."""

    number: int
    price: int
    lots: int
    taker_buys: bool
    event_ms: int
    position: int


class Minute(NamedTuple):
    """A minute's price levels in order; level s holds trades [ends[s-1], ends[s])."""

    start_ms: int
    first_number: int
    trade_count: int
    burst: int
    bits: int
    prices: Sequence[int]
    ends: Sequence[int]


class Tape:
    """The trades of one listing."""

    def __init__(
        self,
        *,
        listing: Listing,
        seed: int,
        rate_per_minute: int,
        base: AssetPath,
        quote: AssetPath,
    ) -> None:
        name = (seed, listing.exchange, listing.symbol)
        self.listing = listing
        self._base, self._quote = base, quote
        self._reference = int(listing.reference_price.scaleb(listing.price_scale + 9))
        self._shape_key = key_of(*name, "shape")
        self._count_key = key_of(*name, "count")
        self._lots_key = key_of(*name, "lots")
        self._level_key = key_of(*name, "level")
        self._time_key = key_of(*name, "time")
        self._offset_key = key_of(*name, "offset")
        own_pace = 700 + self._count_key % 600
        rate = rate_per_minute * listing.activity_permille * own_pace // 1000
        self._rate = max(_MIN_RATE_PERMILLE, rate)
        self._rate_noise = self._rate * 8 // 10
        self._mean_lots = listing.mean_lots
        self._lots_noise = listing.mean_lots * 9 // 10
        self._wick_ppm = max(1, _WICK_PPM * listing.volatility_percent // 100)
        self._offset_span = _MOVING_OFFSET_PPB if listing.volatility_percent > 3 else 20_000
        self._persistent = self._persistent_offset()
        self._offset_cell = (-1, 0, 0)
        # The last answers: a minute ends as the next one begins.
        self._boundary = self._count = self._lots = (-1, 0)
        self._recent: dict[int, Minute] = {}
        self.first_number = self.count_before(GENESIS_MINUTE)

    def count_before(self, minute: int) -> int:
        """Return how many trades had happened when a minute began."""
        known, count = self._count
        if known == minute:
            return count
        noise = mix(self._count_key, minute) % self._rate_noise
        count = (self._rate * (minute - GENESIS_MINUTE) + noise) // 1000
        self._count = (minute, count)
        return count

    def lots_before(self, number: int) -> int:
        """Return the volume in lots of all trades with a smaller number."""
        known, lots = self._lots
        if known == number:
            return lots
        noise = mix(self._lots_key, number) % self._lots_noise
        lots = self._mean_lots * number + noise
        self._lots = (number, lots)
        return lots

    def lots_before_each(self, numbers: Sequence[int]) -> list[int]:
        """Return `lots_before` of each: candles ask eight times a minute."""
        mean, span = self._mean_lots, self._lots_noise
        noise = mix_each(self._lots_key, numbers)
        return [mean * number + bits % span for number, bits in zip(numbers, noise, strict=True)]

    def minute_of(self, number: int) -> int:
        """Return the minute a trade number belongs to."""
        minute = GENESIS_MINUTE + number * 1000 // self._rate - 1
        while self.count_before(minute + 1) <= number:
            minute += 1
        return minute

    def boundary(self, minute: int) -> int:
        """Return the price in ticks on which the minute before closes and this one opens."""
        known, price = self._boundary
        if known == minute:
            return price
        price = self._price(self._base.at(minute), self._quote.at(minute), self._offset(minute))
        self._boundary = (minute, price)
        return price

    def _price(self, base: int, quote: int, offset: int) -> int:
        deviation = (BILLION + base) * (BILLION + offset)
        price = self._reference * deviation // ((BILLION + quote) * _BILLION_SQUARED)
        return price if price > MIN_PRICE_TICKS else MIN_PRICE_TICKS

    def hour_bounds(self, hour: int) -> tuple[int, int]:
        """Return prices no trade of an hour (minutes/60) is below or above; not tight."""
        base_low, base_high = self._base.hour_bounds(hour)
        quote_low, quote_high = self._quote.hour_bounds(hour)
        low_offset = self._persistent - self._offset_span
        high_offset = self._persistent + self._offset_span
        low = self._reference * (BILLION + base_low) * (BILLION + low_offset)
        high = self._reference * (BILLION + base_high) * (BILLION + high_offset)
        least = max(MIN_PRICE_TICKS, low // ((BILLION + quote_high) * BILLION**2))
        most = max(MIN_PRICE_TICKS, high // ((BILLION + quote_low) * BILLION**2))
        slack = 2 + most * self._wick_ppm // 1_000_000
        return least - slack, most + slack

    def minute(self, minute: int) -> Minute:
        """Return a minute's levels; a minute without a trade has none."""
        return self._shape(
            minute,
            numbers=(self.count_before(minute), self.count_before(minute + 1)),
            bounds=(self.boundary(minute), self.boundary(minute + 1)),
            bits=mix(self._shape_key, minute),
            jitter=mix(self._level_key, minute),
        )

    def minutes(self, start: int, end: int) -> list[Minute]:
        """Return `minute` of each in [start, end): an hour or more together costs much less."""
        minutes = range(start, end)
        span, rate = self._rate_noise, self._rate
        noise = mix_each(self._count_key, range(start, end + 1))
        counts = [
            (rate * minute + bits % span) // 1000
            for minute, bits in enumerate(noise, start - GENESIS_MINUTE)
        ]
        shapes = mix_each(self._shape_key, minutes)
        jitters = mix_each(self._level_key, minutes)
        bounds = pairwise(
            map(
                self._price,
                self._base.span(start, end + 1),
                self._quote.span(start, end + 1),
                map(self._offset, range(start, end + 1)),
            )
        )
        return [
            self._shape(minute, numbers=numbers, bounds=between, bits=bits, jitter=jitter)
            for minute, numbers, between, bits, jitter in zip(
                minutes, pairwise(counts), bounds, shapes, jitters, strict=True
            )
        ]

    def _shape(
        self,
        minute: int,
        *,
        numbers: tuple[int, int],
        bounds: tuple[int, int],
        bits: int,
        jitter: int,
    ) -> Minute:
        """Return a minute of all that is random in it, and of what it begins and ends with."""
        first, after = numbers
        before, close = bounds
        count = after - first
        prices: Sequence[int]
        if count < 2:
            prices = [close] * count
        else:
            prices = self._level_prices(
                levels=count if count < LEVELS else LEVELS,
                bits=bits,
                jitter=jitter,
                opened=_opened(before, bits),
                close=close,
            )
        burst = 1 + (bits >> 60) % 3
        return Minute(minute * MINUTE_MS, first, count, burst, bits, prices, _ends(count))

    def recent(self, minute: int) -> Minute:
        """Return a minute's levels, remembering the few that tickers ask for every second."""
        shape = self._recent.get(minute)
        if shape is None:
            shape = self._recent[minute] = self.minute(minute)
            if len(self._recent) > _RECENT_MINUTES:
                del self._recent[next(iter(self._recent))]
        return shape

    def extremes(self, minute: int) -> tuple[int, int] | None:
        """Return (low, high) of a minute, or None without a trade: cheaper than its levels."""
        count = self.count_before(minute + 1) - self.count_before(minute)
        if count == 0:
            return None
        close = self.boundary(minute + 1)
        if count == 1:
            return close, close
        bits = mix(self._shape_key, minute)
        opened = _opened(self.boundary(minute), bits)
        low, high = self._wicks(opened, close, bits=bits)
        if count == 2:
            return min(opened, close), max(opened, close)
        if count == 3:
            return (min(opened, close), high) if bits & 1 else (low, max(opened, close))
        return low, high

    def trades(self, *, from_ms: int, to_ms: int) -> Iterator[Trade]:
        """Yield the trades of [from_ms, to_ms) in order."""
        from_ms = max(from_ms, GENESIS_MS)
        if from_ms >= to_ms:
            return
        for minute in range(from_ms // MINUTE_MS, (to_ms - 1) // MINUTE_MS + 1):
            shape = self.minute(minute)
            first = self.count_until(shape, ms=from_ms)
            last = self.count_until(shape, ms=to_ms)
            yield from self.slice(shape, first=first, last=last)

    def by_number(self, *, first: int, last: int) -> Iterator[Trade]:
        """Yield the trades numbered [first, last)."""
        number = max(self.first_number, first)
        if number >= last:
            return
        minute = self.minute_of(number)
        while number < last:
            shape = self.minute(minute)
            start = number - shape.first_number
            stop = min(shape.trade_count, last - shape.first_number)
            yield from self.slice(shape, first=start, last=stop)
            number = shape.first_number + max(start, stop)
            minute += 1

    def number_at(self, ms: int) -> int:
        """Return how many trades had happened before a moment: the number of the next one."""
        if ms <= GENESIS_MS:
            return self.first_number
        shape = self.recent(ms // MINUTE_MS)
        return shape.first_number + self.count_until(shape, ms=ms)

    def trade(self, number: int) -> Trade:
        """Return one trade by its number."""
        shape = self.recent(self.minute_of(number))
        index = number - shape.first_number
        return next(self.slice(shape, first=index, last=index + 1))

    def close_before(self, minute: int) -> int:
        """Return the price of the last trade before a minute."""
        earlier = minute - 1
        while self.count_before(earlier) == self.count_before(earlier + 1):
            earlier -= 1
        return self.boundary(earlier + 1)

    def count_until(self, shape: Minute, *, ms: int) -> int:
        """Return how many of a minute's trades happened before a moment, without a search."""
        offset = ms - shape.start_ms
        if offset <= 0:
            return 0
        if offset >= MINUTE_MS:
            return shape.trade_count
        # All bursts whose slot has ended are over; only the one whose slot runs can be either.
        start = offset * shape.trade_count // MINUTE_MS // shape.burst * shape.burst
        if start < shape.trade_count and self._burst_ms(shape, start) < ms:
            start += shape.burst
        return min(start, shape.trade_count)

    def slice(self, shape: Minute, *, first: int, last: int) -> Iterator[Trade]:
        """Yield a minute's trades with index [first, last)."""
        if first >= last:
            return
        count, levels, burst = shape.trade_count, len(shape.prices), shape.burst
        event_ms = self._burst_ms(shape, first - first % burst)
        number = shape.first_number + first
        lots = self.lots_before(number)
        for index in range(first, last):
            if index % burst == 0:
                event_ms = self._burst_ms(shape, index)
            level = ((index + 1) * levels - 1) // count
            number += 1
            following = self.lots_before(number)
            yield Trade(
                number - 1,
                shape.prices[level],
                following - lots,
                taker_buys(shape, level),
                event_ms,
                index,
            )
            lots = following

    def _burst_ms(self, shape: Minute, start: int) -> int:
        """Return the time of the burst of trades that begins at an index."""
        width = min(shape.burst, shape.trade_count - start)
        share = mix(self._time_key, shape.first_number + start) & 0xFFFF
        return shape.start_ms + (start * 65_536 + share * width) * MINUTE_MS // (
            shape.trade_count * 65_536
        )

    def _level_prices(
        self, *, levels: int, bits: int, jitter: int, opened: int, close: int
    ) -> Sequence[int]:
        if levels == 2:
            return [opened, close]
        low, high = self._wicks(opened, close, bits=bits)
        if levels == 3:
            return [opened, high if bits & 1 else low, close]
        rise, steps, span = close - opened, levels - 1, high - low
        around = [
            opened + rise * level // steps + (byte - 128) * span // 384
            for level, byte in enumerate(jitter.to_bytes(8, "little")[: steps - 1], 1)
        ]
        inside = [low if price < low else high if price > high else price for price in around]
        prices = [opened, *inside, close]
        inner = levels - 2
        top = (bits >> 48) % inner
        bottom = (top + 1 + (bits >> 52) % (inner - 1)) % inner
        prices[1 + top] = high
        prices[1 + bottom] = low
        return prices

    def _wicks(self, opened: int, close: int, *, bits: int) -> tuple[int, int]:
        reach = close * self._wick_ppm
        up = reach * ((bits >> 2) & 0xFFFF) // 65_536_000_000
        down = reach * ((bits >> 18) & 0xFFFF) // 65_536_000_000
        if opened < close:
            return max(1, opened - down), close + up
        return max(1, close - down), opened + up

    def _persistent_offset(self) -> int:
        span = _PERSISTENT_OFFSET_PPB if self._offset_span == _MOVING_OFFSET_PPB else 50_000
        return mix(self._offset_key, -1) % (2 * span) - span

    def _offset(self, minute: int) -> int:
        cell, step = divmod(minute, _OFFSET_CELL_MINUTES)
        if cell != self._offset_cell[0]:
            span = self._offset_span
            left = mix(self._offset_key, cell) % (2 * span) - span
            right = mix(self._offset_key, cell + 1) % (2 * span) - span
            self._offset_cell = (cell, left, right)
        _, left, right = self._offset_cell
        return self._persistent + left + (right - left) * step // _OFFSET_CELL_MINUTES


def _opened(boundary: int, bits: int) -> int:
    """Return a minute's first price, at most a tick from the last one before."""
    return boundary + bits % 3 - 1


@lru_cache(maxsize=256)
def _ends(count: int) -> tuple[int, ...]:
    """Return where each level of so many trades ends."""
    levels = min(count, LEVELS)
    return tuple((level + 1) * count // levels for level in range(levels))


def taker_buys(shape: Minute, level: int) -> bool:
    """Tell the taker's side of a level: an uptick was bought, a downtick sold."""
    if level > 0 and shape.prices[level] != shape.prices[level - 1]:
        return shape.prices[level] > shape.prices[level - 1]
    return bool(shape.bits >> (SIDE_BITS + level) & 1)
