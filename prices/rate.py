"""The trade rate: every 10 s the volume-weighted price of the last 30 s of trades.

Each exchange's trades of the window make one source; outliers are left out as in the spot index.
A symbol nobody traded gets no new rate, and its old one ages. Derived symbols (``BTC/RUB``) follow
in the same tick, by the rates of a currency authority and, where needed, of the index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce

import structlog
from django.conf import settings
from msgspec.structs import replace
from prometheus_client import Counter

from oracle import conversion, fx_board, heartbeat, price_board, rate_board, trade_totals
from oracle.aggregation import aggregate
from oracle.agreement import DISAGREE, FAR_FROM_LAST, FAR_FROM_MEDIAN, find_disagreeing
from oracle.catalog import Catalog, CatalogReader, CatalogSymbol
from oracle.conversion import Leg, convert, find_path, walk
from oracle.fx_board import FxQuote
from oracle.rate_board import FxLeg, Rate
from oracle.trade_totals import SecondTotals, Sums
from oracle.values import MAX_PRICE, MIN_PRICE, Price, Source

EVERY_MS = 10_000
WINDOW_MS = 30_000
NO_TRADES = "no trades"
OUT_OF_RANGE = "out of range"
NOT_BELIEVED = (FAR_FROM_MEDIAN, FAR_FROM_LAST, DISAGREE)
SPOT_MAX_AGE_MS = 600_000

RATES = Counter("oracle_rate_updates", "Trade rates published.", ("symbol", "method"))
UNSAVED_DROPPED = Counter("oracle_rate_ticks_dropped", "Ticks never saved: too many waited.")

log = structlog.get_logger(__name__)

Window = Mapping[str, Mapping[str, SecondTotals]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a source or currency rate must meet, and whether the trades are simulated."""

    max_deviation_factor: Decimal
    fx_max_age_ms: int
    simulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Currencies:
    """Rates to convert with: price and age of each, on whose word, and of which day if it says."""

    rates: Mapping[str, conversion.Rate]
    sources: Mapping[str, str]
    dates: Mapping[str, str]


class RateWriter:
    """The trade rates of one process: it follows the catalogue."""

    def __init__(self) -> None:
        self._reader = CatalogReader()

    def tick(self, *, now_ms: int, token: str) -> tuple[Rate, ...]:
        """Publish the rates of the last whole 10 s at ``now_ms``."""
        catalog = self._reader.current()
        tick_ms = now_ms // EVERY_MS * EVERY_MS
        rules = Rules(
            max_deviation_factor=Decimal(settings.MAX_DEVIATION_FACTOR),
            fx_max_age_ms=settings.FX_MAX_AGE_MS,
            simulated=settings.SIMULATED,
        )
        window = trade_totals.read_window(
            from_second=(tick_ms - WINDOW_MS) // 1_000, to_second=tick_ms // 1_000
        )
        index = price_board.read(catalog.names)
        stable = {symbol.name for symbol in catalog.symbols if symbol.is_rate} & index.keys()
        currencies = gather(
            fx_board.read(), {name: index[name] for name in stable}, rules, now_ms=tick_ms
        )
        rates = make_rates(catalog, window, currencies, rules, tick_ms=tick_ms, index=index)
        dropped = rate_board.publish(rates, tick_ms=tick_ms, token=token)
        if dropped is None:
            return ()
        _count(rates, dropped)
        heartbeat.beat("rates", now_ms=now_ms, published=len(rates))
        return rates


def _count(rates: Sequence[Rate], dropped: int) -> None:
    for rate in rates:
        RATES.labels(rate.symbol, rate.method).inc()
    if dropped:
        UNSAVED_DROPPED.inc(dropped)
        log.error("rates.dropped_unsaved", ticks=dropped)


def gather(
    quotes: Sequence[FxQuote], stable: Mapping[str, Price], rules: Rules, *, now_ms: int
) -> Currencies:
    """What may be converted with at ``now_ms``: a rate too old, or not yet valid, may not."""
    rates: dict[str, conversion.Rate] = {}
    sources: dict[str, str] = {}
    dates: dict[str, str] = {}
    for name, price in stable.items():
        if price_board.freshness(price, now_ms=now_ms).status != "stale":
            rates[name] = conversion.Rate(price=price.price, as_of_ms=price.as_of_ms)
            sources[name] = "index"
    for quote in quotes:
        if 0 <= now_ms - quote.as_of_ms <= rules.fx_max_age_ms:
            rates[quote.symbol] = conversion.Rate(price=quote.rate, as_of_ms=quote.as_of_ms)
            sources[quote.symbol], dates[quote.symbol] = quote.source, quote.date
    return Currencies(rates=rates, sources=sources, dates=dates)


def make_rates(
    catalog: Catalog,
    window: Window,
    currencies: Currencies,
    rules: Rules,
    *,
    tick_ms: int,
    index: Mapping[str, Price] | None = None,
) -> tuple[Rate, ...]:
    """The rates of a window that ends at ``tick_ms``: of what was traded, then what is derived.

    The spot ``index`` tells which exchange has gone mad where too few traded to outvote it.
    """
    rates: dict[str, Rate] = {}
    for symbol in catalog.symbols:
        if symbol.name in window:
            sources = _sources(catalog, symbol, window[symbol.name], tick_ms)
            spot = index.get(symbol.name) if index else None
            sources = _believed(sources, spot, rules, tick_ms)
            rate = _rate(symbol, sources, window[symbol.name], rules, tick_ms)
            if rate is not None:
                rates[symbol.name] = rate
    derived = [
        _derive(symbol, _origins(catalog, symbol), rates, currencies)
        for symbol in catalog.symbols
        if symbol.derived_from is not None
    ]
    return (*rates.values(), *(rate for rate in derived if rate is not None))


# --- from trades ---


def _sources(
    catalog: Catalog, symbol: CatalogSymbol, traded: Mapping[str, SecondTotals], tick_ms: int
) -> list[Source]:
    """What each exchange that lists the symbol in its own quote currency brings."""
    markets = {
        exchange: native
        for exchange, natives in catalog.markets.items()
        for native, name in reversed(natives.items())
        if name == symbol.name
    }
    return [
        _source(exchange, native, traded.get(exchange), tick_ms)
        for exchange, native in markets.items()
    ]


def _source(
    exchange: str, exchange_symbol: str, traded: SecondTotals | None, tick_ms: int
) -> Source:
    price = traded.sums.vwap if traded else None
    usable = price is not None and MIN_PRICE <= price < MAX_PRICE
    return Source(
        exchange=exchange,
        exchange_symbol=exchange_symbol,
        price=price if usable else None,
        native_price=price,
        weight=traded.sums.quote_volume if traded else None,
        volume=traded.sums.volume if traded else None,
        as_of_ms=min((traded.last_second + 1) * 1_000, tick_ms) if traded else None,
        kept=usable,
        reason=None if usable else OUT_OF_RANGE if traded else NO_TRADES,
    )


def _rate(
    symbol: CatalogSymbol,
    sources: Sequence[Source],
    traded: Mapping[str, SecondTotals],
    rules: Rules,
    tick_ms: int,
) -> Rate | None:
    """The rate of a symbol's sources; None when none of them is usable."""
    usable = [source for source in sources if source.kept]
    if not usable:
        return None
    result = aggregate(
        [source.price for source in usable],  # type: ignore[misc]
        [source.weight for source in usable],  # type: ignore[misc]
    )
    disagreeing = sum(source.reason in NOT_BELIEVED for source in sources)
    reasons = {usable[index].exchange: reason for index, reason in result.rejected.items()}
    receipt = tuple(_marked(source, reasons.get(source.exchange)) for source in sources)
    kept = [source for source in receipt if source.kept]
    total = reduce(_plus, (traded[source.exchange].sums for source in kept), Sums())
    return Rate(
        symbol=symbol.name,
        price=result.price,
        method=result.method,
        status="fresh" if len(kept) >= symbol.min_sources else "degraded",
        timestamp_ms=tick_ms,
        as_of_ms=min(source.as_of_ms or 0 for source in kept),
        window_ms=WINDOW_MS,
        volume=total.volume,
        quote_volume=total.quote_volume,
        trade_count=total.trade_count,
        source_count=len(kept),
        outliers_removed=len(reasons) + disagreeing,
        sources=receipt,
        simulated=rules.simulated,
    )


def _believed(
    sources: Sequence[Source], spot: Price | None, rules: Rules, tick_ms: int
) -> list[Source]:
    """The sources, those that disagree with the others beyond reason marked as left out."""
    usable = [source for source in sources if source.kept]
    if not usable:
        return list(sources)
    recent = spot is not None and tick_ms - spot.timestamp_ms <= SPOT_MAX_AGE_MS
    found = find_disagreeing(
        [source.price for source in usable],  # type: ignore[misc]
        factor=rules.max_deviation_factor,
        last_price=spot.price if spot is not None and recent else None,
    )
    reasons = {usable[number].exchange: reason for number, reason in found.items()}
    return [
        _marked(source, reasons.get(source.exchange)) if source.kept else source
        for source in sources
    ]


def _marked(source: Source, outlier: str | None) -> Source:
    return source if outlier is None else replace(source, kept=False, reason=outlier)


def _plus(total: Sums, other: Sums) -> Sums:
    total.add(other)
    return total


# --- derived ---


def _origins(catalog: Catalog, symbol: CatalogSymbol) -> list[CatalogSymbol]:
    """What a symbol may be derived from: the one it names, else others of its base."""
    others = [
        each
        for each in catalog.symbols
        if each.base == symbol.base and each.derived_from is None and each.name != symbol.name
    ]
    return sorted(others, key=lambda each: (each.name != symbol.derived_from, each.name))


def _derive(
    symbol: CatalogSymbol,
    origins: Sequence[CatalogSymbol],
    rates: Mapping[str, Rate],
    currencies: Currencies,
) -> Rate | None:
    """The rate of the first origin that has one and a way into the symbol's quote currency."""
    for origin in origins:
        rate = rates.get(origin.name)
        path = find_path(origin.quote, symbol.quote, currencies.rates) if rate else None
        if rate is None or not path:
            continue
        factor = walk(path, currencies.rates)
        if isinstance(factor, str):
            continue
        price = convert(rate.price, factor.price)
        if MIN_PRICE <= price < MAX_PRICE:
            return _converted(symbol, rate, path, factor, currencies)
    return None


def _converted(
    symbol: CatalogSymbol,
    rate: Rate,
    path: Sequence[Leg],
    factor: conversion.Rate,
    currencies: Currencies,
) -> Rate:
    names = tuple(leg.name for leg in path)
    return replace(
        rate,
        symbol=symbol.name,
        price=convert(rate.price, factor.price),
        status=rate.status if rate.source_count >= symbol.min_sources else "degraded",
        as_of_ms=min(rate.as_of_ms, factor.as_of_ms),
        quote_volume=convert(rate.quote_volume, factor.price),
        sources=tuple(_convert_source(source, names, factor) for source in rate.sources),
        derived_from=rate.symbol,
        legs=tuple(_leg(leg, currencies) for leg in path),
    )


def _convert_source(source: Source, names: tuple[str, ...], factor: conversion.Rate) -> Source:
    return replace(
        source,
        price=_times(source.price, factor.price),
        weight=_times(source.weight, factor.price),
        as_of_ms=None if source.as_of_ms is None else min(source.as_of_ms, factor.as_of_ms),
        path=names,
    )


def _times(amount: Decimal | None, factor: Decimal) -> Decimal | None:
    return None if amount is None else convert(amount, factor)


def _leg(leg: Leg, currencies: Currencies) -> FxLeg:
    rate = currencies.rates[leg.symbol]
    return FxLeg(
        name=leg.name,
        factor=rate.price if leg.multiply else 1 / rate.price,
        as_of_ms=rate.as_of_ms,
        source=currencies.sources[leg.symbol],
        date=currencies.dates.get(leg.symbol),
    )
