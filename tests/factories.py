"""Rows for tests: valid as they come, each field open to change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from factory.declarations import LazyAttribute, LazyFunction, Sequence, SubFactory
from factory.django import DjangoModelFactory

from market.models import Candle1m, Exchange, Listing, Symbol

FIRST_CANDLE = datetime(2024, 1, 1, 12, tzinfo=UTC)


class ExchangeFactory(DjangoModelFactory[Exchange]):
    class Meta:
        model = Exchange
        django_get_or_create = ("name",)

    name = Sequence(lambda n: f"exchange{n}")
    title = LazyAttribute(lambda row: row.name.title())


class SymbolFactory(DjangoModelFactory[Symbol]):
    """``SymbolFactory(name="BTC/USDT")``: base and quote follow."""

    class Meta:
        model = Symbol
        django_get_or_create = ("name",)

    class Params:
        number = Sequence(lambda n: n)

    name = LazyAttribute(lambda row: f"COIN{row.number}/USDT")
    base = LazyAttribute(lambda row: row.name.split("/")[0])
    quote = LazyAttribute(lambda row: row.name.split("/")[1])


class ListingFactory(DjangoModelFactory[Listing]):
    class Meta:
        model = Listing

    exchange = SubFactory(ExchangeFactory)
    symbol = SubFactory(SymbolFactory)
    exchange_symbol = LazyAttribute(lambda row: row.symbol.name.replace("/", ""))
    quote = LazyAttribute(lambda row: row.symbol.quote)


class Candle1mFactory(DjangoModelFactory[Candle1m]):
    """Minutes in a row from FIRST_CANDLE on."""

    class Meta:
        model = Candle1m

    symbol = "BTC/USDT"
    time = Sequence(lambda n: FIRST_CANDLE + timedelta(minutes=n))
    open = Decimal("42150.5")
    high = Decimal("42180.3")
    low = Decimal("42145")
    close = Decimal("42170.2")
    source_count = 2
    sources = LazyFunction(lambda: ["binance", "kraken"])
