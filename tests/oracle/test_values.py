from decimal import Decimal
from typing import Any

import pytest

from oracle.values import Candle, Ticker, Trade

D = Decimal
NOW = 1_800_000_000_000

TICKER: dict[str, Any] = {
    "exchange_symbol": "BTCUSDT",
    "price": D("1"),
    "volume": D("0"),
    "quote_volume": None,
    "event_ms": NOW,
    "received_ms": NOW,
}
TRADE: dict[str, Any] = {
    "exchange_symbol": "BTCUSDT",
    "price": D("1"),
    "size": D("2"),
    "side": "buy",
    "trade_id": "7",
    "event_ms": NOW,
    "received_ms": NOW,
}
CANDLE: dict[str, Any] = {
    "open_ms": NOW,
    "open": D(2),
    "high": D(4),
    "low": D(1),
    "close": D(3),
    "volume": D(0),
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"exchange_symbol": ""},
        {"exchange_symbol": None},
        {"price": 1.5},
        {"price": D(0)},
        {"price": D(-1)},
        {"price": D("NaN")},
        {"price": D("sNaN")},
        {"price": D("Infinity")},
        {"price": D("1e20")},
        {"price": D("1." + "1" * 50)},
        {"volume": D("1e30")},
        {"volume": D("1." + "1" * 50)},
        {"price": D("9e-19")},
        {"volume": D(-1)},
        {"quote_volume": D("NaN")},
        {"event_ms": 1_800_000_000},
        {"event_ms": 1_800_000_000_000_000},
        {"received_ms": float(NOW)},
        {"received_ms": True},
        {"frame_ms": "now"},
    ],
)
def test_ticker_refuses(wrong):
    Ticker(**TICKER)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Ticker(**{**TICKER, **wrong})


@pytest.mark.parametrize(
    "wrong",
    [{"size": D(0)}, {"side": "BUY"}, {"trade_id": ""}, {"trade_id": 7}, {"event_ms": None}],
)
def test_trade_refuses(wrong):
    Trade(**TRADE)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Trade(**{**TRADE, **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"high": D("2.5")},
        {"low": D("2.5")},
        {"low": D(0)},
        {"high": D("1e20")},
        {"close": D("NaN")},
        {"open": 2.0},
        {"open": D("2." + "1" * 50)},
        {"volume": D(-1)},
        {"open_ms": 0},
        {"trade_count": -1},
        {"trade_count": D(1)},
        {"vwap": D(0)},
    ],
)
def test_candle_refuses(wrong):
    Candle(**CANDLE)
    with pytest.raises(ValueError, match=r"must"):
        Candle(**{**CANDLE, **wrong})


def test_candle_of_few_digits_after_many_zeros_is_one():
    price = D("0." + "0" * 17 + "1" * 40)
    candle = Candle(**{**CANDLE, "open": price, "high": price, "low": price, "close": price})
    assert candle.close == price
