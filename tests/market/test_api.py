"""The market's endpoints, from the stores to the text that goes out."""

from __future__ import annotations

import time
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection

from market import catalog, rollups
from market.candles import to_datetime
from market.ranges import TimeRange
from oracle import candle_book
from oracle.jsontext import decode
from oracle.values import RESOLUTIONS, Source
from tests.factories import FIRST_CANDLE, Candle1mFactory, ListingFactory, SymbolFactory
from tests.oracle.test_price_board import price, publish

pytestmark = pytest.mark.django_db

D = Decimal
MINUTE = 60_000
FIRST = int(FIRST_CANDLE.timestamp())


@pytest.fixture
def btc():
    symbol = SymbolFactory(name="BTC/USDT")
    for exchange in ("kraken", "binance"):
        ListingFactory(symbol=symbol, exchange__name=exchange)
    catalog.publish()


@pytest.fixture
def database_away(transactional_db, btc):
    connection.close()
    host = connection.settings_dict["HOST"]
    connection.settings_dict["HOST"] = "/nowhere"
    yield
    connection.settings_dict["HOST"] = host


def now_ms():
    return time.time_ns() // 1_000_000


def get(client, path, status=200, **query):
    answer = client.get(f"/api/v1/market/{path}", query)
    assert answer.status_code == status, answer.content
    return decode(answer.content)


def source(exchange, volume, *, exchange_symbol="x", kept=True):
    return Source(
        exchange=exchange,
        exchange_symbol=exchange_symbol,
        price=D(1),
        native_price=D(1),
        weight=D(1),
        volume=volume,
        as_of_ms=now_ms(),
        kept=kept,
    )


# --- symbols ---


def test_symbols_names_what_is_priced_and_where(client, btc):
    SymbolFactory(name="AAA/USDT")
    SymbolFactory(name="OFF/USDT", enabled=False)
    catalog.publish()

    assert get(client, "symbols") == {
        "symbols": [
            {"symbol": "AAA/USDT", "base": "AAA", "quote": "USDT", "exchanges": []},
            {
                "symbol": "BTC/USDT",
                "base": "BTC",
                "quote": "USDT",
                "exchanges": ["binance", "kraken"],
            },
        ],
        "count": 2,
    }


def test_symbols_nothing_published_yet_come_from_the_database(client):
    SymbolFactory(name="BTC/USDT")

    assert get(client, "symbols")["count"] == 1


# --- ticker ---


def test_ticker_adds_up_the_day(client, btc):
    at = now_ms()
    start = (at - 86_400_000) // MINUTE * MINUTE
    Candle1mFactory(
        time=to_datetime(start), open=D("0.000001"), high=D("0.000009"), low=D("0.0000005"),
        close=D("0.000001"),
    )  # fmt: skip
    sources = (
        source("kraken", D("1.5")),
        source("kraken", D("0.25"), exchange_symbol="y"),  # another market of the same exchange
        source("okx", None),
        source("upbit", D(100), kept=False),
    )
    publish(price("0.00000123", now_ms=at, sources=sources), now_ms=at)

    answer = get(client, "ticker", symbol="BTC/USDT")

    assert answer.pop("age_ms") >= 40
    assert answer == {
        "symbol": "BTC/USDT",
        "price": D("0.00000123"),
        "volume_24h": D("1.75"),
        "change_24h": 23,
        "high_24h": D("0.000009"),
        "low_24h": D("0.0000005"),
        "timestamp": at // 1_000,
        "status": "fresh",
    }


def test_ticker_text_has_the_stored_digits(client, btc):
    at = now_ms()
    publish(price("0.00000123", now_ms=at), now_ms=at)

    text = client.get("/api/v1/market/ticker?symbol=btc-usdt").content.decode()

    assert '"price":0.00000123,' in text
    assert '"high_24h":0.00000123,' in text


@pytest.mark.parametrize(("late_minutes", "change"), [(5, 100), (6, None)])
def test_ticker_short_history_has_no_change(client, btc, late_minutes, change):
    at = now_ms()
    first = (at - 86_400_000) // MINUTE * MINUTE + late_minutes * MINUTE
    Candle1mFactory(time=to_datetime(first), open=D(50), high=D(50), low=D(50), close=D(50))
    publish(price("100", now_ms=at), now_ms=at)

    answer = get(client, "ticker", symbol="BTC/USDT")

    assert (answer["change_24h"], answer["high_24h"], answer["low_24h"]) == (change, 100, 50)


def test_ticker_database_away_still_has_the_price(client, database_away):
    at = now_ms()
    publish(price("42150.5", now_ms=at), now_ms=at)

    answer = get(client, "ticker", symbol="BTC/USDT")

    assert (answer["price"], answer["volume_24h"]) == (D("42150.5"), 2)
    assert (answer["change_24h"], answer["high_24h"], answer["low_24h"]) == (None, None, None)


def test_ticker_old_price_is_stale(client, btc):
    at = now_ms() - 20_000
    publish(price("1", now_ms=at), now_ms=at)

    answer = get(client, "ticker", symbol="BTC/USDT")

    assert answer["status"] == "stale"
    assert answer["age_ms"] >= 20_000


def test_ticker_no_price_yet_is_unavailable(client, btc):
    error = get(client, "ticker", 503, symbol="BTC/USDT")["error"]

    assert (error["code"], error["details"]) == ("PRICE_UNAVAILABLE", {"symbol": "BTC/USDT"})


# --- candles ---


def ohlcv(client, **query):
    return get(client, "ohlcv", symbol="BTC/USDT", resolution="1m", **query)


def test_ohlcv_is_what_is_stored(client, btc):
    Candle1mFactory(
        time=FIRST_CANDLE,
        volume=D("125.43"),
        quote_volume=D("5289234.56"),
        vwap=D("42160.1"),
        trade_count=812,
    )

    query = {"from": FIRST, "to": FIRST + 60}
    assert ohlcv(client, **query) == {
        "symbol": "BTC/USDT",
        "resolution": "1m",
        "data": [
            {
                "time": FIRST,
                "open": D("42150.5"),
                "high": D("42180.3"),
                "low": 42145,
                "close": D("42170.2"),
                "volume": D("125.43"),
                "quote_volume": D("5289234.56"),
                "vwap": D("42160.1"),
                "trade_count": 812,
                "source_count": 2,
                "closed": True,
                "revision": 0,
            }
        ],
        "meta": {**query, "count": 1, "next": None, "simulated": False},
    }


def test_ohlcv_text_has_no_zeros_of_the_column(client, btc):
    Candle1mFactory(time=FIRST_CANDLE, low=D("0.00000123"))

    text = client.get(f"/api/v1/market/ohlcv?symbol=BTC/USDT&from={FIRST}&to={FIRST}").content

    assert b'"open":42150.5,"high":42180.3,"low":0.00000123,"close":42170.2,"volume":null' in text


def test_ohlcv_both_ends_are_inclusive(client, btc):
    for minute in range(4):
        Candle1mFactory(time=FIRST_CANDLE + timedelta(minutes=minute))

    found = ohlcv(client, **{"from": FIRST + 60, "to": FIRST + 120})["data"]

    assert [candle["time"] for candle in found] == [FIRST + 60, FIRST + 120]


def test_ohlcv_pages_hold_every_candle_once(client, btc):
    for minute in (0, 1, 2, 5, 6):
        Candle1mFactory(time=FIRST_CANDLE + timedelta(minutes=minute))
    times: list[int] = []
    start: int | None = FIRST
    while start is not None:
        page = ohlcv(client, **{"from": start, "to": FIRST + 360, "limit": 2})
        times += [candle["time"] for candle in page["data"]]
        start = page["meta"]["next"]

    assert times == [FIRST + 60 * minute for minute in (0, 1, 2, 5, 6)]


def test_ohlcv_open_candle_comes_last(client, btc):
    at = now_ms()
    minute = at // MINUTE * MINUTE
    Candle1mFactory(time=to_datetime(minute - MINUTE))
    publish(price("42000.125", now_ms=at), now_ms=at)

    before, last = ohlcv(client, limit=3)["data"]

    assert (before["time"], before["closed"]) == (minute // 1_000 - 60, True)
    assert (last["time"], last["close"], last["closed"]) == (
        minute // 1_000,
        D("42000.125"),
        now_ms() >= minute + MINUTE,
    )
    assert candle_book.waiting() == 1


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_ohlcv_default_range_ends_now_and_holds_the_limit(client, btc, resolution):
    before = now_ms() // 1_000
    meta = get(client, "ohlcv", symbol="BTC/USDT", resolution=resolution, limit=60)["meta"]

    step = RESOLUTIONS[resolution] // 1_000
    assert before <= meta["to"] <= now_ms() // 1_000
    assert meta["from"] == (meta["to"] // step - 59) * step


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_ohlcv_open_candle_is_merged_at_every_resolution(client, btc, resolution):
    at = now_ms()
    step = RESOLUTIONS[resolution]
    Candle1mFactory(time=to_datetime(at // step * step - MINUTE), volume=D(3))
    publish(price("42000.125", now_ms=at), now_ms=at)
    whole = TimeRange(start_ms=at - 2 * step, end_ms=at)
    rollups.note_touched([("BTC/USDT", whole)])

    before, last = get(client, "ohlcv", symbol="BTC/USDT", resolution=resolution)["data"]

    assert (before["volume"], before["closed"]) == (3, True)
    assert last == {
        "time": at // step * step // 1_000,
        **dict.fromkeys(("open", "high", "low", "close"), D("42000.125")),
        **dict.fromkeys(("volume", "quote_volume", "vwap", "trade_count")),
        "source_count": 2,
        "closed": now_ms() >= at // step * step + step,
        "revision": 0,
    }


def test_ohlcv_of_a_derived_symbol_says_whose_candles_to_ask_for(client, btc):
    SymbolFactory(name="BTC/RUB", derived_from=SymbolFactory(name="BTC/USDT"))
    catalog.publish()

    error = get(client, "ohlcv", 404, symbol="btc-rub")["error"]

    assert error["code"] == "NO_CANDLES"
    assert error["details"] == {
        "field": "symbol",
        "value": "BTC/RUB",
        "derived_from": "BTC/USDT",
    }


def test_ohlcv_browsable_page_shows_the_candles(client, btc):
    Candle1mFactory(time=FIRST_CANDLE)

    answer = client.get(
        f"/api/v1/market/ohlcv?symbol=BTC/USDT&from={FIRST}&to={FIRST}",
        headers={"Accept": "text/html"},
    )

    assert answer.status_code == 200
    assert b"42150.5" in answer.content


@pytest.mark.parametrize("text", ["BTC/USDT", "BTC-USDT", "btc-usdt", "btc_usdt", "btcusdt"])
def test_ohlcv_symbol_in_any_spelling(client, btc, text):
    assert get(client, "ohlcv", symbol=text)["symbol"] == "BTC/USDT"


@pytest.mark.parametrize("path", ["ohlcv", "ticker"])
@pytest.mark.parametrize("text", ["NOPE/USDT", "'; DROP TABLE", "\x00", "BTC/USDT" * 1_000, "🚀"])
def test_unknown_symbol_is_404(client, btc, path, text):
    error = get(client, path, 404, symbol=text)["error"]

    assert (error["code"], error["details"]["field"]) == ("SYMBOL_UNKNOWN", "symbol")
    assert len(error["message"]) < 250


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("symbol", ""),
        ("resolution", "2m"),
        ("resolution", "1D"),
        ("resolution", "1M"),
        ("resolution", ""),
        ("from", "-1"),
        ("from", "1.5"),
        ("from", "abc"),
        ("from", ""),
        ("from", "1_704_110_400"),
        ("from", " 1704110400"),
        ("from", "١٧٠٤١١٠٤٠٠"),
        ("from", "1e9"),
        ("from", "NaN"),
        ("from", "1704110400000"),  # milliseconds
        ("from", "9" * 40),
        ("from", "9999999999"),  # after `to`
        ("to", "-1"),
        ("to", "9999999999999"),
        ("limit", "0"),
        ("limit", "5001"),
        ("limit", "-5"),
        ("limit", "10.0"),
        ("limit", "ten"),
    ],
)
def test_ohlcv_bad_input_names_field_value_and_what_is_accepted(client, btc, field, value):
    error = get(client, "ohlcv", 400, **{"symbol": "BTC/USDT", field: value})["error"]

    assert error["code"] == "INVALID_PARAMETER"
    assert error["details"]["field"] == field
    assert error["details"]["accepted"] in error["message"]
    assert error["message"].startswith(f"{field} must be ")
    assert value[:60] in error["message"] or not value.isascii()


@pytest.mark.parametrize("path", ["ohlcv", "ticker"])
def test_missing_symbol_is_400(client, btc, path):
    error = get(client, path, 400)["error"]

    assert error["message"] == "symbol must be a symbol such as BTC/USDT: it is missing"


def test_ohlcv_ends_of_the_widest_range_are_accepted(client, btc):
    assert ohlcv(client, **{"from": 0, "to": 9_999_999_999, "limit": 5_000})["data"] == []


def test_ohlcv_database_away_is_503(client, database_away):
    assert get(client, "ohlcv", 503, symbol="BTC/USDT")["error"]["code"] == "DATABASE_UNAVAILABLE"


@pytest.mark.parametrize("path", ["ohlcv", "ticker", "symbols"])
def test_redis_away_is_503(client, btc, settings, path):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"

    assert get(client, path, 503, symbol="BTC/USDT")["error"]["code"] == "REDIS_UNAVAILABLE"
