from oracle import catalog, keys
from oracle.catalog import Catalog, CatalogListing, CatalogReader, CatalogSymbol
from oracle.connection import redis_client


def one(**changes):
    fields = {
        "exchanges": ("binance", "upbit"),
        "symbols": (CatalogSymbol(name="BTC/USDT", base="BTC", quote="USDT", min_sources=2),),
        "listings": (
            CatalogListing(
                exchange="binance", exchange_symbol="BTCUSDT", symbol="BTC/USDT", quote="USDT"
            ),
            CatalogListing(
                exchange="binance", exchange_symbol="BTCUSDT", symbol="BTC/USD", quote="USDT"
            ),
        ),
    }
    return Catalog(**{**fields, **changes})


def test_before_any_is_published_the_catalogue_is_empty():
    assert CatalogReader().current() == Catalog()


def test_a_reader_follows_and_keeps_what_did_not_change():
    reader = CatalogReader()
    assert catalog.publish(one())
    first = reader.current()
    assert first == one()
    assert reader.current() is first
    assert not catalog.publish(one())
    assert catalog.publish(one(exchanges=("binance",)))
    assert reader.current().exchanges == ("binance",)


def test_a_reader_keeps_the_last_one_when_redis_lost_it():
    reader = CatalogReader()
    catalog.publish(one())
    reader.current()
    redis_client().delete(keys.catalog(), keys.catalog_version())
    assert reader.current() == one()
    assert catalog.publish(one())


def test_the_process_has_one_reader_for_each_prefix(settings):
    catalog.publish(one())
    assert catalog.current() is catalog.current()
    assert catalog.current() == one()
    settings.REDIS_PREFIX += "-other"
    assert catalog.current() == Catalog()


def test_an_exchange_is_asked_once_for_a_symbol_listed_twice():
    assert one().exchange_symbols == {"binance": ("BTCUSDT",), "upbit": ()}


def test_a_market_belongs_to_the_one_symbol_of_its_own_quote_currency():
    symbols = [
        CatalogSymbol(name=f"BTC/{quote}", base="BTC", quote=quote, min_sources=1)
        for quote in ("USD", "USDT")
    ]
    found = one(symbols=tuple(symbols))
    assert found.markets == {"binance": {"BTCUSDT": "BTC/USDT"}, "upbit": {}}
    assert found.venues == {"BTC/USDT": {"binance"}}
