"""Listings: which pair trades where, how the exchange spells it, and in what steps."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from ingestion.simulator.assets import (
    ABSENT,
    ASSETS,
    COINS,
    CROSS_ACTIVITY_PERMILLE,
    EXCHANGES,
    EXTRA_PAIRS,
    MAIN_QUOTE,
)

SIGNIFICANT_DIGITS = 6
MAX_PRICE_SCALE = 10
# A trade is worth about this much on average; it sets the lot, and so the digits of a size.
MEAN_TRADE_USD = 1_500
_KRAKEN_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
_KRAKEN_X = frozenset({"XBT", "ETH", "XRP", "LTC", "XLM", "ETC", "XMR", "XDG"})
_KRAKEN_Z = frozenset({"USD", "EUR"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A thing with a value in USD; volatility in percent of an ordinary coin's."""

    name: str
    usd: Decimal
    volatility_percent: int
    activity_permille: int

    def __post_init__(self) -> None:
        if not (self.usd.is_finite() and self.usd > 0):
            raise ValueError(f"asset {self.name}: usd must be a positive number, not {self.usd}")
        if not 0 <= self.volatility_percent <= 300:
            raise ValueError(f"asset {self.name}: volatility_percent must be within 0..300")
        if self.activity_permille < 1:
            raise ValueError(f"asset {self.name}: activity_permille must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A pair on an exchange. A price counts 10^-price_scale, a size 10^-size_scale."""

    exchange: str
    exchange_symbol: str
    base: str
    quote: str
    reference_price: Decimal
    price_scale: int
    size_scale: int
    mean_lots: int
    volatility_percent: int
    activity_permille: int

    @property
    def symbol(self) -> str:
        return f"{self.base}/{self.quote}"


class Markets:
    """All listings, found by any spelling their exchange would understand."""

    def __init__(self, *, assets: dict[str, Asset], listings: Iterable[Listing]) -> None:
        self.assets = assets
        self._by_exchange: dict[str, list[Listing]] = {name: [] for name in EXCHANGES}
        self._by_spelling: dict[str, dict[str, Listing]] = {name: {} for name in EXCHANGES}
        for listing in listings:
            spellings = self._by_spelling[listing.exchange]
            if listing.exchange_symbol in spellings:
                raise ValueError(f"{listing.exchange}: {listing.exchange_symbol} is listed twice")
            self._by_exchange[listing.exchange].append(listing)
            for spelling in spellings_of(listing):
                spellings.setdefault(spelling, listing)

    def __iter__(self) -> Iterator[Listing]:
        for listings in self._by_exchange.values():
            yield from listings

    def of(self, exchange: str) -> list[Listing]:
        """Return the listings of an exchange; KeyError if there is no such exchange."""
        return self._by_exchange[exchange]

    def find(self, *, exchange: str, spelling: str) -> Listing | None:
        """Return the listing by native spelling or BTC/USDT style."""
        return self._by_spelling[exchange].get(spelling)


def default_markets() -> Markets:
    """Return the markets the simulator has without a file."""
    assets = {
        name: Asset(
            name=name, usd=Decimal(usd), volatility_percent=volatility, activity_permille=activity
        )
        for name, (usd, volatility, activity) in ASSETS.items()
    }
    listings = [
        make_listing(exchange=exchange, base=assets[base], quote=assets[quote])
        for exchange in EXCHANGES
        for base, quote in default_pairs(exchange)
    ]
    return Markets(assets=assets, listings=listings)


def default_pairs(exchange: str) -> Iterator[tuple[str, str]]:
    """Yield (base, quote) of an exchange's default listings, majors first."""
    for coin in COINS:
        if coin not in ABSENT[exchange]:
            yield coin, MAIN_QUOTE[exchange]
    for pair in EXTRA_PAIRS[exchange].split():
        base, quote = pair.split("/")
        yield base, quote


def make_listing(
    *, exchange: str, base: Asset, quote: Asset, exchange_symbol: str | None = None
) -> Listing:
    """Return a listing whose steps follow from the values of its two assets."""
    price = base.usd / quote.usd
    price_scale = min(MAX_PRICE_SCALE, SIGNIFICANT_DIGITS - 1 - price.adjusted())
    mean_size = MEAN_TRADE_USD / base.usd
    size_scale = min(8, max(0, 3 - mean_size.adjusted()))
    activity = base.activity_permille
    if quote.name != MAIN_QUOTE.get(exchange):
        activity = max(1, activity * CROSS_ACTIVITY_PERMILLE // 1000)
    return Listing(
        exchange=exchange,
        exchange_symbol=exchange_symbol
        or native_symbol(exchange, base=base.name, quote=quote.name),
        base=base.name,
        quote=quote.name,
        reference_price=price,
        price_scale=price_scale,
        size_scale=size_scale,
        mean_lots=max(100, int(mean_size.scaleb(size_scale))),
        volatility_percent=max(base.volatility_percent, quote.volatility_percent),
        activity_permille=activity,
    )


def native_symbol(exchange: str, *, base: str, quote: str) -> str:
    """Return the exchange's own spelling of a pair (Kraken's is the key of its REST answers)."""
    if exchange in ("binance", "bybit"):
        return base + quote
    if exchange == "upbit":
        return f"{quote}-{base}"
    if exchange == "kraken":
        return kraken_key(base=base, quote=quote)
    return f"{base}-{quote}"


def kraken_name(asset: str) -> str:
    """Return Kraken's name of an asset in altname and wsname: XBT, XDG."""
    return _KRAKEN_NAMES.get(asset, asset)


def kraken_asset_id(asset: str) -> str:
    """Return Kraken's internal id of an asset: XXBT, ZUSD, plain for newer ones."""
    name = kraken_name(asset)
    if name in _KRAKEN_X:
        return f"X{name}"
    return f"Z{name}" if name in _KRAKEN_Z else name


def kraken_key(*, base: str, quote: str) -> str:
    """Return the pair's key: XXBTZUSD and USDTZUSD in the old style, XBTUSDT in the new."""
    base_name, quote_name = kraken_name(base), kraken_name(quote)
    base_is_old = base_name in _KRAKEN_X and base_name != "XDG"
    quote_is_old = quote_name in _KRAKEN_Z or quote_name == "XBT"
    if quote_is_old and (base_is_old or (base, quote) == ("USDT", "USD")):
        return kraken_asset_id(base) + kraken_asset_id(quote)
    return base_name + quote_name


def spellings_of(listing: Listing) -> list[str]:
    """Return every spelling a listing answers to, its native one first."""
    base, quote = listing.base, listing.quote
    spellings = [listing.exchange_symbol, listing.symbol]
    if listing.exchange == "kraken":
        kraken_base, kraken_quote = kraken_name(base), kraken_name(quote)
        spellings += [
            f"{kraken_base}{kraken_quote}",
            f"{kraken_base}/{kraken_quote}",
            f"{base}{quote}",
        ]
    return spellings
