"""Core symbols: kept up to date, and never priced by that."""

from __future__ import annotations

from typing import Any

import pytest

from ingestion import core_symbols
from ingestion.candle_sources import CandleError, UnknownExchangeError
from ingestion.core_symbols import CoreSymbolError
from market import catalog
from market.models import Exchange, Listing, Symbol
from market.timeframes import UnknownTimeframeError
from tests.factories import ExchangeFactory, ListingFactory, SymbolFactory

pytestmark = pytest.mark.django_db

USUAL = ["1m", "5m", "15m", "1h", "1d"]


def add(exchange: str = "okx", *names: str, **options: Any) -> list[Listing]:
    return core_symbols.add(exchange, names or ["BTC/USDT"], added_by="me", **options)


def listed(**options: Any) -> list[tuple[str, str, list[str], bool]]:
    return [
        (row.exchange.name, row.symbol.name, row.timeframes, row.synced)
        for row in core_symbols.listed(**options)
    ]


def priced() -> Listing:
    exchange: Any = ExchangeFactory(name="okx")
    symbol: Any = SymbolFactory(name="BTC/USDT")
    ListingFactory(exchange=exchange, symbol=symbol, exchange_symbol="BTC-EUR", quote="EUR")
    return ListingFactory(exchange=exchange, symbol=symbol, exchange_symbol="BTC-USDT")  # type: ignore[return-value]


def test_add_makes_the_priced_listing_a_core_symbol_and_touches_nothing_else() -> None:
    listing = priced()
    before = catalog.load()
    [added] = add()
    assert added.pk == listing.pk
    assert listed() == [("okx", "BTC/USDT", USUAL, True)]
    assert (added.enabled, added.added_by) == (True, listing.added_by)
    assert catalog.load() == before


def test_listing_is_of_who_names_it_again_and_not_of_what_promotes_it() -> None:
    listing = priced()
    before = catalog.load()
    core_symbols.add("okx", ["BTC/USDT"], added_by="promoted")
    listing.refresh_from_db()
    assert listing.added_by == "admin"
    core_symbols.add("okx", ["BTC/USDT", "ETH/USDT"], added_by="the fund", taken_over=True)
    rows = Listing.objects.exclude(timeframes=[]).order_by("symbol__name")
    assert [row.added_by for row in rows] == ["the fund", "the fund"]
    assert Listing.objects.get(quote="EUR").added_by == "admin"
    assert catalog.load() == before


def test_add_of_what_was_unknown_prices_and_polls_nothing() -> None:
    ExchangeFactory(name="okx")
    SymbolFactory(name="ETH/USDT")
    before = catalog.load()
    add("bitstamp", "BTC/USD", "eth-usdt")
    add("okx", "ETH/USDT", "1INCH/USDT")
    assert catalog.load() == before
    assert not Exchange.objects.get(name="bitstamp").enabled
    assert not Symbol.objects.get(name="1INCH/USDT").enabled
    assert Symbol.objects.get(name="ETH/USDT").enabled
    rows = Listing.objects.order_by("exchange__name", "symbol__name")
    assert list(rows.values_list("exchange_symbol", "quote", "enabled", "added_by")) == [
        ("BTC/USD", "USD", False, "me"),
        ("ETH/USDT", "USDT", False, "me"),
        ("1INCH-USDT", "USDT", False, "me"),
        ("ETH-USDT", "USDT", False, "me"),
    ]


def test_add_twice_is_once_and_joins_the_timeframes() -> None:
    add(timeframes=["1hour"])
    add(timeframes=["1m", "60m"])
    add()
    assert listed() == [("okx", "BTC/USDT", ["1m", "1h"], True)]
    assert Listing.objects.count() == 1


def test_add_enables_what_was_disabled() -> None:
    add()
    core_symbols.change("disable", "okx", ["BTC/USDT"])
    add()
    assert listed() == [("okx", "BTC/USDT", USUAL, True)]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["BTCUSDT"], "unknown symbol 'BTCUSDT': write it as BTC/USDT"),
        (["BTC/USDT", "x y"], "unknown symbol 'x y'"),
        (["BTC/BTC"], "BTC/BTC prices BTC in itself"),
    ],
)
def test_add_refuses_all_for_one_that_is_no_symbol(names: list[str], message: str) -> None:
    with pytest.raises(CoreSymbolError, match=message):
        add("okx", *names)
    assert not Listing.objects.exists()


def test_add_takes_a_known_symbol_without_its_slash() -> None:
    SymbolFactory(name="BTC/USDT")
    add("okx", "btcusdt", "BTC_USDT", "BTC/USDT")
    assert [row[1] for row in listed()] == ["BTC/USDT"]


@pytest.mark.parametrize(
    ("exchange", "timeframes", "error"),
    [
        ("mtgox", ["1m"], UnknownExchangeError),
        ("coinbase", ["4h"], CandleError),
        ("okx", ["2m"], UnknownTimeframeError),
    ],
)
def test_add_refuses_what_the_exchange_does_not_have(
    exchange: str, timeframes: list[str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        add(exchange, timeframes=timeframes)
    assert not Exchange.objects.exists()


def test_exchange_that_is_here_is_known_without_its_adapter() -> None:
    with pytest.raises(UnknownExchangeError, match="unknown exchange 'mtgox': there are "):
        core_symbols.check_exchange("mtgox")
    ExchangeFactory(name="mtgox")
    core_symbols.check_exchange("mtgox")
    core_symbols.check_exchange("kraken")  # an adapter that nobody has listed
    with pytest.raises(UnknownExchangeError):  # but it has no candles to keep
        add("mtgox")


def test_change_disables_and_enables_without_touching_the_price() -> None:
    priced()
    add("okx", "BTC/USDT", "ETH/USDT")
    before = catalog.load()
    assert core_symbols.change("disable", "okx", ["btc-usdt"]) == ["BTC/USDT"]
    assert core_symbols.change("disable", "okx", ["BTC/USDT"]) == []
    assert [row[1] for row in listed()] == ["ETH/USDT"]
    assert [row[1] for row in listed(include_disabled=True)] == ["BTC/USDT", "ETH/USDT"]
    assert core_symbols.change("enable", "okx", ["BTC/USDT", "ETH/USDT"]) == ["BTC/USDT"]
    assert [row[1] for row in listed()] == ["BTC/USDT", "ETH/USDT"]
    assert catalog.load() == before


def test_change_removes_and_leaves_the_listing() -> None:
    listing = priced()
    add()
    assert core_symbols.change("remove", "okx", ["BTC/USDT"]) == ["BTC/USDT"]
    assert core_symbols.change("remove", "okx", ["BTC/USDT"]) == []
    assert listed(include_disabled=True) == []
    listing.refresh_from_db()
    assert (listing.timeframes, listing.enabled) == ([], True)


def test_change_of_another_exchange_or_of_none_says_so() -> None:
    add()
    with pytest.raises(CoreSymbolError, match="no core symbols of kraken: BTC/USDT"):
        core_symbols.change("disable", "kraken", ["BTC/USDT"])
    assert listed() == [("okx", "BTC/USDT", USUAL, True)]


def test_listed_of_one_exchange() -> None:
    add("okx")
    add("kraken", "BTC/USD")
    assert [row[0] for row in listed(exchange="kraken")] == ["kraken"]
