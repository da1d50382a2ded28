"""The markets: default ones, and those of a file."""

import json
from decimal import Decimal

import pytest

from ingestion.simulator.markets import default_markets
from ingestion.simulator.markets_file import changed_markets, load_markets


def test_defaults_have_forty_assets_and_tiny_prices():
    markets = default_markets()
    assert len(markets.assets) >= 45
    pepe = markets.find(exchange="kucoin", spelling="PEPE-USDT")
    assert pepe is not None and pepe.price_scale >= 9
    assert markets.find(exchange="upbit", spelling="KRW-BTC") is not None
    korean = markets.find(exchange="upbit", spelling="KRW-BTC")
    assert korean is not None and korean.price_scale == -3
    assert markets.find(exchange="binance", spelling="XMRUSDT") is None


@pytest.mark.parametrize("spelling", ["XXBTZUSD", "XBTUSD", "XBT/USD", "BTC/USD", "BTCUSD"])
def test_kraken_understands_every_spelling_of_a_pair(spelling):
    listing = default_markets().find(exchange="kraken", spelling=spelling)
    assert listing is not None and listing.exchange_symbol == "XXBTZUSD"


def test_file_adds_assets_and_listings(tmp_path):
    path = tmp_path / "markets.json"
    body = {
        "assets": {"AAA": {"usd": "1.25"}},
        "listings": [{"exchange": "okx", "base": "AAA", "quote": "USDT"}],
    }
    path.write_text(json.dumps(body))
    markets = load_markets(path)
    added = markets.find(exchange="okx", spelling="AAA-USDT")
    assert added is not None
    assert added.reference_price == Decimal("1.25") / Decimal("0.9995")
    assert len(list(markets)) == len(list(default_markets())) + 1


def test_file_may_replace_everything_by_generated_listings():
    markets = changed_markets(
        {"replace": True, "generate": {"count": 2000, "exchanges": ["binance"], "quote": "USDT"}}
    )
    listings = list(markets)
    assert len(listings) == 2000
    assert listings[0].exchange_symbol == "T0001USDT"
    assert markets.of("okx") == []


@pytest.mark.parametrize(
    "body, part",
    [
        ([], "must be a JSON object"),
        ({"market": {}}, "unknown key 'market'"),
        ({"assets": {"A": {}}}, "usd must be a decimal"),
        ({"assets": {"A": {"usd": "x"}}}, "usd must be a decimal"),
        ({"assets": {"A": {"usd": "-1"}}}, "positive"),
        ({"assets": {"A": {"usd": "1", "color": 1}}}, "unknown key 'color'"),
        ({"listings": [{"exchange": "mtgox"}]}, "listings[0]: exchange"),
        ({"listings": [{"exchange": "okx", "base": "ZZZ", "quote": "USDT"}]}, "'ZZZ'"),
        ({"listings": [{"exchange": "okx", "base": "BTC", "quote": "USDT"}]}, "listed twice"),
        ({"generate": {"count": 0}}, "count"),
        ({"generate": {"count": 1, "exchanges": ["mtgox"]}}, "exchanges"),
        ({"generate": {"count": 1, "quote": "ZZZ"}}, "'ZZZ'"),
    ],
)
def test_bad_file_is_refused_with_what_is_wrong(body, part):
    with pytest.raises(ValueError) as problem:
        changed_markets(body)
    assert part in str(problem.value)


def test_missing_and_broken_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot read"):
        load_markets(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        load_markets(tmp_path / "broken.json")
