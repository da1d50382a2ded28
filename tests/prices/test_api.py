"""The prices' endpoints, from the price board to the text that goes out."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest

from market import catalog
from market.candles import to_datetime
from oracle.jsontext import decode
from oracle.values import Source
from prices.models import PriceHistory
from tests.factories import SymbolFactory
from tests.oracle.test_price_board import price, publish

pytestmark = pytest.mark.django_db

D = Decimal


@pytest.fixture(autouse=True)
def symbols():
    for name in ("BTC/USDT", "PEPE/USDT", "XMR/USDT"):
        SymbolFactory(name=name)
    catalog.publish()


def now_ms():
    return time.time_ns() // 1_000_000


def put(value="42150.5", *, age_ms=0, **other):
    at = now_ms() - age_ms
    publish(price(value, now_ms=at, **other), now_ms=at)
    return at


def get(client, path, status=200, **query):
    answer = client.get(f"/api/v1/{path}", query)
    assert answer.status_code == status, answer.content
    return decode(answer.content)


def source(exchange, **other):
    fields = {
        "exchange": exchange,
        "exchange_symbol": "BTCUSDT",
        "price": D(100),
        "native_price": D(100),
        "weight": D(3),
        "volume": D("0.03"),
        "as_of_ms": now_ms(),
        "kept": True,
    }
    return Source(**{**fields, **other})


def test_price_is_what_was_published(client):
    at = put(confidence=D("0.5"), spread_bps=D("1.25"), variance=D(4), stdev=D(2))

    answer = get(client, "prices/btc-usdt")

    assert answer.pop("age_ms") >= 40
    assert answer == {
        "symbol": "BTC/USDT",
        "price": D("42150.5"),
        "method": "vwap",
        "status": "fresh",
        "timestamp": at,
        "confidence": D("0.5"),
        "spread_bps": D("1.25"),
        "stdev": 2,
        "variance": 4,
        "source_count": 2,
        "outliers_removed": 0,
        "sources": ["binance", "okx"],
        "basis": "spot_index",
        "derived_from": None,
        "simulated": False,
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0.00000123", "0.00000123"),
        ("0.000000000000000001", "0.000000000000000001"),
        ("42150.500000000000000000", "42150.5"),
        ("42150.000000000000000000", "42150"),
        ("12345678901234567890.123456789012345678", "12345678901234567890.123456789012345678"),
        ("100", "100"),
        ("1E+3", "1000"),
    ],
)
def test_price_text_has_the_stored_digits(client, value, text):
    put(value)

    assert f'"price":{text},'.encode() in client.get("/api/v1/prices/btc-usdt").content
    assert f'"price":{text},'.encode() in client.get("/api/v1/prices").content
    assert (
        f'"price": {text},'
        in client.get(
            "/api/v1/prices/btc-usdt", headers={"Accept": "application/json; indent=2"}
        ).content.decode()
    )


@pytest.mark.parametrize("slug", ["btc-usdt", "BTC-USDT", "btc_usdt", "BTCUSDT", "btcusdt"])
def test_price_by_any_spelling(client, slug):
    put()

    assert get(client, f"prices/{slug}")["symbol"] == "BTC/USDT"


def test_price_age_counts_from_the_oldest_part_and_makes_it_stale(client):
    put(age_ms=20_000)

    answer = get(client, "prices/btc-usdt")

    assert answer["status"] == "stale"
    assert 20_040 <= answer["age_ms"] < 30_000


def test_price_unknown_symbol_is_404(client):
    error = get(client, "prices/nope-usdt", 404)["error"]

    assert error["code"] == "SYMBOL_UNKNOWN"
    assert "'nope-usdt'" in error["message"]


@pytest.mark.parametrize("path", ["prices/xmr-usdt", "prices/xmr-usdt/sources"])
def test_price_of_a_known_symbol_without_one_is_unavailable(client, path):
    error = get(client, path, 503)["error"]

    assert (error["code"], error["details"]) == ("PRICE_UNAVAILABLE", {"symbol": "XMR/USDT"})


def test_price_of_the_other_world_is_not_there(client):
    put(simulated=True)

    assert get(client, "prices/btc-usdt", 503)["error"]["code"] == "PRICE_UNAVAILABLE"


# --- strict ---


def test_strict_met_answers_the_price(client):
    put()

    assert get(client, "prices/btc-usdt", max_age_ms=60_000, min_sources=2)["price"] == D("42150.5")


def test_strict_too_old_is_stale_with_the_price_in_details(client):
    at = put(age_ms=5_000)

    error = get(client, "prices/btc-usdt", 503, max_age_ms=2_000)["error"]

    assert error["code"] == "PRICE_STALE"
    assert "at most 2000 ms" in error["message"]
    assert error["details"]["price"] == D("42150.5")
    assert error["details"]["timestamp"] == at
    assert error["details"]["age_ms"] >= 5_000


def test_strict_too_few_sources_is_unavailable_with_the_price_in_details(client):
    put()

    error = get(client, "prices/btc-usdt", 503, min_sources=3)["error"]

    assert (error["code"], error["details"]["source_count"]) == ("PRICE_UNAVAILABLE", 2)
    assert error["details"]["price"] == D("42150.5")


def test_strict_sources_of_a_stale_price_do_not_count(client):
    put(age_ms=20_000)

    assert get(client, "prices/btc-usdt", 503, min_sources=1)["error"]["code"] == "PRICE_STALE"


@pytest.mark.parametrize("field", ["max_age_ms", "min_sources"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "", "abc", "1e3", "99999999999", "９"])
def test_strict_bad_input_names_field_value_and_what_is_accepted(client, field, value):
    put()

    error = get(client, "prices/btc-usdt", 400, **{field: value})["error"]

    assert error["code"] == "INVALID_PARAMETER"
    assert error["details"]["field"] == field
    assert error["message"] == f"{field} must be {error['details']['accepted']}: got {value!r}"


# --- all ---


def test_all_names_those_without_a_price(client):
    put("1")
    put("0.00000123", symbol="PEPE/USDT")

    answer = get(client, "prices")

    assert [(each["symbol"], each["price"]) for each in answer["prices"]] == [
        ("BTC/USDT", 1),
        ("PEPE/USDT", D("0.00000123")),
    ]
    assert (answer["count"], answer["unavailable"]) == (2, ["XMR/USDT"])


def test_all_redis_away_is_503(client, settings):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"

    assert get(client, "prices", 503)["error"]["code"] == "REDIS_UNAVAILABLE"


# --- receipt ---


def test_receipt_says_what_each_source_did(client):
    at = now_ms()
    sources = (
        source("okx", weight=D(3), as_of_ms=at),
        source("upbit", weight=D(1), native_price=D(139_000), path=("KRW→USDT",), as_of_ms=at),
        source("kraken", price=D(900), kept=False, reason="outside IQR fences", as_of_ms=at - 70),
        source(
            "bybit",
            price=None,
            native_price=None,
            weight=None,
            volume=None,
            as_of_ms=None,
            kept=False,
            reason="no ticker",
        ),
    )
    publish(price("100", now_ms=at, as_of_ms=at, sources=sources), now_ms=at)

    answer = get(client, "prices/btc-usdt/sources")
    ages = [each.pop("age_ms") for each in answer["sources"]]

    assert ages[2] - ages[0] == 70
    assert ages[3] is None
    assert answer.pop("age_ms") == ages[0] == ages[1]
    common = {"exchange_symbol": "BTCUSDT", "volume": D("0.03"), "path": [], "reason": None}
    assert answer == {
        "symbol": "BTC/USDT",
        "price": 100,
        "method": "vwap",
        "status": "fresh",
        "timestamp": at,
        "sources": [
            common
            | {"exchange": "okx", "price": 100, "native_price": 100, "weight": 3, "kept": True}
            | {"weight_share": D("0.75")},
            common
            | {"exchange": "upbit", "price": 100, "native_price": 139_000, "weight": 1}
            | {"weight_share": D("0.25"), "path": ["KRW→USDT"], "kept": True},
            common
            | {"exchange": "kraken", "price": 900, "native_price": 100, "weight": 3}
            | {"weight_share": None, "kept": False, "reason": "outside IQR fences"},
            common
            | {"exchange": "bybit", "price": None, "native_price": None, "weight": None}
            | {"weight_share": None, "volume": None, "kept": False, "reason": "no ticker"},
        ],
        "basis": "spot_index",
        "derived_from": None,
        "conversions": [],
        "simulated": False,
    }


def test_receipt_without_volumes_has_no_shares(client):
    at = now_ms()
    sources = (source("okx", weight=D(0)), source("upbit", weight=D(0)))
    publish(price("100", now_ms=at, method="median", sources=sources), now_ms=at)

    answer = get(client, "prices/btc-usdt/sources")

    assert [each["weight_share"] for each in answer["sources"]] == [None, None]


# --- change and history ---


def store(seconds, value, symbol="BTC/USDT"):
    """A rate of the past, at ``seconds`` of unix time."""
    PriceHistory.objects.create(
        symbol=symbol,
        time=to_datetime(seconds * 1_000),
        price=D(value),
        method="vwap",
        sources=["binance", "okx"],
        volume=D("1.50"),
    )


START = 1_700_000_000


def test_change_of_a_custom_period(client):
    for number, value in enumerate(("9", "3", "5", "4", "9")):
        store(START + 10 * number, value)

    answer = get(
        client,
        "prices/btc-usdt/change",
        **{"period": "custom", "from": START + 10, "to": START + 30},
    )

    assert answer == {
        "symbol": "BTC/USDT",
        "period": "custom",
        "start_timestamp": (START + 10) * 1_000,
        "end_timestamp": (START + 30) * 1_000,
        "start_price": 3,
        "end_price": 4,
        "change_percent": D("33.33"),
    }


@pytest.mark.parametrize(
    ("period", "start"), [("24hours", 4), ("7days", 3), ("30days", 2), (None, 4)]
)
def test_change_of_a_period_that_ends_now(client, period, start):
    now = now_ms() // 1_000
    for days, value in ((40, "1"), (20, "2"), (5, "3"), (0, "4")):
        store(now - days * 86_400 - 60, value)
    store(now - 1, "8")
    query = {"period": period} if period else {}

    assert get(client, "prices/btc-usdt/change", **query)["start_price"] == start


def test_change_of_nothing_is_unavailable(client):
    error = get(client, "prices/btc-usdt/change", 503)["error"]

    assert error["code"] == "PRICE_UNAVAILABLE"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"period": "year"}, "period"),
        ({"period": "custom"}, "from"),
        ({"from": "x"}, "from"),
        ({"from": 5, "to": 4}, "from"),
        ({"from": 5, "to": -1}, "to"),
        ({"period": "24hours", "from": 5}, "from"),
        ({"period": "30days", "to": 5}, "to"),
        ({"to": 5}, "to"),
    ],
)
def test_change_bad_input_names_the_field(client, query, field):
    assert get(client, "prices/btc-usdt/change", 400, **query)["error"]["details"]["field"] == field


def test_history_is_newest_first_in_pages(client):
    for number in range(5):
        store(START + 10 * number, str(number + 1))
    store(START, "7", symbol="PEPE/USDT")

    first = get(client, "prices/btc-usdt/history", limit=3, to=START + 40)
    second = get(client, "prices/btc-usdt/history", limit=3, to=first["meta"]["next"])

    assert [each["price"] for each in first["data"]] == [5, 4, 3]
    assert [each["price"] for each in second["data"]] == [2, 1]
    assert second["meta"]["next"] is None
    assert second["data"][1] == {
        "timestamp": START * 1_000,
        "price": 1,
        "method": "vwap",
        "sources": ["binance", "okx"],
        "volume": D("1.5"),
    }


def test_history_of_a_range_includes_both_ends(client):
    for number in range(5):
        store(START + 10 * number, str(number + 1))

    answer = get(client, "prices/btc-usdt/history", **{"from": START + 10, "to": START + 30})

    assert [each["price"] for each in answer["data"]] == [4, 3, 2]
    assert answer["meta"] == {
        "count": 3,
        "from": START + 10,
        "to": START + 30,
        "next": None,
        "simulated": False,
    }


@pytest.mark.parametrize("path", ["change", "history"])
def test_past_of_an_unknown_symbol_is_404(client, path):
    assert get(client, f"prices/nope/{path}", 404)["error"]["code"] == "SYMBOL_UNKNOWN"


@pytest.mark.parametrize("limit", ["0", "5001", "x"])
def test_history_bad_limit_is_400(client, limit):
    assert get(client, "prices/btc-usdt/history", 400, limit=limit)["error"]["details"][
        "field"
    ] == ("limit")
