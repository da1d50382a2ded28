"""JSON-RPC as each generation of its clients speaks it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError
from rest_framework.authtoken.models import Token

from market import rollups
from market.candles import epoch_ms, to_datetime
from market.ranges import TimeRange
from oracle import keys
from oracle.connection import redis_client
from oracle.jsontext import decode
from prices import changes
from prices.models import PriceHistory
from prices.rpc import doors
from prices.rpc import requests as rpc_requests
from prices.rpc.requests import depth
from tests.factories import Candle1mFactory
from tests.prices.live.conftest import now_ms, prices, put, put_rate, server, wait_for

__all__ = ("prices", "server")  # fixtures

D = Decimal
PRICES, CHARTS = "PricesService@2.0.0", "ChartsService@2.0.0"
DAY_MS = 86_400_000


def ask(server, method, given=None, *, service=PRICES, status=200, **more):
    body = {"id": "1", "service": service, "method": method, "input": given or {}, **more}
    answer = server.post("/netron/invoke", body)
    assert answer.status_code == status, answer.content
    return decode(answer.content)


def fail(server, method, given=None, *, status, **more):
    answer = ask(server, method, given, status=status, **more)
    assert answer["success"] is False
    assert answer["id"] == "1"
    return answer["error"]


# --- envelope ---

NEW = {
    "id": "a-1",
    "service": PRICES,
    "method": "getPrice",
    "input": [{"pair": "btc-usdt"}],
    "context": {"traceId": "x"},
    "hints": {"timeout": 5},
}
WRITTEN = {
    "id": "a-1",
    "version": "1.0",
    "timestamp": 1_700_000_000_000,
    "service": "PricesService",
    "method": "getPrice",
    "input": {"pair": "btc-usdt"},
}


@pytest.mark.parametrize("request_body", [NEW, WRITTEN, WRITTEN | {"version": 2, "timestamp": "x"}])
@pytest.mark.parametrize(
    "headers",
    [{}, {"X-Netron-Version": "2.0", "Content-Type": "application/json"}, {"Content-Type": "a/b"}],
)
def test_every_client_generation_is_answered(server, request_body, headers):
    answer = server.post("/netron/invoke", json.dumps(request_body).encode(), headers=headers)
    body = decode(answer.content)

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert list(body) == ["id", "version", "timestamp", "success", "data", "hints"]
    assert (body["id"], body["version"], body["success"]) == ("a-1", "2.0", True)
    assert abs(body["timestamp"] - now_ms()) < 10_000
    assert body["data"]["pair"] == "btc-usdt"
    assert body["data"]["price"] == D("42150.5")
    assert body["hints"]["cache"] == {"maxAge": 5_000}
    assert body["hints"]["metrics"]["serverTime"] >= 0


@pytest.mark.parametrize(
    ("body", "call_id", "words"),
    [
        (b"", None, "no JSON"),
        (b"{", None, "no JSON"),
        (b"[]", None, "bad request"),
        (b'"x"', None, "bad request"),
        (b"\xff", None, "no JSON"),
        (b'{"id":"1"}', "1", "service"),
        (b'{"id":1,"service":"P","method":"m","input":{}}', None, "id"),
        (b'{"service":"P","method":"m","input":{}}', None, "id"),
        (b'{"id":"1","service":"P","method":"m"}', "1", "input"),
        (b'{"id":"1","service":2,"method":"m","input":{}}', "1", "service"),
        (b'{"id":"' + b"x" * 300 + b'","service":"P","method":"m","input":{}}', None, "256"),
        (b'{"id":"1","input":' + b"[" * 101 + b"]" * 101 + b"}", None, "nested"),
        (b"[" * 100_000, None, "nested"),
        (b'{"a":' * 10_000, None, "nested"),
    ],
)
def test_bad_envelope_is_400(server, body, call_id, words):
    answer = server.post("/netron/invoke", body)
    told = decode(answer.content)

    assert answer.status_code == 400
    assert (told["id"], told["success"], told["error"]["code"]) == (call_id, False, "400")
    assert words in told["error"]["message"]


def test_bad_input_is_400(server):
    assert fail(server, "getPrice", "text", status=400)["code"] == "400"
    assert fail(server, "getPrice", [1], status=400)["code"] == "400"


def test_nesting_within_bounds_is_read(server):
    deep = "[" * 98 + "]" * 98
    given = f'{{"pair":"btc-usdt","x":{deep}}}'
    body = f'{{"id":"1","service":"{PRICES}","method":"getPrice","input":{given}}}'

    assert server.post("/netron/invoke", body.encode()).status_code == 200


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"[" * 101 + b"]" * 101, 101),
        (b"[]" * 200, 1),
        (b'"' + b"[" * 200 + b'"', 0),
        (b'["\\"' + b"[" * 200 + b'"]', 1),
        (b'{"a":[{"b":1}]}' * 100, 3),
    ],
)
def test_depth_counts_what_is_not_text(text, expected):
    assert depth(text) == expected


def test_body_over_a_megabyte_is_413(server):
    answer = server.post("/netron/invoke", b" " * (rpc_requests.MAX_BODY_BYTES + 1))

    assert (answer.status_code, decode(answer.content)["error"]["code"]) == (413, "413")
    assert ask(server, "getPrice", {"pair": "btc-usdt"})["success"]


def span(**given):
    return rpc_requests.read_span(given, default="7days", now_ms=1_700_000_000_000)


def test_span_is_asked_for_alike_however_written_and_whenever():
    at = 1_600_000_000_000
    iso = "2020-09-13T12:26:40.000" + "0" * 10_000 + "Z"

    assert span().asked == span(period="7days", **{"from": "x" * 10_000}).asked
    assert span(**{"from": at}).asked == span(period="custom", **{"from": iso}).asked
    assert span(**{"from": at}).asked != span(**{"from": at, "to": at + 1}).asked
    assert span(**{"from": at, "to": at + 1}).to_ms == at + 1


@pytest.mark.parametrize("millisecond", [0, 1, 17, 29, 114, 251, 503, 577, 999])
def test_time_of_iso_text_keeps_its_millisecond(millisecond):
    text = f"2024-01-01T00:00:00.{millisecond:03}Z"

    assert rpc_requests.read_time(text, "from") == 1_704_067_200_000 + millisecond


@pytest.mark.parametrize(
    ("service", "method", "details"),
    [
        ("Nope@1.0.0", "getPrice", "services"),
        ("PricesService@1.0.0", "getPrice", "services"),
        ("PricesService", "nope", "methods"),
    ],
)
def test_unknown_service_version_or_method_is_404_with_what_there_is(
    server, service, method, details
):
    error = fail(server, method, service=service, status=404)

    assert error["code"] == "404"
    assert error["details"][details]


def test_stream_method_is_told_to_be_one(server):
    assert "WebSocket" in fail(server, "streamPrices", status=404)["message"]


def test_get_is_405(server):
    answer = server.get("/netron/invoke")

    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST, OPTIONS")


def test_request_id_and_security_headers(server):
    answer = server.post("/netron/invoke", NEW, headers={"X-Request-ID": "r-1"})

    assert answer.headers["X-Request-ID"] == "r-1"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"


def test_cors(server, settings):
    settings.CORS_ALLOWED_ORIGINS = ["https://a.example"]
    asked = {
        "Origin": "https://a.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "X-Netron-Version, X-Trace-ID",
    }
    preflight = server.session.options(f"{server.url}/netron/invoke", headers=asked, timeout=10)
    answer = server.post("/netron/invoke", NEW, headers={"Origin": "https://a.example"})

    assert preflight.status_code == 204
    assert "X-Netron-Version" in preflight.headers["Access-Control-Allow-Headers"]
    assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"


# --- PricesService ---


@pytest.mark.parametrize("pair", ["btc-usdt", "BTC-USDT", "BTC/USDT", "btcusdt", " btc_usdt "])
def test_get_price_knows_every_spelling(server, pair):
    assert ask(server, "getPrice", {"pair": pair})["data"]["pair"] == "btc-usdt"


def test_get_price_keeps_digits(server):
    body = {"id": "1", "service": PRICES, "method": "getPrice", "input": {"pair": "pepe-usdt"}}

    assert b'"price":0.00000123,' in server.post("/netron/invoke", body).content


@pytest.mark.parametrize(
    ("given", "code", "status"),
    [
        ({}, "VALIDATION_4001", 422),
        ({"pair": 5}, "VALIDATION_4001", 422),
        ({"pair": ""}, "VALIDATION_4001", 422),
        ({"pair": " " * 10_000}, "VALIDATION_4001", 422),
        ({"pair": ["x"] * 10_000}, "VALIDATION_4001", 422),
        ({"pair": "nope-usd"}, "PRICE_1001", 404),
        ({"pair": "x" * 10_000}, "PRICE_1001", 404),
    ],
)
def test_get_price_bad_pair(server, given, code, status):
    error = fail(server, "getPrice", given, status=status)

    assert error["code"] == error["details"]["errorCode"] == code
    assert len(error["details"]["pair"]) <= rpc_requests.MAX_SHOWN


@pytest.mark.django_db(transaction=True)
class TestWithHistory:
    def test_get_price_without_any_is_1002(self, server):
        error = fail(server, "getPrice", {"pair": "xmr-usdt"}, status=503)

        assert error["code"] == error["details"]["errorCode"] == "PRICE_1002"

    def test_get_price_that_is_old_is_1003(self, server):
        at = put(symbol="XMR/USDT", age_ms=200_000)
        wait_for(lambda: server.board.price("XMR/USDT", now_ms()))

        error = fail(server, "getPrice", {"pair": "xmr-usdt"}, status=503)

        assert (error["code"], error["details"]["timestamp"]) == ("PRICE_1003", at)

    @pytest.mark.parametrize(("age_ms", "code"), [(100_000, None), (130_000, "PRICE_1002")])
    def test_get_price_falls_back_on_the_last_stored_rate(self, server, age_ms, code):
        at = now_ms() - age_ms
        store("XMR/USDT", at, "150.25")

        if code:
            assert fail(server, "getPrice", {"pair": "xmr-usdt"}, status=503)["code"] == code
        else:
            found = ask(server, "getPrice", {"pair": "xmr-usdt"})["data"]
            assert found == {"pair": "xmr-usdt", "price": D("150.25"), "timestamp": at}

    def test_get_multiple_prices_names_each_that_fails(self, server):
        given = {"pairs": ["btc-usdt", "xmr-usdt", "eth-usdt"]}

        error = fail(server, "getMultiplePrices", given, status=503)

        assert error["details"]["pairs"] == {"xmr-usdt": "PRICE_1002", "eth-usdt": "PRICE_1002"}

    @pytest.mark.parametrize(
        "given",
        [
            {},
            {"period": "24hours"},
            {"period": "custom", "from": "{from_ms}"},
            {"from": "{iso}", "to": "{to_ms}"},
        ],
    )
    def test_get_price_change(self, server, given):
        end = now_ms() - 1_000
        store("BTC/USDT", end - DAY_MS - 60_000, "1")  # before
        store("BTC/USDT", end - DAY_MS + 60_000, "3")
        store("BTC/USDT", end, "4")
        marks = {
            "from_ms": str(end - DAY_MS + 1_000),
            "iso": to_datetime(end - DAY_MS + 1_000).isoformat(),
            "to_ms": str(end + 500),
        }
        filled = {name: text.format(**marks) for name, text in given.items()}

        found = ask(server, "getPriceChange", {"pair": "btc-usdt", **filled})["data"]

        assert found == {
            "pair": "btc-usdt",
            "startDate": end - DAY_MS + 60_000,
            "endDate": end,
            "startPrice": 3,
            "endPrice": 4,
            "changePercent": D("33.33"),
        }

    def test_get_price_change_of_candles_where_no_rate_is_stored(self, server):
        hour_ago = datetime.now(UTC) - timedelta(hours=1)
        Candle1mFactory(time=hour_ago, open=D(100), high=D(100), low=D(90), close=D(95))
        Candle1mFactory(
            time=hour_ago + timedelta(minutes=30), open=D(95), high=D(110), low=D(70), close=D(80)
        )

        found = ask(server, "getPriceChange", {"pair": "btc-usdt"})["data"]

        assert (found["startPrice"], found["endPrice"], found["changePercent"]) == (100, 80, -20)

    def test_get_price_change_of_nothing_is_1002(self, server):
        error = fail(server, "getPriceChange", {"pair": "btc-usdt"}, status=503)

        assert error["code"] == "PRICE_1002"

    def test_answers_are_kept_as_long_as_they_say(self, server, monkeypatch):
        store("BTC/USDT", now_ms() - 2_000, "3")
        first = ask(server, "getPriceChange", {"pair": "btc-usdt"})
        monkeypatch.setattr(changes, "change", None)
        second = ask(server, "getPriceChange", {"pair": "btc-usdt"})

        assert first["data"] == second["data"]
        assert first["hints"]["cache"]["maxAge"] == 30_000

    # --- ChartsService ---

    def test_chart_data_is_whole_buckets_oldest_first(self, server):
        start = minutes("ETH/USDT", 90)

        found = ask(
            server, "getChartData", {"pair": "eth-usdt", "period": "24hours"}, service=CHARTS
        )["data"]

        assert found["dates"] == [iso(start), iso(start + timedelta(hours=1))]
        assert found["series"] == found["ohlcv"]["close"] == [60, 90]
        assert found["ohlcv"]["open"] == [D("0.5"), D("60.5")]
        assert found["ohlcv"]["high"] == [61, 91]
        assert found["ohlcv"]["low"] == [D("0.25"), D("60.25")]
        assert found["ohlcv"]["volume"] == [60, 30]

    def test_ohlcv_pages_newest_first(self, server):
        start = minutes("ETH/USDT", 90)
        given = {"pair": "eth-usdt", "interval": "5min", "limit": 2, "offset": 1}

        found = ask(server, "getOHLCV", given, service=CHARTS)["data"]

        assert found["pagination"] == {"total": 18, "limit": 2, "offset": 1}
        assert [each["timestamp"] for each in found["candles"]] == [
            iso(start + timedelta(minutes=80)),
            iso(start + timedelta(minutes=75)),
        ]
        assert found["candles"][0] == {
            "timestamp": iso(start + timedelta(minutes=80)),
            "open": D("80.5"),
            "high": 86,
            "low": D("80.25"),
            "close": 85,
            "volume": 5,
            "vwap": 10,
        }

    def test_charts_end_with_the_open_minute(self, server):
        start = minutes("BTC/USDT", 90)  # whose price the server has, of this minute

        chart = ask(server, "getChartData", {"pair": "btc-usdt"}, service=CHARTS)["data"]
        given = {"pair": "btc-usdt", "interval": "1hour", "limit": 2}
        page = ask(server, "getOHLCV", given, service=CHARTS)["data"]

        assert chart["dates"][:2] == [iso(start), iso(start + timedelta(hours=1))]
        assert (len(chart["dates"]), chart["series"][-1]) == (3, D("42150.5"))
        assert page["pagination"]["total"] == 3
        assert [each["close"] for each in page["candles"]] == [D("42150.5"), 90]

    @pytest.mark.parametrize(
        ("method", "given", "code"),
        [
            ("getChartData", {}, "CHART_2001"),
            ("getOHLCV", {}, "CHART_2001"),
            ("getChartData", {"interval": "1min"}, "CHART_2003"),
            ("getOHLCV", {"interval": 5}, "CHART_2003"),
            ("getChartData", {"period": "year"}, "VALIDATION_4002"),
            ("getChartData", {"period": "custom"}, "VALIDATION_4003"),
            ("getChartData", {"from": "yesterday"}, "VALIDATION_4003"),
            (
                "getChartData",
                {"from": 1_700_000_000_000, "to": 1_600_000_000_000},
                "VALIDATION_4003",
            ),
            ("getChartData", {"from": 1_400_000_000_000, "interval": "5min"}, "CHART_2002"),
            ("getOHLCV", {"limit": 0}, "VALIDATION_4004"),
            ("getOHLCV", {"offset": -1}, "VALIDATION_4004"),
            ("getOHLCV", {"limit": "5"}, "VALIDATION_4004"),
        ],
    )
    def test_charts_errors(self, server, method, given, code):
        status = 404 if code == "CHART_2001" else 422
        given = {"pair": "eth-usdt", **given}

        assert fail(server, method, given, service=CHARTS, status=status)["code"] == code

    def test_authenticate_gives_the_token_of_rest(self, server):
        user = get_user_model().objects.create_user("ann", password="s3cret-words")
        credentials = {"username": "ann", "password": "s3cret-words"}

        for body in (
            {"id": "1", "credentials": credentials},
            {"id": "1", **credentials},
            {"id": "1", "input": [credentials]},
        ):
            answer = decode(server.post("/netron/authenticate", body).content)
            assert (answer["id"], answer["success"]) == ("1", True)
            assert answer["result"]["token"] == Token.objects.get(user=user).key

    def test_authenticate_refuses(self, server):
        get_user_model().objects.create_user("ann", password="s3cret-words")

        wrong = {"id": "1", "credentials": {"username": "ann", "password": "x"}}
        answer = server.post("/netron/authenticate", wrong)
        assert (answer.status_code, decode(answer.content)["error"]["code"]) == (401, "401")
        nul = {"credentials": {"username": "a\0", "password": "b"}}
        bad_ones: list[object] = [{"id": "1"}, nul, []]
        for bad in bad_ones:
            assert server.post("/netron/authenticate", bad).status_code == 400

    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (OperationalError("secret host"), 503, "SYSTEM_5001"),
            (KeyError("secret"), 500, "SYSTEM_5003"),
        ],
    )
    def test_authenticate_fails_as_methods_do(self, server, monkeypatch, error, status, code):
        def broken(*_):
            raise error

        monkeypatch.setattr(doors, "token_of", broken)
        given = {"id": "1", "credentials": {"username": "ann", "password": "x"}}
        answer = server.post("/netron/authenticate", given)
        told = decode(answer.content)

        assert (answer.status_code, told["id"], told["error"]["code"]) == (status, "1", code)
        assert "secret" not in str(told)

    def test_authenticate_guesses_are_few(self, server):
        wrong = {"id": "1", "credentials": {"username": "ann", "password": "x"}}
        statuses = [server.post("/netron/authenticate", wrong).status_code for _ in range(11)]

        assert statuses == [401] * 10 + [429]

    def test_health_service(self, server):
        def health(method):
            return ask(server, method, service="HealthService@1.0.0")["data"]

        assert health("live") == {"status": "ok"}
        assert health("ready")["status"] == "ok"
        assert health("check")["services"] == {"redis": "up", "database": "up"}


def store(symbol, at_ms, value):
    PriceHistory.objects.create(
        symbol=symbol,
        time=to_datetime(at_ms),
        price=D(value),
        method="vwap",
        sources=["okx"],
        volume=D(1),
    )


def minutes(symbol, count):
    """Candles of ``count`` minutes from a full hour on: n+½, high n+2, low n+¼, close n+1."""
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    for number in range(count):
        Candle1mFactory(
            symbol=symbol,
            time=start + timedelta(minutes=number),
            open=D(number) + D("0.5"),
            high=D(number + 2),
            low=D(number) + D("0.25"),
            close=D(number + 1),
            volume=D(1),
            quote_volume=D(10),
        )
    first_ms = epoch_ms(start)
    whole = TimeRange(start_ms=first_ms, end_ms=first_ms + count * 60_000)
    rollups.note_touched([(symbol, whole)])
    rollups.refresh_due(now_ms=now_ms())
    return start


def iso(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def test_get_price_prefers_the_trade_rate_while_it_is_current(server):
    at = put_rate("77.50")
    wait_for(lambda: server.board.rate("BTC/USDT", now_ms()))

    assert ask(server, "getPrice", {"pair": "btc-usdt"})["data"] == {
        "pair": "btc-usdt",
        "price": D("77.5"),
        "timestamp": at,
    }


@pytest.mark.parametrize(
    ("age_ms", "symbol", "price"), [(40_000, "BTC/USDT", "42150.5"), (40_000, "XMR/USDT", "77")]
)
def test_get_price_old_rate_yields_to_the_index_and_is_better_than_nothing(
    server, age_ms, symbol, price
):
    put_rate("77", symbol=symbol, at=now_ms() - age_ms)
    wait_for(lambda: server.board.rate(symbol, now_ms()))

    found = ask(server, "getPrice", {"pair": symbol})["data"]

    assert found["price"] == D(price)


def test_get_multiple_prices_is_a_list_in_order(server):
    given = {"pairs": ["pepe-usdt", "BTC/USDT"]}

    found = ask(server, "getMultiplePrices", given)["data"]

    assert [(each["pair"], each["price"]) for each in found] == [
        ("pepe-usdt", D("0.00000123")),
        ("btc-usdt", D("42150.5")),
    ]


@pytest.mark.parametrize("pairs", [None, [], "btc-usdt", ["btc-usdt"] * 101, [[]]])
def test_get_multiple_prices_bad_pairs(server, pairs):
    error = fail(server, "getMultiplePrices", {"pairs": pairs}, status=422)

    assert error["code"] == "VALIDATION_4001"


def test_unknown_pairs_are_all_named(server):
    given = {"pairs": ["btc-usdt", "nope", "neither"]}

    error = fail(server, "getMultiplePrices", given, status=404)

    assert error["details"]["pairs"] == {"nope": "PRICE_1001", "neither": "PRICE_1001"}


def test_database_away_is_5001(server, monkeypatch):
    def away(*_, **__):
        raise OperationalError("secret host")

    monkeypatch.setattr(changes, "change", away)

    error = fail(server, "getPriceChange", {"pair": "btc-usdt"}, status=503)

    assert error["code"] == "SYSTEM_5001"
    assert "secret" not in str(error)


def test_bug_is_5003_and_told_nothing(server, monkeypatch):
    def broken(*_, **__):
        raise KeyError("secret")

    monkeypatch.setattr(changes, "change", broken)

    error = fail(server, "getPriceChange", {"pair": "btc-usdt"}, status=500)

    assert error["code"] == "SYSTEM_5003"
    assert "secret" not in str(error)


# --- limits ---


def test_limits_are_each_methods_own(server, settings):
    settings.RATE_LIMIT_PER_MINUTE = 4  # getPrice 4, getMultiplePrices 2

    def statuses(method, given, count):
        body = {"id": "1", "service": PRICES, "method": method, "input": given}
        return [server.post("/netron/invoke", body).status_code for _ in range(count)]

    assert statuses("getMultiplePrices", {"pairs": ["btc-usdt"]}, 3) == [200, 200, 429]
    assert statuses("getPrice", {"pair": "btc-usdt"}, 5) == [200] * 4 + [429]


def test_limit_says_when_to_try_again(server, settings):
    settings.RATE_LIMIT_PER_MINUTE = 1
    ask(server, "getPrice", {"pair": "btc-usdt"})
    body = {"id": "1", "service": PRICES, "method": "getPrice", "input": {"pair": "btc-usdt"}}

    answer = server.post("/netron/invoke", body)
    error = decode(answer.content)["error"]

    assert (answer.status_code, error["code"]) == (429, "429")
    assert int(answer.headers["Retry-After"]) == error["details"]["retryAfter"] > 50


def test_limit_counts_garbage(server, settings):
    settings.RATE_LIMIT_PER_MINUTE = 2
    statuses = [server.post("/netron/invoke", b"garbage").status_code for _ in range(3)]

    assert statuses == [400, 400, 429]


def test_limit_counts_what_is_not_even_read(server, settings):
    settings.RATE_LIMIT_PER_MINUTE = 4
    large = b" " * (rpc_requests.MAX_BODY_BYTES + 1)
    answers = [
        *(server.get("/netron/invoke") for _ in range(2)),
        *(server.post("/netron/invoke", large) for _ in range(3)),
        server.get("/netron/batch"),
    ]

    assert [answer.status_code for answer in answers] == [405, 405, 413, 413, 429, 429]
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers[4:])


def test_limit_is_the_shared_one(server, redis_prefix):
    ask(server, "getPrice", {"pair": "btc-usdt"})

    assert redis_client().zcard(keys.ratelimit("127.0.0.1", "rpc:getPrice")) == 1


# --- batch ---


def batch(server, *items, status=200, **options):
    body = {"id": "b", "requests": items, **({"options": options} if options else {})}
    answer = server.post("/netron/batch", body)
    assert answer.status_code == status, answer.content
    return decode(answer.content)


def item(number, pair="btc-usdt", **other):
    given = {"pair": pair}
    return {"id": f"{number}", "service": PRICES, "method": "getPrice", "input": given, **other}


GOOD, BAD = item(1), item(2, "nope")


def test_batch_keeps_order_and_counts(server):
    answer = batch(server, GOOD, BAD, item(3, "pepe-usdt"), {"id": 4}, "x")

    assert list(answer) == ["id", "version", "timestamp", "responses", "hints"]
    assert [each["id"] for each in answer["responses"]] == ["1", "2", "3", None, None]
    assert [each["success"] for each in answer["responses"]] == [True, False, True, False, False]
    assert answer["responses"][0]["data"]["price"] == D("42150.5")
    assert answer["responses"][1]["error"]["code"] == "PRICE_1001"
    assert answer["responses"][1]["error"]["details"]["errorCode"] == "PRICE_1001"
    assert answer["responses"][3]["error"]["code"] == "400"
    assert (answer["hints"]["successCount"], answer["hints"]["failureCount"]) == (2, 3)
    assert answer["hints"]["totalTime"] >= 0


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"parallel": False, "stopOnError": True}, 2),
        ({"parallel": False}, 3),
        ({"parallel": True, "stopOnError": True}, 3),
        ({"stopOnError": True}, 3),
    ],
)
def test_batch_stops_on_an_error_only_when_in_a_row(server, options, count):
    assert len(batch(server, GOOD, BAD, item(3), **options)["responses"]) == count


def test_batch_of_none_is_answered(server):
    assert batch(server)["responses"] == []


def test_batch_of_a_hundred_is_done_and_of_more_refused(server, settings):
    settings.RATE_LIMIT_PER_MINUTE = 1_000

    assert batch(server, *(item(n) for n in range(100)))["hints"]["successCount"] == 100
    refused = batch(server, *(item(n) for n in range(101)), status=400)
    assert (refused["id"], refused["error"]["code"]) == ("b", "400")
    assert "at most 100" in refused["error"]["message"]


def test_batch_items_count_for_their_methods_limit(server, settings):
    settings.RATE_LIMIT_PER_MINUTE = 5

    answer = batch(server, *(item(n) for n in range(8)))

    failed = [each["error"]["code"] for each in answer["responses"] if not each["success"]]
    assert failed == ["429"] * 3


# --- discover ---


def test_discover_lists_services_and_methods(server):
    answer = decode(server.get("/discover").content)

    listed = {each["service"]: [m["name"] for m in each["methods"]] for each in answer["services"]}
    assert listed == {
        "PricesService@2.0.0": ["getPrice", "getMultiplePrices", "getPriceChange"],
        "ChartsService@2.0.0": ["getChartData", "getOHLCV"],
        "HealthService@1.0.0": ["check", "live", "ready"],
    }


def test_metrics_time_each_method(server):
    ask(server, "getPrice", {"pair": "btc-usdt"})

    text = server.get("/metrics").text

    assert re.search(r'oracle_api_duration_seconds_count\{status="200",view="rpc:getPrice"\}', text)
