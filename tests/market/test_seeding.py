import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction

from market import seeding, seeds
from market.models import Exchange, Listing, Origin, Symbol
from market.symbols import UnknownSymbolError, is_canonical
from oracle.catalog import CatalogReader

pytestmark = pytest.mark.django_db


def enabled():
    return set(Symbol.objects.filter(enabled=True).values_list("name", flat=True))


def test_a_new_installation_prices_all_seeds():
    assert seeding.seed([]) == len(seeds.SYMBOLS) >= 20
    assert Listing.objects.count() == len(seeds.LISTINGS)
    assert {"BTC/USDT", "BTC/USD", "BTC/KRW"} <= enabled()


def test_derived_symbols_name_their_origin():
    seeding.seed([])
    assert Symbol.objects.get(name="BTC/RUB").derived_from == Symbol.objects.get(name="BTC/USD")
    assert not Listing.objects.filter(symbol__name="BTC/RUB").exists()


def test_again_changes_nothing():
    seeding.seed([])
    Symbol.objects.filter(name="BTC/USDT").update(min_sources=4, enabled=False)
    Exchange.objects.filter(name="okx").update(enabled=False)
    seeding.seed([])
    assert Symbol.objects.get(name="BTC/USDT").min_sources == 4
    assert "BTC/USDT" not in enabled()
    assert not Exchange.objects.get(name="okx").enabled
    assert Listing.objects.count() == len(seeds.LISTINGS)


def test_symbols_narrows_and_keeps_the_rates_to_convert_with():
    seeding.seed(["btc-usdt", "ETHUSD"])
    assert enabled() == {"BTC/USDT", "ETH/USD", "USDT/USD", "USDT/KRW"}
    seeding.seed(["XRP/USDT"])
    assert enabled() == {"XRP/USDT", "USDT/USD", "USDT/KRW"}
    seeding.seed(["btc-rub"])
    assert enabled() == {"BTC/RUB", "BTC/USD", "USDT/USD", "USDT/KRW"}


def test_symbols_widens_again_but_not_what_a_person_disabled():
    seeding.seed([])
    everything = enabled()
    Symbol.objects.filter(name="ETH/USD").update(enabled=False)
    seeding.seed(["BTC/USDT"])
    seeding.seed([])
    assert enabled() == everything - {"ETH/USD"}


def test_an_unknown_symbol_is_named_with_what_there_is():
    with pytest.raises(UnknownSymbolError, match=r"FOO/BAR.*BTC/USDT"):
        seeding.seed(["BTC/USDT", "FOO/BAR"])
    assert not Symbol.objects.exists()


def test_the_command_seeds_and_publishes(settings, capsys):
    settings.SYMBOLS = ["BTC/USDT"]
    call_command("seed")
    assert capsys.readouterr().out == "3 symbols are priced.\n"
    assert CatalogReader().current().names == {"BTC/USDT", "USDT/USD", "USDT/KRW"}


def test_the_command_refuses_what_it_does_not_know(settings):
    settings.SYMBOLS = ["NOPE"]
    with pytest.raises(CommandError, match="NOPE"):
        call_command("seed")


@pytest.mark.parametrize("simulated", [True, False])
def test_a_database_of_the_other_world_is_refused(settings, simulated):
    settings.SIMULATED = simulated
    seeding.check_origin()
    seeding.check_origin()
    assert Origin.objects.get().simulated is simulated
    settings.SIMULATED = not simulated
    with pytest.raises(seeding.OriginError, match="another DATABASE_URL"):
        seeding.check_origin()


def test_every_seed_is_sound():
    names = {symbol.name for symbol in seeds.SYMBOLS}
    assert all(map(is_canonical, names))
    derived = {symbol.name: symbol.derived_from for symbol in seeds.SYMBOLS if symbol.derived_from}
    assert derived == {f"{base}/RUB": f"{base}/USD" for base in ("BTC", "ETH", "XMR")}
    assert {listing.symbol for listing in seeds.LISTINGS} == names - set(derived)
    assert set(derived.values()) <= names
    assert {listing.exchange for listing in seeds.LISTINGS} == set(seeds.EXCHANGES)
    keys = [(each.exchange, each.symbol, each.exchange_symbol) for each in seeds.LISTINGS]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "btc/usdt", "base": "btc", "quote": "usdt"},
        {"name": "BTC/USDT", "base": "ETH", "quote": "USDT"},
        {"name": "BTC|X/USDT", "base": "BTC|X", "quote": "USDT"},
        {"name": "BTC/USDT", "base": "BTC", "quote": "USDT", "min_sources": 0},
    ],
)
def test_the_database_refuses_a_symbol_that_is_none(wrong):
    with pytest.raises(IntegrityError), transaction.atomic():
        Symbol.objects.create(**wrong)
