"""Each simulated answer has the fields and types of the recorded one of its kind."""

from decimal import Decimal
from typing import Any

import pytest


def shape(value: Any) -> Any:
    """Return the names and types of a payload; of a list, those of its first item."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return (
            [shape(item) for item in value[:1]] if not row_like(value) else list(map(shape, value))
        )
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, int | Decimal) else "text"


def row_like(value: list[Any]) -> bool:
    """Tell a candle's or trade's columns, which all count, from a list of alike things."""
    return bool(value) and not isinstance(value[0], dict | list)


def single(value: Any) -> Any:
    """Return an object's only or first value."""
    return next(iter(value.values()))


TICKERS = [
    ("binance/tickers_5.json", "binance/api/v3/ticker/24hr?symbol=BTCUSDT", ()),
    ("binance/tickers_1.json", 'binance/api/v3/ticker/24hr?symbols=["BTCUSDT","ETHUSDT"]', ()),
    ("upbit/tickers_1.json", "upbit/v1/ticker?markets=KRW-BTC,KRW-ETH", ()),
    ("kraken/tickers_1.json", "kraken/0/public/Ticker?pair=XBTUSD,ETHUSD", ()),
    ("kraken/tickers_2.json", "kraken/0/public/Ticker?pair=XBTUSDT", ()),
    ("coinbase/tickers_1.json", "coinbase/products/BTC-USD/ticker", ()),
    (
        "coinbase/tickers_3.json",
        "coinbase/products/BTC-USD/stats",
        ("rfq_volume_24hour", "rfq_volume_30day"),
    ),
    ("okx/tickers_1.json", "okx/api/v5/market/tickers?instType=SPOT", ()),
    ("okx/tickers_2.json", "okx/api/v5/market/ticker?instId=BTC-USDT", ()),
    ("bybit/doc_tickers_1.json", "bybit/v5/market/tickers?category=spot", ()),
    ("kucoin/tickers_1.json", "kucoin/api/v1/market/allTickers", ()),
    ("kucoin/tickers_2.json", "kucoin/api/v1/market/stats?symbol=BTC-USDT", ()),
]
CANDLES = [
    ("binance/candles_1.json", "binance/api/v3/klines?symbol=BTCUSDT&interval=5m"),
    ("upbit/candles_1.json", "upbit/v1/candles/minutes/1?market=KRW-BTC&count=3"),
    ("upbit/candles_3.json", "upbit/v1/candles/days?market=KRW-BTC&count=2"),
    ("kraken/candles_1.json", "kraken/0/public/OHLC?pair=XXBTZUSD&interval=1"),
    ("kraken/candles_2.json", "kraken/0/public/OHLC?pair=XBTUSDT&interval=60"),
    ("coinbase/candles_1.json", "coinbase/products/BTC-USD/candles?granularity=3600"),
    ("okx/candles_1.json", "okx/api/v5/market/candles?instId=BTC-USDT&bar=1m"),
    (
        "okx/candles_2.json",
        "okx/api/v5/market/candles?instId=BTC-USDT&bar=1Dutc&before=1795000000000&limit=3",
    ),
    ("bybit/candles_1.json", "bybit/v5/market/kline?category=spot&symbol=BTCUSDT&interval=1"),
    (
        "kucoin/candles_1.json",
        "kucoin/api/v1/market/candles?symbol=BTC-USDT&type=1hour"
        "&startAt=1795000000&endAt=1795200000",
    ),
]
ERRORS = [
    ("binance/error_2.json", "binance/api/v3/ticker/24hr?symbol=NOTACOIN", 400),
    ("upbit/error_1.json", "upbit/v1/ticker?markets=KRW-BTC,KRW-NOTACOIN", 404),
    ("upbit/error_2.json", "upbit/v1/ticker", 400),
    ("kraken/error_1.json", "kraken/0/public/Ticker?pair=XBTUSD,NOTACOIN", 200),
    ("okx/error_1.json", "okx/api/v5/market/ticker?instId=NOTACOIN-USDT", 200),
    ("kucoin/error_1.json", "kucoin/api/v1/market/stats?symbol=NOTACOIN-USDT", 200),
    (
        "coinbase/error_1.json",
        "coinbase/products/BTC-USD/candles?granularity=60&start=1795000000&end=1795100000",
        400,
    ),
]
SYMBOLS = [
    ("upbit/symbols_1.json", "upbit/v1/market/all", ()),
    ("kraken/symbols_1.json", "kraken/0/public/AssetPairs?pair=SOLUSD", ()),
    ("okx/symbols_1.json", "okx/api/v5/public/instruments?instType=SPOT", ()),
    ("bybit/symbols_1.json", "bybit/v5/market/instruments-info?category=spot", ()),
]


@pytest.mark.parametrize("name, path, missing", TICKERS, ids=[row[0] for row in TICKERS])
def test_ticker_has_the_recorded_fields_and_types(ask, recorded, name, path, missing):
    expected = shape(recorded(name))
    for field in missing:
        del expected[field]
    assert shape(ask(path).json) == expected


def test_bulk_stats_row_has_the_recorded_fields(ask, recorded):
    expected = shape(single(recorded("coinbase/tickers_4.json")))
    for part in expected.values():
        part.pop("rfq_volume")
    assert shape(ask("coinbase/products/stats").json["NEAR-USD"]) == expected


@pytest.mark.parametrize("name, path", CANDLES, ids=[row[0] for row in CANDLES])
def test_candles_have_the_recorded_columns_and_types(ask, recorded, name, path):
    assert shape(ask(path).json) == shape(recorded(name))


@pytest.mark.parametrize("name, path, status", ERRORS, ids=[row[0] for row in ERRORS])
def test_refusal_is_the_recorded_one(ask, recorded, name, path, status):
    answer = ask(path)
    assert (answer.status, answer.json) == (status, recorded(name))


def test_unknown_symbol_on_bybit_is_the_recorded_refusal(ask, recorded):
    answer = ask("bybit/v5/market/tickers?category=spot&symbol=NOTACOIN")
    expected = recorded("bybit/error_1.json") | {"time": answer.json["time"]}
    assert (answer.status, answer.json) == (200, expected)


@pytest.mark.parametrize("name, path, missing", SYMBOLS, ids=[row[0] for row in SYMBOLS])
def test_symbol_list_has_the_recorded_fields(ask, recorded, name, path, missing):
    expected = shape(recorded(name))
    answer = ask(path).json
    if name.startswith("kraken"):
        expected, answer = expected["result"]["SOLUSD"], answer["result"]["SOLUSD"]
        assert set(answer) == set(expected)
        return
    assert shape(answer) == expected


def test_exchange_info_names_the_symbols_as_recorded(ask, recorded):
    expected, answer = recorded("binance/symbols_1.json"), ask("binance/api/v3/exchangeInfo").json
    assert set(answer) == set(expected)
    assert set(answer["symbols"][0]) >= set(expected["symbols"][0])


def test_products_and_kucoin_symbols_have_at_least_the_recorded_fields(ask, recorded):
    products = ask("coinbase/products").json
    assert set(products[0]) >= set(recorded("coinbase/symbols_1.json")[0])
    symbols = ask("kucoin/api/v2/symbols").json["data"]
    assert set(symbols[0]) >= set(recorded("kucoin/symbols_1.json")["data"][0])


def test_socket_token_has_the_documented_fields(ask, recorded):
    answer = ask("kucoin/api/v1/bullet-public", method="POST").json
    assert shape(answer) == shape(recorded("kucoin/doc_ws_token_1.json"))
    assert answer["data"]["instanceServers"][0]["endpoint"].startswith("ws://127.0.0.1:")
