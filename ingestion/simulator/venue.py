"""One exchange as its clients see it: its clock, its listings, its tickers and candles."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ingestion.simulator.candles import Candle, CandleBook, CandleCache
from ingestion.simulator.decimals import fixed, ratio, trimmed, writer
from ingestion.simulator.faults import CLEAR, DAY_MS, FaultBoard, Lens, lens_of
from ingestion.simulator.markets import Listing, Markets
from ingestion.simulator.noise import AssetPath, BlockCache
from ingestion.simulator.rolling import RollingExtremes
from ingestion.simulator.tape import GENESIS_MINUTE, MINUTE_MS, Tape, Trade

SLICE_SECONDS = 0.02


class Ticker(NamedTuple):
    """The last 24 h of a listing, in ticks and lots, already bent by the faults.

    ``quote`` is volume times the middle of the day's prices: exact enough to weigh an exchange
    by, and two subtractions instead of a day of trades. ``high`` and ``low`` move by whole
    minutes.
    """

    as_of_ms: int
    last: Trade
    last_price: int
    open: int
    high: int
    low: int
    bid: int
    ask: int
    lots: int
    quote: int
    first_number: int
    trade_count: int


class Day(NamedTuple):
    """The current UTC day of a listing."""

    open: int
    high: int
    low: int
    previous_close: int
    lots: int
    quote: int
    trade_count: int


class Market:
    """A listing with its tape, candles and rolling extremes."""

    def __init__(self, *, listing: Listing, tape: Tape, cache: CandleCache) -> None:
        self.listing = listing
        self.tape = tape
        self.candles = CandleBook(tape=tape, cache=cache)
        self._extremes = RollingExtremes(tape)
        self._day = (-1, 0, 0, 0)

    def ticker(self, now_ms: int, *, lens: Lens) -> Ticker:
        """Return the ticker of (now - 24 h, now]."""
        tape = self.tape
        after_last = tape.number_at(now_ms + 1)
        first = min(tape.number_at(now_ms - DAY_MS + 1), after_last - 1)
        last = tape.trade(after_last - 1)
        opened = tape.trade(first).price
        low, high = self._range(now_ms, minute=now_ms // MINUTE_MS - 1_439)
        low, high = min(low, opened, last.price), max(high, opened, last.price)
        lots = tape.lots_before(after_last) - tape.lots_before(first)
        bid = last.price - 1 if last.taker_buys else last.price
        return Ticker(
            as_of_ms=now_ms + lens.skew_ms,
            last=last._replace(event_ms=last.event_ms + lens.skew_ms),
            last_price=lens.price(last.price),
            open=lens.price(opened),
            high=lens.price(high),
            low=lens.price(low),
            bid=lens.price(bid),
            ask=lens.price(bid + 1),
            lots=lots,
            quote=lens.price(lots * (opened + high + low + last.price) // 4),
            first_number=first,
            trade_count=after_last - first,
        )

    def day(self, now_ms: int, *, lens: Lens) -> Day:
        """Return what was traded since 00:00 UTC."""
        tape = self.tape
        midnight = now_ms // DAY_MS * (DAY_MS // MINUTE_MS)
        if midnight != self._day[0]:
            self._day = (midnight, *self._day_start(midnight))
        _, first, day_open, previous_close = self._day
        after_last = tape.number_at(now_ms + 1)
        last = tape.trade(after_last - 1).price
        opened = day_open if after_last > first else previous_close
        low, high = self._range(now_ms, minute=midnight)
        low, high = min(low, opened, last), max(high, opened, last)
        lots = tape.lots_before(after_last) - tape.lots_before(first)
        return Day(
            open=lens.price(opened),
            high=lens.price(high),
            low=lens.price(low),
            previous_close=lens.price(previous_close),
            lots=lots if after_last > first else 0,
            quote=lens.price(lots * (opened + high + low + last) // 4 if after_last > first else 0),
            trade_count=after_last - first,
        )

    def _day_start(self, midnight: int) -> tuple[int, int, int]:
        """Return a day's first trade number and price, and the close of the day before."""
        first = self.tape.number_at(midnight * MINUTE_MS)
        return first, self.tape.trade(first).price, self.tape.close_before(midnight)

    def _range(self, now_ms: int, *, minute: int) -> tuple[int, int]:
        """Return (low, high) from a minute on, the running one included."""
        closed = self._extremes.over(minute, now_ms // MINUTE_MS)
        running = self.candles.minute(now_ms // MINUTE_MS, until_ms=now_ms + 1)
        lows = [low for low in (closed and closed[0], running and running.low) if low]
        highs = [high for high in (closed and closed[1], running and running.high) if high]
        if not lows:
            price = self.tape.close_before(now_ms // MINUTE_MS)
            return price, price
        return min(lows), max(highs)


class Universe:
    """All venues of one seed, with the memory they share."""

    def __init__(
        self,
        *,
        markets: Markets,
        seed: int,
        rate_per_minute: int,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self.markets = markets
        self.seed = seed
        self.rate_per_minute = rate_per_minute
        self.clock = clock or wall_clock_ms
        self.faults = FaultBoard(clock=self.clock)
        blocks, candles = BlockCache(), CandleCache()
        paths = {
            asset.name: AssetPath(
                seed=seed,
                asset=asset.name,
                volatility_percent=asset.volatility_percent,
                cache=blocks,
            )
            for asset in markets.assets.values()
        }
        self._markets = {
            (listing.exchange, listing.exchange_symbol): Market(
                listing=listing,
                tape=Tape(
                    listing=listing,
                    seed=seed,
                    rate_per_minute=rate_per_minute,
                    base=paths[listing.base],
                    quote=paths[listing.quote],
                ),
                cache=candles,
            )
            for listing in markets
        }

    def __iter__(self) -> Iterator[Market]:
        return iter(self._markets.values())

    def market(self, *, exchange: str, spelling: str) -> Market | None:
        """Return a market by any spelling its exchange understands."""
        listing = self.markets.find(exchange=exchange, spelling=spelling)
        if listing is None:
            return None
        return self._markets[exchange, listing.exchange_symbol]

    def venue(self, exchange: str) -> "Venue":
        """Return an exchange's door."""
        return Venue(name=exchange, universe=self)


class Venue:
    """What a REST handler or a socket of one exchange may ask."""

    def __init__(self, *, name: str, universe: Universe) -> None:
        self.name = name
        self._universe = universe
        self.faults = universe.faults
        self.markets = [
            market
            for listing in universe.markets.of(name)
            if (market := universe.market(exchange=name, spelling=listing.exchange_symbol))
        ]
        self._row_second: tuple[int, Lens] = (-1, CLEAR)
        self._row_as_of = 0
        self._rows: dict[tuple[str, str, int], str] = {}

    def now_ms(self) -> int:
        """Return the moment its answers are about: while frozen, the moment it froze."""
        frozen = self.faults.get(self.name, "freeze")
        return self._universe.clock() if frozen is None else frozen.since_ms

    def clock_ms(self) -> int:
        """Return the real moment, frozen or not: what sockets keep time by."""
        return self._universe.clock()

    def stated_ms(self) -> int:
        """Return the time it claims to have."""
        return self.now_ms() + self.lens().skew_ms

    def lens(self) -> Lens:
        return lens_of(self.faults, self.name)

    def native(self, symbol: str) -> Market | None:
        """Return a market by its native spelling only."""
        market = self._universe.market(exchange=self.name, spelling=symbol)
        return market if market and market.listing.exchange_symbol == symbol else None

    def find(self, spelling: str) -> Market | None:
        return self._universe.market(exchange=self.name, spelling=spelling)

    def ticker(self, market: Market, *, as_of_ms: int | None = None) -> Ticker:
        now_ms = self.now_ms() if as_of_ms is None else as_of_ms
        return market.ticker(now_ms, lens=self.lens())

    async def rows(
        self,
        markets: list[Market],
        *,
        kind: str,
        build: Callable[["Venue", Market, int], str],
        as_of_ms: int | None = None,
    ) -> list[str]:
        """Return one JSON text per market, built at most once a second for all callers.

        ``as_of_ms`` asks for the figures of an earlier moment: KuCoin's move every 2 s.
        Yields to the event loop now and then, as the first call of the day looks back 24 h.
        """
        now_ms = self.now_ms()
        second = (now_ms // 1000, self.lens())
        if second != self._row_second:
            self._row_second, self._row_as_of = second, now_ms
            self._rows = {}
        as_of = self._row_as_of if as_of_ms is None else as_of_ms
        known, texts = self._rows, []
        pause_at = time.monotonic() + SLICE_SECONDS
        for market in markets:
            key = (kind, market.listing.exchange_symbol, as_of)
            text = known.get(key)
            if text is None:
                text = known[key] = build(self, market, as_of)
                if time.monotonic() > pause_at:
                    await asyncio.sleep(0)
                    pause_at = time.monotonic() + SLICE_SECONDS
            texts.append(text)
        return texts

    async def candles(
        self, market: Market, *, first: int, last: int, minutes: int, fill: bool, offset: int = 0
    ) -> list[tuple[int, Candle]]:
        """Return [(open time ms, candle)] for buckets opening in [first, last] minutes.

        ``offset`` shifts the grid (OKX's 1D opens at 16:00 UTC). Gives way to others while a
        long range of days is computed.
        """
        now_ms, lens = self.now_ms(), self.lens()
        first = max(aligned_up(first, minutes, offset), aligned_up(GENESIS_MINUTE, minutes, offset))
        last = min(last, now_ms // MINUTE_MS)
        shift_ms, straight = lens.candle_shift_ms, lens.factor == 1
        rows: list[tuple[int, Candle]] = []
        pause_at = time.monotonic() + SLICE_SECONDS
        for start, candle in market.candles.rows(
            first=first, last=last, minutes=minutes, now_ms=now_ms, fill=fill
        ):
            shown = candle if straight else bent(candle, lens)
            rows.append((start * MINUTE_MS + shift_ms, shown))
            if time.monotonic() > pause_at:
                await asyncio.sleep(0)
                pause_at = time.monotonic() + SLICE_SECONDS
        return rows

    def recent_trades(
        self, market: Market, *, count: int, now_ms: int | None = None
    ) -> list[Trade]:
        """Return the newest trades, oldest first, as the wire shows them."""
        last = market.tape.number_at((self.now_ms() if now_ms is None else now_ms) + 1)
        return self.trades_by_number(market, first=last - count, last=last)

    def trades_by_number(self, market: Market, *, first: int, last: int) -> list[Trade]:
        """Return the trades numbered [first, last) that have happened, as the wire shows them."""
        last = min(last, market.tape.number_at(self.now_ms() + 1))
        return [self.shown(trade) for trade in market.tape.by_number(first=first, last=last)]

    def shown(self, trade: Trade) -> Trade:
        """Return a trade as the faults bend it."""
        lens = self.lens()
        if lens == CLEAR:
            return trade
        return trade._replace(price=lens.price(trade.price), event_ms=trade.event_ms + lens.skew_ms)

    def price(self, market: Market, units: int, *, places: int = 0) -> str:
        """Return a price with all digits of its tick."""
        return self.price_writer(market, places=places)(units)

    def price_writer(self, market: Market, *, places: int = 0) -> Callable[[int], str]:
        """Return `price` as it is at this moment: who writes thousands asks for it once."""
        if self.lens().nan:
            return lambda units: "NaN"
        return writer(market.listing.price_scale, places=places)

    def mean_price(self, market: Market, *, quote: int, lots: int, places: int) -> str:
        """Return quote volume over volume, to at least the digits of the tick; 0 for no volume."""
        if self.lens().nan:
            return "NaN"
        scale = market.listing.price_scale
        if scale < 0:
            quote, scale = quote * 10**-scale, 0
        return ratio(quote, lots * 10**scale, places=max(places, scale))

    def short_price(self, market: Market, units: int) -> str:
        """Return a price without trailing zeros."""
        if self.lens().nan:
            return "NaN"
        return trimmed(units, market.listing.price_scale)


def bent(candle: Candle, lens: Lens) -> Candle:
    """Return a candle as the faults bend it."""
    return candle._replace(
        open=lens.price(candle.open),
        high=lens.price(candle.high),
        low=lens.price(candle.low),
        close=lens.price(candle.close),
        quote=lens.price(candle.quote),
        buy_quote=lens.price(candle.buy_quote),
    )


def aligned_up(minute: int, minutes: int, offset: int = 0) -> int:
    """Return the first bucket opening at or after a minute."""
    return -((offset - minute) // minutes) * minutes + offset


def aligned_down(minute: int, minutes: int, offset: int = 0) -> int:
    """Return the bucket a minute is in."""
    return (minute - offset) // minutes * minutes + offset


def lots_text(market: Market, lots: int, *, places: int = 0) -> str:
    """Return a size with all digits of its lot."""
    return fixed(lots, market.listing.size_scale, places=places)


def short_lots(market: Market, lots: int) -> str:
    """Return a size without trailing zeros."""
    return trimmed(lots, market.listing.size_scale)


def quote_scale(market: Market) -> int:
    """Return the scale of ticks x lots."""
    return market.listing.price_scale + market.listing.size_scale


def wall_clock_ms() -> int:
    """Return the wall clock in ms."""
    return time.time_ns() // 1_000_000
