import pytest

from market.symbols import UnknownSymbolError, is_canonical, resolve, slug

KNOWN = {"BTC/USDT", "BTC/USD", "1INCH/USDT", "A/BC", "AB/C"}


@pytest.mark.parametrize(
    "text", ["BTC/USDT", "BTC-USDT", "btc-usdt", "btc_usdt", " btc/usdt ", "BTCUSDT", "btcusdt"]
)
def test_every_spelling_means_the_symbol(text):
    assert resolve(text, KNOWN) == "BTC/USDT"


def test_joined_is_accepted_only_where_one_symbol_reads_so():
    with pytest.raises(UnknownSymbolError, match="A/BC or AB/C"):
        resolve("ABC", KNOWN)


@pytest.mark.parametrize("text", ["", "BTC", "BTC/EUR", "btc usdt", "/", "BTC//USDT", "💥"])
def test_what_is_no_symbol_of_ours_is_named(text):
    with pytest.raises(UnknownSymbolError, match="unknown symbol"):
        resolve(text, KNOWN)


def test_slug():
    assert slug("BTC/USDT") == "btc-usdt"


def test_is_canonical():
    assert is_canonical("BTC/USDT")
    assert not is_canonical("btc/usdt")
    assert not is_canonical("BTC/USDT/X")
