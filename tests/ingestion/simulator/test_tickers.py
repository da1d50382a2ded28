"""The bulk tickers: their prices, volumes and times against the tape."""

import re
from decimal import Decimal

import pytest

from ingestion.simulator.markets import default_markets
from ingestion.simulator.tape import MINUTE_MS
from ingestion.simulator.venue import Universe

DAY_MS = 86_400_000
# path, rows of the answer, last price, base volume, quote volume
BULK = {
    "binance": (
        "binance/api/v3/ticker/24hr",
        lambda a: {r["symbol"]: r for r in a},
        lambda r: (r["lastPrice"], r["volume"], r["quoteVolume"]),
    ),
    "upbit": (
        "upbit/v1/ticker/all?quote_currencies=KRW,USDT,BTC",
        lambda a: {r["market"]: r for r in a},
        lambda r: (r["trade_price"], r["acc_trade_volume_24h"], r["acc_trade_price_24h"]),
    ),
    "kraken": (
        "kraken/0/public/Ticker",
        lambda a: a["result"],
        lambda r: (r["c"][0], r["v"][1], Decimal(r["v"][1]) * Decimal(r["p"][1])),
    ),
    "coinbase": (
        "coinbase/products/stats",
        lambda a: a,
        lambda r: (r["stats_24hour"]["last"], r["stats_24hour"]["volume"], None),
    ),
    "okx": (
        "okx/api/v5/market/tickers?instType=SPOT",
        lambda a: {r["instId"]: r for r in a["data"]},
        lambda r: (r["last"], r["vol24h"], r["volCcy24h"]),
    ),
    "bybit": (
        "bybit/v5/market/tickers?category=spot",
        lambda a: {r["symbol"]: r for r in a["result"]["list"]},
        lambda r: (r["lastPrice"], r["volume24h"], r["turnover24h"]),
    ),
    "kucoin": (
        "kucoin/api/v1/market/allTickers",
        lambda a: {r["symbol"]: r for r in a["data"]["ticker"]},
        lambda r: (r["last"], r["vol"], r["volValue"]),
    ),
}
AS_OF_MS = {"kucoin": 2_000, "coinbase": 5_000}


@pytest.mark.parametrize("exchange", BULK)
def test_bulk_ticker_has_every_listing_with_the_last_price_of_the_tape(
    ask, universe, now_ms, exchange
):
    path, rows_of, figures = BULK[exchange]
    rows = rows_of(ask(path).json)
    markets = {
        market.listing.exchange_symbol: market for market in universe.venue(exchange).markets
    }
    assert set(rows) == set(markets)
    step = AS_OF_MS.get(exchange, 1)
    as_of_ms = now_ms // step * step
    for symbol, market in markets.items():
        scale = market.listing.price_scale
        last = market.tape.trade(market.tape.number_at(as_of_ms + 1) - 1)
        assert last.event_ms <= as_of_ms
        price, volume, quote = figures(rows[symbol])
        assert Decimal(price) == Decimal(last.price).scaleb(-scale)
        if quote is not None:
            assert 0.8 < float(quote) / float(volume) / float(price) < 1.25


@pytest.mark.parametrize("exchange", BULK)
def test_no_number_is_in_exponent_form(ask, exchange):
    body = ask(BULK[exchange][0]).body.decode()
    assert not re.findall(r"\d[eE][-+]?\d", body)


@pytest.mark.parametrize("exchange", ["binance", "kucoin", "upbit"])
def test_volume_of_a_day_equals_the_sum_of_its_minutes(universe, exchange):
    boundary_ms = 29_920_860 * MINUTE_MS
    world = Universe(
        markets=default_markets(), seed=7, rate_per_minute=12, clock=lambda: boundary_ms - 1
    )
    for market in world.venue(exchange).markets[:6]:
        ticker = world.venue(exchange).ticker(market)
        minutes = range(boundary_ms // MINUTE_MS - 1_440, boundary_ms // MINUTE_MS)
        candles = [candle for m in minutes if (candle := market.candles.minute(m))]
        assert ticker.lots == sum(candle.lots for candle in candles)
        assert ticker.trade_count == sum(candle.trade_count for candle in candles)
        assert ticker.high == max(candle.high for candle in candles)
        assert ticker.low == min(candle.low for candle in candles)
        assert ticker.open == candles[0].open
        assert ticker.last_price == candles[-1].close


@pytest.mark.parametrize("symbol", ["XRP/USDT", "ETH/BTC", "MANA/USDT"])
def test_rolling_extremes_follow_the_clock_minute_by_minute(universe, symbol):
    venue = universe.venue("okx")
    market = venue.find(symbol)
    start_ms = 29_900_000 * MINUTE_MS
    for step in (0, 1, 2, 700, 1_500, 4_000, 30):
        now_ms = start_ms + step * MINUTE_MS - 1
        ticker = venue.ticker(market, as_of_ms=now_ms)
        minutes = range(now_ms // MINUTE_MS - 1_439, now_ms // MINUTE_MS + 1)
        candles = [candle for m in minutes if (candle := market.candles.minute(m))]
        assert ticker.high == max(candle.high for candle in candles)
        assert ticker.low == min(candle.low for candle in candles)


def test_upbit_fields_without_24h_count_from_midnight(ask, universe, now_ms):
    row = ask("upbit/v1/ticker?markets=KRW-BTC").json[0]
    market = universe.market(exchange="upbit", spelling="KRW-BTC")
    trades = list(market.tape.trades(from_ms=now_ms // DAY_MS * DAY_MS, to_ms=now_ms + 1))
    scale = 10**-market.listing.price_scale
    assert row["opening_price"] == trades[0].price * scale
    assert row["high_price"] == max(trade.price for trade in trades) * scale
    assert row["low_price"] == min(trade.price for trade in trades) * scale
    lots = sum(trade.lots for trade in trades)
    assert row["acc_trade_volume"] == Decimal(lots).scaleb(-market.listing.size_scale)
    assert row["acc_trade_volume_24h"] > row["acc_trade_volume"]


def test_rows_of_one_second_are_built_once(universe):
    venue = universe.venue("okx")
    built = []

    def build(_venue, market, _as_of_ms):
        built.append(market)
        return "{}"

    for _ in range(3):
        coroutine = venue.rows(venue.markets[:4], kind="test", build=build)
        with pytest.raises(StopIteration) as done:
            coroutine.send(None)
        assert done.value.value == ["{}"] * 4
    assert len(built) == 4
