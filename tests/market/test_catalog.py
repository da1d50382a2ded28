import pytest

from market import catalog
from oracle.catalog import CatalogListing, CatalogReader
from tests.factories import ExchangeFactory, ListingFactory, SymbolFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def listed():
    exchange = ExchangeFactory(name="upbit")
    symbol = SymbolFactory(name="BTC/USDT", min_sources=3)
    return ListingFactory(exchange=exchange, symbol=symbol, exchange_symbol="KRW-BTC", quote="KRW")


def test_what_is_enabled_is_published(listed, settings):
    settings.SIMULATED = True
    catalog.publish()
    found = CatalogReader().current()
    assert found.listings == (
        CatalogListing(exchange="upbit", exchange_symbol="KRW-BTC", symbol="BTC/USDT", quote="KRW"),
    )
    assert (found.exchanges, found.symbols[0].min_sources, found.simulated) == (
        ("upbit",),
        3,
        True,
    )


@pytest.mark.parametrize("part", ["listing", "symbol", "exchange"])
def test_what_is_disabled_is_not_asked_for(listed, part):
    row = {"listing": listed, "symbol": listed.symbol, "exchange": listed.exchange}[part]
    row.enabled = False
    row.save(update_fields=("enabled",))
    assert catalog.load().listings == ()


def test_a_derived_symbol_is_published_with_its_origin(listed):
    SymbolFactory(name="BTC/RUB", derived_from=listed.symbol)
    derived = {symbol.name: symbol.derived_from for symbol in catalog.load().symbols}
    assert derived == {"BTC/RUB": "BTC/USDT", "BTC/USDT": None}
    assert catalog.load().spot_names == {"BTC/USDT"}
