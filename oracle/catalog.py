"""What is priced and where it is listed, as the hot path reads it: from Redis, never the database.

The market publishes it; fetching and the index follow within a second. A database that is away
stops neither.
"""

from __future__ import annotations

from functools import cache, cached_property
from hashlib import sha256
from typing import Any

import msgspec
from django.conf import settings

from oracle import keys
from oracle.connection import redis_client


class CatalogSymbol(msgspec.Struct, frozen=True, kw_only=True):
    """A symbol to price. ``is_rate``: others convert with it, so it is priced first.

    ``derived_from``: the symbol whose trade rate is converted into this one's; it has no listings
    of its own, and no spot index.
    """

    name: str
    base: str
    quote: str
    min_sources: int
    is_rate: bool = False
    derived_from: str | None = None


class CatalogListing(msgspec.Struct, frozen=True, kw_only=True):
    """A symbol on an exchange. ``quote`` is the currency its prices come in there."""

    exchange: str
    exchange_symbol: str
    symbol: str
    quote: str


class Catalog(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """All that is enabled. ``simulated`` says which world its prices are from."""

    exchanges: tuple[str, ...] = ()
    symbols: tuple[CatalogSymbol, ...] = ()
    listings: tuple[CatalogListing, ...] = ()
    simulated: bool = False

    @cached_property
    def exchange_symbols(self) -> dict[str, tuple[str, ...]]:
        """What to ask each exchange for."""
        asked: dict[str, dict[str, None]] = {name: {} for name in self.exchanges}
        for listing in self.listings:
            asked[listing.exchange][listing.exchange_symbol] = None
        return {name: tuple(symbols) for name, symbols in asked.items()}

    @cached_property
    def markets(self) -> dict[str, dict[str, str]]:
        """The one symbol of each market, by exchange and exchange symbol.

        Only listings in the symbol's own quote currency: a market belongs to one symbol, or its
        trades would be counted twice, and sums over converted ones would not be exact.
        """
        quotes = {symbol.name: symbol.quote for symbol in self.symbols}
        found: dict[str, dict[str, str]] = {name: {} for name in self.exchanges}
        for each in self.listings:
            if each.quote == quotes.get(each.symbol):
                found[each.exchange].setdefault(each.exchange_symbol, each.symbol)
        return found

    @cached_property
    def venues(self) -> dict[str, frozenset[str]]:
        """The exchanges whose trades make up each symbol's volume."""
        found: dict[str, set[str]] = {}
        for exchange, symbols in self.markets.items():
            for symbol in symbols.values():
                found.setdefault(symbol, set()).add(exchange)
        return {symbol: frozenset(exchanges) for symbol, exchanges in found.items()}

    @cached_property
    def spot_names(self) -> frozenset[str]:
        """The names of the symbols that the spot index prices: all but the derived."""
        return frozenset(each.name for each in self.symbols if each.derived_from is None)

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of all symbols."""
        return frozenset(symbol.name for symbol in self.symbols)


_decode = msgspec.json.Decoder(Catalog).decode


def publish(catalog: Catalog) -> bool:
    """Make ``catalog`` the one in force; False when it already was."""
    text = msgspec.json.encode(catalog)
    version = sha256(text).hexdigest()[:16].encode()
    client = redis_client()
    if client.get(keys.catalog_version()) == version and client.exists(keys.catalog()):
        return False
    with client.pipeline(transaction=True) as pipe:
        pipe.set(keys.catalog(), text)
        pipe.set(keys.catalog_version(), version)
        pipe.execute()
    return True


def current() -> Catalog:
    """The catalogue in force, by this process's own reader; empty while none was published."""
    return _reader(settings.REDIS_PREFIX).current()


class CatalogReader:
    """The catalogue in force, read again only when its version changed. One per process role."""

    def __init__(self) -> None:
        self._version: bytes | None = None
        self._catalog = Catalog()

    def current(self) -> Catalog:
        """The catalogue; an empty one while none was ever published."""
        version: Any = redis_client().get(keys.catalog_version())
        if version is not None and version != self._version:
            text = redis_client().get(keys.catalog())
            if text is not None:
                self._catalog, self._version = _decode(text), version
        return self._catalog


@cache
def _reader(prefix: str) -> CatalogReader:
    return CatalogReader()
