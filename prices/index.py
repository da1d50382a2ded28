"""The spot index: the tickers of all exchanges, made into one price per symbol each second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec
from django.conf import settings
from msgspec.structs import replace

from oracle import heartbeat, metrics, price_board, ticker_book
from oracle.aggregation import aggregate, publishable
from oracle.agreement import find_disagreeing
from oracle.catalog import Catalog, CatalogReader, CatalogSymbol
from oracle.conversion import Leg, Rate, convert, find_path, walk
from oracle.ticker_book import Quote
from oracle.values import MAX_PRICE, MIN_PRICE, Price, Source

NO_TICKER = "no ticker"
STALE = "stale"
NO_PATH = "no conversion"
OUT_OF_RANGE = "out of range"
# A price older than this tells nothing about which of two exchanges is right.
LAST_PRICE_MAX_AGE_MS = 600_000
REREAD_AFTER_MS = 5_000
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
    max_deviation_factor: Decimal
    max_rate_factor: Decimal
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
        self._last: dict[str, Price] = {}
        self._ticked_ms = 0

    def tick(self, *, now_ms: int, token: str) -> Tick:
        """Price every symbol at ``now_ms`` and record what came of it."""
        with metrics.INDEX_DURATION.time():
            catalog = self._reader.current()
            if catalog is not self._catalog:
                self._catalog, self._plans = catalog, make_plans(catalog)
                self._ticked_ms = 0
            if now_ms - self._ticked_ms > REREAD_AFTER_MS:
                # Another worker has ticked meanwhile, or this one is new: the board knows better.
                self._last = price_board.read(plan.symbol.name for plan in self._plans)
            rules = Rules(
                max_age_ms=settings.TICKER_MAX_AGE_MS,
                max_deviation_factor=Decimal(settings.MAX_DEVIATION_FACTOR),
                max_rate_factor=1 + Decimal(settings.MAX_RATE_SPREAD_BPS) / 10_000,
                simulated=settings.SIMULATED,
            )
            book = ticker_book.read(catalog.exchanges)
            prices, without = price_symbols(
                self._plans, book, rules, now_ms=now_ms, last=self._last
            )
            tick = Tick(
                prices=prices,
                without_source=without,
                published=price_board.publish(prices, now_ms=now_ms, token=token),
                turned_stale=price_board.mark_stale(without, token=token) if without else 0,
            )
        if prices and not tick.published:
            return tick  # a later tick was faster: nothing came of this one
        self._last |= {price.symbol: price for price in prices}
        self._ticked_ms = now_ms
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


def price_symbols(
    plans: Sequence[Plan],
    book: Book,
    rules: Rules,
    *,
    now_ms: int,
    last: Mapping[str, Price] | None = None,
) -> tuple[tuple[Price, ...], tuple[str, ...]]:
    """The prices that can be made of the book at ``now_ms``, and the symbols without a source.

    ``last`` are the prices made before: where too few exchanges are left to outvote one that has
    gone mad, they tell which it is.
    """
    moment = _Moment(book=book, oldest_ms=now_ms - rules.max_age_ms)
    prices: list[Price] = []
    without: list[str] = []
    for plan in plans:
        sources = [_source(each, moment) for each in plan.inputs]
        before = last.get(plan.symbol.name) if last else None
        price = _price(plan.symbol, sources, rules, now_ms, before)
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
    symbol: CatalogSymbol,
    listings: Sequence[Source],
    rules: Rules,
    now_ms: int,
    before: Price | None,
) -> Price | None:
    """The price of a symbol's listings at ``now_ms``; None when none of them is to be believed."""
    groups = _by_exchange(listings)
    if not groups:
        return None
    reasons = _disagreeing(symbol, groups, rules, now_ms, before)
    believed = [index for index in range(len(groups)) if index not in reasons]
    if not believed:
        return None
    result = aggregate(
        [groups[index].price for index in believed], [groups[index].weight for index in believed]
    )
    reasons |= {believed[index]: reason for index, reason in result.rejected.items()}
    sources = _with_reasons(listings, groups, reasons) if reasons else listings
    source_count = len(groups) - len(reasons)
    return Price(
        symbol=symbol.name,
        price=_storable(result.price),
        method=result.method,
        status="fresh" if source_count >= symbol.min_sources else "degraded",
        timestamp_ms=now_ms,
        as_of_ms=min(source.as_of_ms or 0 for source in sources if source.kept),
        confidence=result.confidence,
        spread_bps=result.spread_bps,
        stdev=result.stdev,
        variance=result.variance,
        source_count=source_count,
        outliers_removed=len(reasons),
        sources=tuple(sources),
        simulated=rules.simulated,
    )


class _Group(msgspec.Struct, gc=False):
    """One exchange's contribution to a price, all its listings together.

    Judged as one: with a vote for each listing, an exchange that is mad in two of six would move
    the quartiles and stay in.
    """

    exchange: str
    price: Decimal
    weight: Decimal


def _by_exchange(listings: Sequence[Source]) -> list[_Group]:
    """The usable listings, by exchange: volume-weighted, or their mean where none has volume."""
    by_name: dict[str, list[Source]] = {}
    for source in listings:
        if source.kept:
            by_name.setdefault(source.exchange, []).append(source)
    groups = []
    for name, sources in by_name.items():
        price, weight = _known(sources[0].price), _known(sources[0].weight)
        if len(sources) > 1:
            weights = [_known(source.weight) for source in sources]
            weight = sum(weights, _ZERO)
            if not weight:
                weights = [Decimal(1)] * len(sources)
            total = sum(
                (_known(s.price) * each for s, each in zip(sources, weights, strict=True)), _ZERO
            )
            price = total / sum(weights, _ZERO)
        groups.append(_Group(name, price, weight))
    return groups


def _known(number: Decimal | None) -> Decimal:
    """What a source that is kept always has."""
    if number is None:
        raise ValueError("a source without price or weight cannot be kept")
    return number


def _disagreeing(
    symbol: CatalogSymbol,
    groups: Sequence[_Group],
    rules: Rules,
    now_ms: int,
    before: Price | None,
) -> dict[int, str]:
    """The groups that are not to be believed; rates are judged more strictly."""
    recent = before is not None and now_ms - before.timestamp_ms <= LAST_PRICE_MAX_AGE_MS
    return find_disagreeing(
        [group.price for group in groups],
        factor=rules.max_rate_factor if symbol.is_rate else rules.max_deviation_factor,
        last_price=before.price if before is not None and recent else None,
    )


def _with_reasons(
    listings: Sequence[Source], groups: Sequence[_Group], reasons: Mapping[int, str]
) -> list[Source]:
    """The listings, those of the groups that ``reasons`` names by index marked as left out."""
    by_name = {groups[index].exchange: reason for index, reason in reasons.items()}
    return [
        replace(source, kept=False, reason=by_name[source.exchange])
        if source.kept and source.exchange in by_name
        else source
        for source in listings
    ]


def _storable(price: Decimal) -> Decimal:
    """``price`` as it will be stored: some exchanges write thirty decimals."""
    exponent = price.as_tuple().exponent
    return price if exponent >= -_DECIMALS else publishable(price)  # type: ignore[operator]
