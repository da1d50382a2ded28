"""The edge answers what Django's views do, in the same bytes."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from types import SimpleNamespace

import pytest
import requests

from oracle.jsontext import decode
from oracle.values import Source
from prices import api
from prices.live import reads
from tests.prices.live.conftest import now_ms, publish_catalog, put, wait_for

D = Decimal


@pytest.fixture
def still(monkeypatch):
    """A clock that stands, for the edge and Django alike."""
    at = now_ms() + 5_000
    clock = SimpleNamespace(time_ns=lambda: at * 1_000_000)
    monkeypatch.setattr(api, "time", clock)
    monkeypatch.setattr(reads, "time", clock)
    return at


@pytest.fixture
def no_limit(settings):
    """For tests that ask until something is so."""
    settings.RATE_LIMIT_PER_MINUTE = 100_000


@pytest.fixture
def by_django(monkeypatch):
    """Which paths were handed to Django."""
    from config import asgi

    seen = []
    django = asgi._django

    async def noted(scope, receive, send):
        seen.append(f"{scope['method']} {scope['path']}")
        await django(scope, receive, send)

    monkeypatch.setattr(asgi, "_django", noted)
    return seen


def comparable(headers):
    volatile = {"date", "x-request-id", "connection", "transfer-encoding"}
    return {name.lower(): value for name, value in headers.items() if name.lower() not in volatile}


def both(server, client, path, **headers):
    """The edge's answer, checked to be Django's to the byte."""
    edge = server.get(path, headers=headers)
    django = client.get(path, headers=headers)
    assert (edge.status_code, edge.content) == (django.status_code, django.content)
    assert comparable(edge.headers) == comparable(django.headers)
    return edge


PATHS = [
    "/api/v1/prices",
    "/api/v1/prices/btc-usdt",
    "/api/v1/prices/BTC-USDT",
    "/api/v1/prices/btc_usdt",
    "/api/v1/prices/BTCUSDT",
    "/api/v1/prices/pepe-usdt",
    "/api/v1/prices/btc-usdt/sources",
    "/api/v1/prices/btc-usdt?max_age_ms=60000&min_sources=2",
    "/api/v1/prices/btc-usdt?max_age_ms=10",
    "/api/v1/prices/btc-usdt?min_sources=3",
    "/api/v1/prices/btc-usdt?max_age_ms=10&max_age_ms=60000",
    "/api/v1/prices/btc-usdt?other=1",
    "/api/v1/prices/btc-usdt?max_age_ms=0",
    "/api/v1/prices/btc-usdt?min_sources=%EF%BC%99",
    "/api/v1/prices?max_age_ms=1",
]


def test_hot_paths_are_djangos_bytes_without_django(server, client, still, by_django):
    for path in PATHS:
        both(server, client, path)

    assert by_django == []


OTHER_PATHS = [
    "/api/v1/prices/nope",
    "/api/v1/prices/xmr-usdt",
    "/api/v1/prices/xmr-usdt/sources",
    "/api/v1/prices/btc%2Fusdt",
    "/api/v1/prices/btc-usdt/",
    "/api/v1/prices/btc-usdt/more",
    "/api/v1/prices/btc-usdt?format=json",
    "/api/v1/prices/btc-usdt?format=xml",
    "/api/v1/pricesandmore",
    "/api/v1/prices/" + "x" * 300,
    "/api/v1/health/live",
]


def test_other_paths_are_djangos(server, client, still, by_django):
    for path in OTHER_PATHS:
        edge = server.get(path, allow_redirects=False)
        django = client.get(path)
        assert (edge.status_code, edge.content) == (django.status_code, django.content)

    assert len(by_django) == len(OTHER_PATHS)


def test_json_is_answered_by_the_edge(server, client, still, by_django):
    both(server, client, "/api/v1/prices/btc-usdt")
    for accept in ("*/*", "application/json", "application/json, text/html"):
        both(server, client, "/api/v1/prices/btc-usdt", Accept=accept)

    assert by_django == []


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "text/html,application/xhtml+xml,*/*;q=0.8",
        "application/json; indent=2",
        "application/xml",
    ],
)
def test_other_media_types_are_negotiated_by_django(server, client, still, by_django, accept):
    edge = server.get("/api/v1/prices/btc-usdt", headers={"Accept": accept})
    django = client.get("/api/v1/prices/btc-usdt", headers={"Accept": accept})

    assert by_django == ["GET /api/v1/prices/btc-usdt"]
    assert (edge.status_code, edge.headers["Content-Type"]) == (
        django.status_code,
        django["Content-Type"],
    )


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST", "DELETE"])
def test_other_methods_are_djangos(server, client, still, by_django, method):
    edge = server.session.request(method, f"{server.url}/api/v1/prices/btc-usdt", timeout=10)
    django = client.generic(method, "/api/v1/prices/btc-usdt")

    assert by_django == [f"{method} /api/v1/prices/btc-usdt"]
    assert (edge.status_code, edge.headers["Allow"]) == (django.status_code, django["Allow"])


def test_cors_is_djangos(settings, server, client, still):
    settings.CORS_ALLOWED_ORIGINS = ["https://a.example"]

    ours = both(server, client, "/api/v1/prices/btc-usdt", Origin="https://a.example")
    both(server, client, "/api/v1/prices/btc-usdt", Origin="https://b.example")

    assert ours.headers["Access-Control-Allow-Origin"] == "https://a.example"


def test_request_id_is_echoed_where_it_is_harmless(server):
    def answered(given):
        answer = server.get("/api/v1/prices/btc-usdt", headers={"X-Request-ID": given})
        return answer.headers["X-Request-ID"]

    assert answered("abc-1") == "abc-1"
    assert re.fullmatch("[0-9a-f]{32}", answered("a b<c"))
    assert re.fullmatch("[0-9a-f]{32}", answered(""))


def test_strange_host_is_refused_by_django(server, by_django):
    answer = server.get("/api/v1/prices/btc-usdt", headers={"Host": "evil.example"})

    assert (answer.status_code, len(by_django)) == (400, 1)


def test_without_tls_django_redirects_but_what_a_proxy_brought_over_tls(
    server, settings, by_django
):
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

    def ask(**headers):
        path = "/api/v1/prices/btc-usdt"
        return server.get(path, headers=headers, allow_redirects=False).status_code

    assert ask(**{"X-Forwarded-Proto": "https"}) == 200
    assert by_django == []
    ask()
    assert len(by_django) == 1  # whose middleware knows the settings of its start


def test_simulated_is_said(settings, prices):
    from tests.prices.live.conftest import serving

    settings.SIMULATED = True
    with serving() as server:
        # The catalogue in Redis is of the other world: there is nothing that the edge may answer.
        assert server.board.names == ()
        answer = server.get("/api/v1/health/live")

    assert answer.headers["X-Oracle-Simulated"] == "true"


# --- keeping up ---


def test_update_is_seen_at_once(server, no_limit):
    for number in range(1, 20):
        put(str(number))
        wait_for(
            lambda n=number: decode(server.get("/api/v1/prices/btc-usdt").content)["price"] == n
        )


def test_status_and_age_grow_without_an_update(server, settings, no_limit):
    def asked():
        return decode(server.get("/api/v1/prices/eth-usdt").content)

    put(symbol="ETH/USDT", age_ms=settings.TICKER_MAX_AGE_MS - 300)
    wait_for(lambda: asked().get("status") == "fresh")
    wait_for(lambda: asked()["status"] == "stale")

    assert asked()["age_ms"] > settings.TICKER_MAX_AGE_MS


def test_new_and_removed_symbols_follow_the_catalogue(server):
    publish_catalog(("BTC/USDT", "SOL/USDT"))
    put("20", symbol="SOL/USDT")
    wait_for(lambda: server.board.names == ("BTC/USDT", "SOL/USDT"))

    answer = decode(server.get("/api/v1/prices").content)

    assert [(each["symbol"], each["price"]) for each in answer["prices"]] == [
        ("BTC/USDT", D("42150.5")),
        ("SOL/USDT", 20),
    ]
    assert server.get("/api/v1/prices/pepe-usdt").status_code == 404


def test_unreadable_message_disturbs_nothing(server, redis_prefix, no_limit):
    from oracle.connection import redis_client

    for text in ("garbage", '{"symbol":1}', "[]", '{"symbol":"BTC/USDT"}'):
        redis_client().publish(f"{redis_prefix}:prices", text)
    put("7")

    wait_for(lambda: decode(server.get("/api/v1/prices/btc-usdt").content)["price"] == 7)


def test_receipt_is_of_the_same_price(server, client, still):
    sources = (
        Source(
            exchange="upbit",
            exchange_symbol="KRW-BTC",
            price=D(100),
            native_price=D(139_000),
            weight=D("12.50"),
            volume=D(1),
            as_of_ms=still - 70,
            path=("KRW→USDT",),
            kept=True,
        ),
    )
    put("100", sources=sources)
    wait_for(lambda: b"KRW" in server.get("/api/v1/prices/btc-usdt/sources").content)

    both(server, client, "/api/v1/prices/btc-usdt/sources")


# --- Redis away ---


def lose_subscription(server, monkeypatch):
    """As after the loss of the connection, until it is made again."""
    monkeypatch.setattr(server.board, "is_subscribed", False)


def test_without_subscription_reads_go_to_redis(server, monkeypatch, redis_prefix):
    from oracle import keys, price_board
    from oracle.connection import redis_client
    from tests.oracle.test_price_board import price

    lose_subscription(server, monkeypatch)
    at = now_ms()
    redis_client().set(keys.price("BTC/USDT"), price_board._encode(price("9", now_ms=at)))

    assert decode(server.get("/api/v1/prices/btc-usdt").content)["price"] == 9


def test_without_redis_the_last_known_is_stale(server, monkeypatch, no_limit):
    from redis.exceptions import ConnectionError as RedisConnectionError

    async def away(*_):
        raise RedisConnectionError("away")

    lose_subscription(server, monkeypatch)
    monkeypatch.setattr(server.board, "_read", away)

    first = decode(server.get("/api/v1/prices/btc-usdt").content)
    second = wait_for(
        lambda: (
            (body := decode(server.get("/api/v1/prices/btc-usdt").content))["age_ms"]
            > first["age_ms"]
            and body
        )
    )
    listed = decode(server.get("/api/v1/prices").content)["prices"][0]
    strict = server.get("/api/v1/prices/btc-usdt?min_sources=1")

    assert (first["status"], first["price"]) == ("stale", D("42150.5"))
    assert second["status"] == listed["status"] == "stale"
    assert decode(strict.content)["error"]["code"] == "PRICE_STALE"


def test_lost_connection_is_made_again_and_everything_loaded(server, no_limit):
    from oracle.connection import redis_client

    redis_client().execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    put("11")

    wait_for(lambda: decode(server.get("/api/v1/prices/btc-usdt").content)["price"] == 11)
    wait_for(lambda: server.board.is_subscribed)
    put("12")
    wait_for(lambda: decode(server.get("/api/v1/prices/btc-usdt").content)["price"] == 12)


# --- limits ---


def test_limit_is_exact_across_edge_and_django(server):
    """101 at once from one address, some to the edge and some to Django: one is refused."""

    def ask(number):
        accept = "application/json" if number % 2 else "application/json; indent=1"
        return requests.get(
            f"{server.url}/api/v1/prices/btc-usdt", headers={"Accept": accept}, timeout=20
        ).status_code

    with ThreadPoolExecutor(max_workers=101) as pool:
        statuses = list(pool.map(ask, range(101)))

    assert (statuses.count(429), statuses.count(200)) == (1, 100)


def test_limit_is_exact_across_processes(settings, prices):
    from tests.prices.live.conftest import serving

    settings.RATE_LIMIT_PER_MINUTE = 40
    with serving() as one, serving() as other, ThreadPoolExecutor(max_workers=50) as pool:
        statuses = list(
            pool.map(
                lambda n: (
                    requests.get(
                        f"{(one if n % 2 else other).url}/api/v1/prices/btc-usdt", timeout=20
                    ).status_code
                ),
                range(50),
            )
        )

    assert (statuses.count(429), statuses.count(200)) == (10, 40)


def test_limit_refusal_is_djangos_bytes(settings, server, client):
    settings.RATE_LIMIT_PER_MINUTE = 1
    server.get("/api/v1/prices/btc-usdt")

    edge, django = server.get("/api/v1/prices/btc-usdt"), client.get("/api/v1/prices/btc-usdt")

    assert (edge.status_code, edge.content) == (429, django.content)
    assert comparable(edge.headers) == comparable(django.headers)
    assert edge.headers["Retry-After"] == "60"


def test_limit_forwarded_address_counts_only_from_a_trusted_proxy(settings, server):
    settings.RATE_LIMIT_PER_MINUTE = 1

    def ask(address):
        headers = {"X-Forwarded-For": address}
        return server.get("/api/v1/prices/btc-usdt", headers=headers).status_code

    assert [ask("203.0.113.1"), ask("203.0.113.2")] == [200, 429]
    settings.TRUSTED_PROXIES = ["127.0.0.0/8"]
    assert [ask("203.0.113.1"), ask("203.0.113.2"), ask("203.0.113.1")] == [200, 200, 429]


def test_limit_without_redis_lets_through_and_counts_it(settings, server, monkeypatch):
    from redis.exceptions import ConnectionError as RedisConnectionError

    from oracle.ratelimit import UNCHECKED

    async def away(*_):
        raise RedisConnectionError("away")

    settings.RATE_LIMIT_PER_MINUTE = 1
    monkeypatch.setattr(server.application._running.reads._limiter, "_evaluate", away)
    before = UNCHECKED.labels("prices")._value.get()
    statuses = [server.get("/api/v1/prices/btc-usdt").status_code for _ in range(3)]

    assert statuses == [200, 200, 200]
    assert UNCHECKED.labels("prices")._value.get() == before + 3


def test_metrics_time_the_edge_too(server):
    server.get("/api/v1/prices/btc-usdt")

    text = server.get("/metrics").text

    assert re.search(
        r'oracle_api_duration_seconds_count{status="200",view="prices:one"} [1-9]', text
    )
