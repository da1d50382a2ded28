"""The seeds, written to the database: what is there already keeps its settings."""

from __future__ import annotations

from collections.abc import Collection

from django.conf import settings
from django.db import transaction

from market import seeds
from market.models import Exchange, Listing, Origin, Symbol
from market.symbols import UnknownSymbolError, resolve


class OriginError(Exception):
    """The database holds prices of the other world: simulated ones in live mode, or live ones."""

    retryable = False


def check_origin() -> None:
    """Note at the first set-up which world this database is of; refuse the other ever after."""
    origin, _ = Origin.objects.get_or_create(id=1, defaults={"simulated": settings.SIMULATED})
    if origin.simulated != settings.SIMULATED:
        raise OriginError(
            f"this database holds {origin} prices and the oracle is set to "
            f"{'simulated' if settings.SIMULATED else 'live'} ones: use another DATABASE_URL"
        )


def chosen(wanted: Collection[str]) -> frozenset[str]:
    """The names of the symbols to price: those wanted, in any spelling, and all rates; none: all.

    With a derived one its origin is priced too.

    Raises UnknownSymbolError naming each one that is not among the seeds.
    """
    known = {symbol.name for symbol in seeds.SYMBOLS}
    if not wanted:
        return frozenset(known)
    names, unknown = {symbol.name for symbol in seeds.RATES}, []
    for text in wanted:
        try:
            names.add(resolve(text, known))
        except UnknownSymbolError as error:
            unknown.append(str(error))
    if unknown:
        raise UnknownSymbolError(f"SYMBOLS: {'; '.join(unknown)}. There are {_listing(known)}")
    origins = [each.derived_from for each in seeds.SYMBOLS if each.name in names]
    return frozenset(names.union(filter(None, origins)))


@transaction.atomic
def seed(wanted: Collection[str]) -> int:
    """Write exchanges, symbols and listings that are missing; how many symbols are enabled.

    ``wanted`` narrows what is priced: a seeded symbol that is not wanted is disabled, and enabled
    again once it is wanted or nothing is narrowed any more. What a person disabled stays so.
    """
    names = chosen(wanted)
    for name, title in seeds.EXCHANGES.items():
        Exchange.objects.get_or_create(name=name, defaults={"title": title})
    Symbol.objects.bulk_create(
        (
            Symbol(
                name=symbol.name,
                base=symbol.base,
                quote=symbol.quote,
                min_sources=symbol.min_sources,
                is_rate=symbol.is_rate,
            )
            for symbol in seeds.SYMBOLS
        ),
        ignore_conflicts=True,
    )
    seeded = Symbol.objects.filter(name__in=[symbol.name for symbol in seeds.SYMBOLS])
    seeded.filter(name__in=names, narrowed=True).update(enabled=True, narrowed=False)
    seeded.exclude(name__in=names).filter(enabled=True).update(enabled=False, narrowed=True)
    _seed_derived()
    _seed_listings()
    return Symbol.objects.filter(enabled=True).count()


def _seed_derived() -> None:
    ids = dict(Symbol.objects.values_list("name", "id"))
    for symbol in seeds.SYMBOLS:
        if symbol.derived_from:
            fresh = Symbol.objects.filter(name=symbol.name, derived_from=None)
            fresh.update(derived_from_id=ids[symbol.derived_from])


def _seed_listings() -> None:
    exchanges = dict(Exchange.objects.values_list("name", "id"))
    symbols = dict(Symbol.objects.values_list("name", "id"))
    Listing.objects.bulk_create(
        (
            Listing(
                exchange_id=exchanges[listing.exchange],
                symbol_id=symbols[listing.symbol],
                exchange_symbol=listing.exchange_symbol,
                quote=listing.quote,
                added_by="seed",
            )
            for listing in seeds.LISTINGS
        ),
        ignore_conflicts=True,
    )


def _listing(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
