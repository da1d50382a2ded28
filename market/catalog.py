"""The catalogue as the database has it, published for the hot path."""

from __future__ import annotations

from django.conf import settings

from market.models import Exchange, Listing, Symbol
from oracle import catalog
from oracle.catalog import Catalog, CatalogListing, CatalogSymbol


def load() -> Catalog:
    """Everything that is enabled: exchanges, symbols, and listings of both."""
    listings = Listing.objects.filter(
        enabled=True, exchange__enabled=True, symbol__enabled=True
    ).order_by("symbol__name", "exchange__name", "exchange_symbol")
    return Catalog(
        exchanges=tuple(Exchange.objects.filter(enabled=True).values_list("name", flat=True)),
        symbols=tuple(
            CatalogSymbol(
                name=symbol.name,
                base=symbol.base,
                quote=symbol.quote,
                min_sources=symbol.min_sources,
                is_rate=symbol.is_rate,
                derived_from=symbol.derived_from.name if symbol.derived_from else None,
            )
            for symbol in Symbol.objects.filter(enabled=True).select_related("derived_from")
        ),
        listings=tuple(
            CatalogListing(exchange=exchange, exchange_symbol=native, symbol=symbol, quote=quote)
            for exchange, native, symbol, quote in listings.values_list(
                "exchange__name", "exchange_symbol", "symbol__name", "quote"
            )
        ),
        simulated=settings.SIMULATED,
    )


def publish() -> bool:
    """Put the database's catalogue into force; False when it already was."""
    return catalog.publish(load())
