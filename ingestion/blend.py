"""The candles that several exchanges have of one minute, made into the index's candle of it.

By the rules of the live index: who is not to be believed is found from the closes, by
`oracle.agreement` and `oracle.aggregation`; what is left is weighted by its volume in the symbol's
quote currency. Volumes are sums, as those of live trades: an exchange whose price lies outside of
the fences traded all the same. Only one that disagrees as a whole counts for nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from market.candles import BackfilledCandle
from oracle.aggregation import EXACT, find_outliers, publishable, weigh
from oracle.agreement import find_disagreeing
from oracle.conversion import convert
from oracle.values import MAX_PRICE, MIN_PRICE, Candle

# A price older than this tells nothing about which of two exchanges is right.
LAST_PRICE_MAX_AGE_MS = 600_000
_ZERO = Decimal(0)
_TOO_LARGE = Decimal("1e20")  # for NUMERIC(38,18)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedCandles:
    """The candles of one listing by open time, and what makes its prices the symbol's.

    ``factors``: of each minute that has a rate; None: its quote currency is the symbol's. Only
    then are its volumes the symbol's too: a converted market's belong to another symbol.
    """

    exchange: str
    candles: Mapping[int, Candle]
    factors: Mapping[int, Decimal] | None = None


@dataclass(slots=True, kw_only=True)
class Blender:
    """Blends minutes in their order, oldest first; ``without_rate`` counts what had no rate.

    ``factor``: how far apart exchanges may be, as in `oracle.agreement`.
    """

    symbol: str
    factor: Decimal
    without_rate: Counter[str] = field(default_factory=Counter)
    _last: Decimal | None = None
    _last_ms: int = 0

    def blend(self, listings: Sequence[ListedCandles]) -> Iterator[BackfilledCandle]:
        """The minutes that any listing has and the rules leave a price for, oldest first."""
        if len(listings) == 1 and listings[0].factors is None:
            yield from self._alone(listings[0])
            return
        for open_ms in sorted(set().union(*(each.candles for each in listings))):
            groups = _by_exchange(self._parts(listings, open_ms))
            agreeing = self._agreeing(groups, open_ms)
            kept = _within_fences(agreeing)
            if kept:
                candle = _blended(self.symbol, open_ms, kept, traded=agreeing)
                self._last, self._last_ms = candle.close, open_ms
                yield candle

    def _alone(self, listing: ListedCandles) -> Iterator[BackfilledCandle]:
        """The only listing's candles as they are: nothing to weigh, and most backfills' case."""
        sources = (listing.exchange,)
        symbol, factor, candles = self.symbol, self.factor, listing.candles
        last, last_ms = self._last, self._last_ms
        for open_ms in sorted(candles):
            candle = candles[open_ms]
            close = candle.close
            recent = last if open_ms - last_ms <= LAST_PRICE_MAX_AGE_MS else None
            if recent is not None and find_disagreeing([close], factor=factor, last_price=recent):
                continue
            last, last_ms = close, open_ms
            volume, quote_volume = candle.volume, candle.quote_volume
            yield BackfilledCandle(
                symbol=symbol,
                open_ms=open_ms,
                open=candle.open,
                high=candle.high,
                low=candle.low,
                close=close,
                volume=volume,
                quote_volume=quote_volume,
                vwap=_vwap(volume, quote_volume),
                trade_count=candle.trade_count,
                sources=sources,
            )
        self._last, self._last_ms = last, last_ms

    def _parts(self, listings: Sequence[ListedCandles], open_ms: int) -> Iterator[_Part]:
        for listing in listings:
            candle = listing.candles.get(open_ms)
            if candle is None:
                continue
            if listing.factors is None:
                yield _own(listing.exchange, candle)
                continue
            factor = listing.factors.get(open_ms)
            if factor is None:
                self.without_rate[listing.exchange] += 1
                continue
            part = _converted(listing.exchange, candle, factor)
            if part.low >= MIN_PRICE and part.high < MAX_PRICE:
                yield part

    def _agreeing(self, groups: Sequence[_Part], open_ms: int) -> list[_Part]:
        """Those that do not disagree as a whole, in the order of their closes."""
        if not groups:
            return []
        recent = open_ms - self._last_ms <= LAST_PRICE_MAX_AGE_MS
        out = find_disagreeing(
            [group.close for group in groups],
            factor=self.factor,
            last_price=self._last if recent else None,
        )
        left = [group for index, group in enumerate(groups) if index not in out]
        left.sort(key=lambda group: group.close)
        return left


class _Part(NamedTuple):
    """One exchange's candle in the symbol's quote currency.

    ``counts``: its volumes are the symbol's. Unknown ones are None, a sum of no volumes too.
    """

    exchange: str
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    weight: Decimal
    counts: bool
    volume: Decimal | None
    quote_volume: Decimal | None
    trade_count: int | None


def _own(exchange: str, candle: Candle) -> _Part:
    return _Part(
        exchange,
        candle.open,
        candle.high,
        candle.low,
        candle.close,
        _weight(candle),
        True,
        candle.volume,
        candle.quote_volume,
        candle.trade_count,
    )


def _converted(exchange: str, candle: Candle, factor: Decimal) -> _Part:
    return _Part(
        exchange,
        convert(candle.open, factor),
        convert(candle.high, factor),
        convert(candle.low, factor),
        convert(candle.close, factor),
        convert(_weight(candle), factor),
        False,
        None,
        None,
        None,
    )


def _weight(candle: Candle) -> Decimal:
    """The candle's volume in its quote currency; near enough where only base volume is stated."""
    if candle.quote_volume is not None:
        return candle.quote_volume
    if candle.volume is None:
        return _ZERO
    return publishable(EXACT.multiply(candle.volume, candle.vwap or candle.close))


def _by_exchange(parts: Iterator[_Part]) -> list[_Part]:
    """One part for each exchange: with two listings it is one source, and judged as one."""
    by_name: dict[str, list[_Part]] = {}
    for part in parts:
        by_name.setdefault(part.exchange, []).append(part)
    return [group[0] if len(group) == 1 else _joined(group) for group in by_name.values()]


def _joined(group: Sequence[_Part]) -> _Part:
    weights = [part.weight for part in group]
    total = sum(weights, _ZERO)
    shares = weights if total else [Decimal(1)] * len(group)
    counting = [part for part in group if part.counts]
    return _Part(
        group[0].exchange,
        weigh([part.open for part in group], shares),
        weigh([part.high for part in group], shares),
        weigh([part.low for part in group], shares),
        weigh([part.close for part in group], shares),
        total,
        bool(counting),
        _sum([part.volume for part in counting]),
        _sum([part.quote_volume for part in counting]),
        _count([part.trade_count for part in counting]),
    )


def _within_fences(groups: Sequence[_Part]) -> list[_Part]:
    """What the outlier rule leaves of groups that are in the order of their closes."""
    rejected = find_outliers([group.close for group in groups])
    return [group for rank, group in enumerate(groups) if rank not in rejected]


def _blended(
    symbol: str, open_ms: int, kept: Sequence[_Part], *, traded: Sequence[_Part]
) -> BackfilledCandle:
    """``kept`` make the prices; ``traded``, these and others, the volumes."""
    weights = [part.weight for part in kept]
    counting = [part for part in traded if part.counts]
    volume = _sum([part.volume for part in counting])
    quote_volume = _sum([part.quote_volume for part in counting])
    return BackfilledCandle(
        symbol=symbol,
        open_ms=open_ms,
        open=weigh([part.open for part in kept], weights),
        high=weigh([part.high for part in kept], weights),
        low=weigh([part.low for part in kept], weights),
        close=weigh([part.close for part in kept], weights),
        volume=volume,
        quote_volume=quote_volume,
        vwap=_vwap(volume, quote_volume),
        trade_count=_count([part.trade_count for part in counting]),
        sources=tuple(sorted(part.exchange for part in kept)),
    )


def _sum(amounts: Sequence[Decimal | None]) -> Decimal | None:
    """The exact sum; None when one is not known, there are none, or it cannot be stored."""
    total = _ZERO
    for amount in amounts:
        if amount is None:
            return None
        total = EXACT.add(total, amount)
    return total if amounts and total < _TOO_LARGE else None


def _count(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if counts and len(known) == len(counts) else None


def _vwap(volume: Decimal | None, quote_volume: Decimal | None) -> Decimal | None:
    if not volume or quote_volume is None:
        return None
    vwap = publishable(EXACT.divide(quote_volume, volume))
    return vwap if vwap < _TOO_LARGE else None
