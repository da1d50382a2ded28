"""The spot index: the tickers of all exchanges, made into one price per symbol each second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from django.conf import settings
from msgspec.structs import replace

from oracle import heartbeat, metrics, price_board, ticker_book
from oracle.aggregation import Aggregate, aggregate, publishable
from oracle.catalog import Catalog, CatalogReader, CatalogSymbol
from oracle.conversion import Leg, Rate, convert, find_path, walk
from oracle.ticker_book import Quote
from oracle.values import MAX_PRICE, MIN_PRICE, Price, Source

NO_TICKER = "no ticker"
STALE = "stale"
NO_PATH = "no conversion"
OUT_OF_RANGE = "out of range"
_DECIMALS = 18  # of NUMERIC(38,18)
_ZERO = Decimal(0)

Book = Mapping[str, Mapping[str, Quote]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One listing of a symbol with its way into the symbol's quote currency; None: no way."""

    exchange: str
    exchange_symbol: str
    path: tuple[Leg, ...] | None
    path_names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What goes into the price of one symbol."""

    symbol: CatalogSymbol
    inputs: tuple[Input, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a quote must meet to be in a price, and whether the prices are simulated."""

    max_age_ms: int
    max_deviation_factor: int
    simulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What one update of the index came to."""

    prices: tuple[Price, ...]
    without_source: tuple[str, ...]
    published: int
    turned_stale: int


def make_plans(catalog: Catalog) -> tuple[Plan, ...]:
    """The plans of all symbols, rates first: the others convert with this tick's rates.

    A rate is only made of listings in its own quote currency, so that no rate waits for another.
    """
    rates = [symbol.name for symbol in catalog.symbols if symbol.is_rate]
    inputs: dict[str, list[Input]] = {symbol.name: [] for symbol in catalog.symbols}
    quotes = {symbol.name: symbol for symbol in catalog.symbols}
    for listing in catalog.listings:
        symbol = quotes[listing.symbol]
        path = find_path(listing.quote, symbol.quote, [] if symbol.is_rate else rates)
        inputs[symbol.name].append(
            Input(
                exchange=listing.exchange,
                exchange_symbol=listing.exchange_symbol,
                path=path,
                path_names=tuple(leg.name for leg in path or ()),
            )
        )
    plans = [Plan(symbol=symbol, inputs=tuple(inputs[symbol.name])) for symbol in catalog.symbols]
    return tuple(sorted(plans, key=lambda plan: not plan.symbol.is_rate))


class IndexWriter:
    """The index of one process: it keeps the plans between ticks and follows the catalogue."""

    def __init__(self) -> None:
        self._reader = CatalogReader()
        self._catalog: Catalog | None = None
        self._plans: tuple[Plan, ...] = ()

    def tick(self, *, now_ms: int, token: str) -> Tick:
        """Price every symbol at ``now_ms`` and record what came of it."""
        with metrics.INDEX_DURATION.time():
            catalog = self._reader.current()
            if catalog is not self._catalog:
                self._catalog, self._plans = catalog, make_plans(catalog)
            rules = Rules(
                max_age_ms=settings.TICKER_MAX_AGE_MS,
                max_deviation_factor=settings.MAX_DEVIATION_FACTOR,
                simulated=settings.SIMULATED,
            )
            tick = update_index(self._plans, catalog.exchanges, rules, now_ms=now_ms, token=token)
        _count(tick)
        heartbeat.beat("index", now_ms=now_ms, published=tick.published)
        return tick


def _count(tick: Tick) -> None:
    for price in tick.prices:
        metrics.PRICE_UPDATES.labels(price.symbol, price.method).inc()
        if price.outliers_removed:
            for source in price.sources:
                if source.price is not None and not source.kept:
                    metrics.OUTLIERS.labels(source.exchange).inc()


def update_index(
    plans: Sequence[Plan], exchanges: Iterable[str], rules: Rules, *, now_ms: int, token: str
) -> Tick:
    """One tick: read the whole book, price each symbol, publish, fold into candles."""
    prices, without = price_symbols(plans, ticker_book.read(exchanges), rules, now_ms=now_ms)
    return Tick(
        prices=prices,
        without_source=without,
        published=price_board.publish(prices, now_ms=now_ms, token=token),
        turned_stale=price_board.mark_stale(without, token=token) if without else 0,
    )


def price_symbols(
    plans: Sequence[Plan], book: Book, rules: Rules, *, now_ms: int
) -> tuple[tuple[Price, ...], tuple[str, ...]]:
    """The prices that can be made of the book at ``now_ms``, and the symbols without a source."""
    moment = _Moment(book=book, oldest_ms=now_ms - rules.max_age_ms)
    prices: list[Price] = []
    without: list[str] = []
    for plan in plans:
        sources = [_source(each, moment) for each in plan.inputs]
        price = _price(plan.symbol, sources, rules, now_ms)
        if price is None:
            without.append(plan.symbol.name)
            continue
        prices.append(price)
        if plan.symbol.is_rate:
            moment.rates[plan.symbol.name] = Rate(price=price.price, as_of_ms=price.as_of_ms)
    return tuple(prices), tuple(without)


@dataclass(slots=True, kw_only=True)
class _Moment:
    """One tick's state: the book, the rates priced so far, and each path's factor once walked."""

    book: Book
    oldest_ms: int
    rates: dict[str, Rate] = field(default_factory=dict)
    factors: dict[tuple[Leg, ...], Rate | str] = field(default_factory=dict)

    def factor(self, path: tuple[Leg, ...]) -> Rate | str:
        """The path's factor, or the name of the rate it lacks."""
        found = self.factors.get(path)
        if found is None:
            found = self.factors[path] = walk(path, self.rates)
        return found


def _source(listing: Input, moment: _Moment) -> Source:
    """What one listing brings to the price, or why it brings nothing."""
    quote = moment.book.get(listing.exchange, {}).get(listing.exchange_symbol)
    if quote is None:
        return _absent(listing, NO_TICKER)
    if quote.as_of_ms < moment.oldest_ms:
        return _absent(listing, STALE, quote)
    if listing.path is None:
        return _absent(listing, NO_PATH, quote)
    weight = quote.quote_volume
    if weight is None:
        # Coinbase states base volume only: near enough for a weight, which is all it is used for.
        weight = _ZERO if quote.volume is None else publishable(quote.volume * quote.price)
    price, as_of_ms = quote.price, quote.as_of_ms
    if listing.path:
        rate = moment.factor(listing.path)
        if isinstance(rate, str):
            return _absent(listing, f"no rate {rate}", quote)
        price, weight = convert(price, rate.price), convert(weight, rate.price)
        as_of_ms = min(as_of_ms, rate.as_of_ms)
        if not MIN_PRICE <= price < MAX_PRICE:
            return _absent(listing, OUT_OF_RANGE, quote)
    return Source(
        exchange=listing.exchange,
        exchange_symbol=listing.exchange_symbol,
        price=price,
        native_price=quote.price,
        weight=weight,
        volume=quote.volume,
        as_of_ms=as_of_ms,
        path=listing.path_names,
        kept=True,
    )


def _storable(price: Decimal) -> Decimal:
    """``price`` as it will be stored: some exchanges write thirty decimals."""
    exponent = price.as_tuple().exponent
    return price if exponent >= -_DECIMALS else publishable(price)  # type: ignore[operator]


def _absent(listing: Input, reason: str, quote: Quote | None = None) -> Source:
    return Source(
        exchange=listing.exchange,
        exchange_symbol=listing.exchange_symbol,
        price=None,
        native_price=quote.price if quote else None,
        weight=None,
        volume=None,
        as_of_ms=quote.as_of_ms if quote else None,
        path=listing.path_names,
        kept=False,
        reason=reason,
    )


def _price(
    symbol: CatalogSymbol, sources: Sequence[Source], rules: Rules, now_ms: int
) -> Price | None:
    """The price of a symbol's sources at ``now_ms``; None when none of them is usable."""
    usable = [source for source in sources if source.kept]
    if not usable:
        return None
    result = aggregate(
        [source.price for source in usable],  # type: ignore[misc]
        [source.weight for source in usable],  # type: ignore[misc]
        max_deviation_factor=rules.max_deviation_factor,
    )
    receipt = _receipt(sources, usable, result) if result.rejected else sources
    kept = [source for source in receipt if source.kept]
    source_count = len({source.exchange for source in kept})
    return Price(
        symbol=symbol.name,
        price=_storable(result.price),
        method=result.method,
        status="fresh" if source_count >= symbol.min_sources else "degraded",
        timestamp_ms=now_ms,
        as_of_ms=min(source.as_of_ms or 0 for source in kept),
        confidence=result.confidence,
        spread_bps=result.spread_bps,
        stdev=result.stdev,
        variance=result.variance,
        source_count=source_count,
        outliers_removed=len(result.rejected),
        sources=tuple(receipt),
        simulated=rules.simulated,
    )


def _receipt(
    sources: Sequence[Source], usable: Sequence[Source], result: Aggregate
) -> list[Source]:
    """The sources with the outliers marked as such."""
    reasons = {id(usable[index]): reason for index, reason in result.rejected.items()}
    return [
        replace(source, kept=False, reason=reasons[id(source)]) if id(source) in reasons else source
        for source in sources
    ]
