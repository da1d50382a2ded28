"""What all of the REST API shares: errors, limits, tokens, exact numbers."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import msgspec
import pytest
import requests
import uvicorn
from django.core.exceptions import SuspiciousOperation, TooManyFieldsSent
from django.db import InterfaceError, OperationalError, ProgrammingError
from django.http import Http404
from redis.exceptions import BusyLoadingError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rest_framework import exceptions
from rest_framework.authtoken.models import Token
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from config.rest import BearerAuthentication, ExactJSONRenderer, describe
from oracle import catalog, keys
from oracle.catalog import Catalog, CatalogSymbol
from oracle.connection import redis_client
from oracle.jsontext import decode

SYMBOL = CatalogSymbol(name="BTC/USDT", base="BTC", quote="USDT", min_sources=1)


@pytest.fixture
def published():
    """A catalogue in Redis: reads need no database with it."""
    catalog.publish(Catalog(symbols=(SYMBOL,)))


@pytest.fixture
def server(published):
    """The ASGI application under uvicorn, as in production, on a free port."""
    from config.asgi import application

    config = uvicorn.Config(
        application, port=0, lifespan="on", log_config=None, proxy_headers=False
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    running.should_exit = True
    thread.join()


# --- numbers ---


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("0.00000123", "0.00000123"),
        ("42150.500000000000000000", "42150.5"),
        ("42150.000000000000000000", "42150"),
        ("0E-18", "0"),
        ("-0.000", "0"),
        ("-1.50", "-1.5"),
        ("1E+3", "1000"),
        ("1E-7", "0.0000001"),
        ("99999999999999999999.999999999999999999", "99999999999999999999.999999999999999999"),
        ("100", "100"),
    ],
)
def test_render_decimal_is_exact(number, text):
    assert ExactJSONRenderer().render({"n": [Decimal(number)]}) == f'{{"n":[{text}]}}'.encode()


def test_render_indented_keeps_digits():
    text = ExactJSONRenderer().render({"n": Decimal("0.00000123")}, "application/json; indent=2")

    assert text == b'{\n  "n": 0.00000123\n}'


def test_render_text_is_utf8():
    assert ExactJSONRenderer().render({"path": "KRW→USDT"}) == '{"path":"KRW→USDT"}'.encode()


# --- errors ---


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (OperationalError("host secret.internal"), 503, "DATABASE_UNAVAILABLE"),
        (InterfaceError("closed"), 503, "DATABASE_UNAVAILABLE"),
        (ProgrammingError("no such table"), 500, "INTERNAL"),
        (RedisConnectionError("host secret.internal"), 503, "REDIS_UNAVAILABLE"),
        (RedisTimeoutError("slow"), 503, "REDIS_UNAVAILABLE"),
        (BusyLoadingError("loading"), 503, "REDIS_UNAVAILABLE"),
        (ResponseError("WRONGTYPE"), 500, "INTERNAL"),
        (KeyError("secret"), 500, "INTERNAL"),
        (Http404("secret"), 404, "NOT_FOUND"),
        (SuspiciousOperation("secret"), 400, "BAD_REQUEST"),
        (TooManyFieldsSent("secret"), 400, "BAD_REQUEST"),
        (exceptions.NotAuthenticated(), 401, "UNAUTHENTICATED"),
        (exceptions.PermissionDenied(), 403, "FORBIDDEN"),
        (exceptions.MethodNotAllowed("POST"), 405, "METHOD_NOT_ALLOWED"),
        (exceptions.ParseError("half a JSON"), 400, "BAD_REQUEST"),
        (exceptions.ValidationError({"limit": ["too high"]}), 400, "INVALID_PARAMETER"),
        (exceptions.Throttled(wait=7.2), 429, "RATE_LIMITED"),
    ],
)
def test_describe_one_shape_without_internals(error, status, code):
    found, body = describe(error)

    assert (found, body["error"]["code"]) == (status, code)
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "details"}
    assert "secret" not in str(body)


def test_describe_validation_names_the_field():
    _, body = describe(exceptions.ValidationError({"limit": ["too high"]}))

    assert body["error"]["message"] == "limit: too high"
    assert body["error"]["details"] == {"limit": ["too high"]}


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_other_methods_are_405_in_the_one_shape(client, published, method):
    answer = getattr(client, method)("/api/v1/prices")

    assert answer.status_code == 405
    assert decode(answer.content)["error"]["code"] == "METHOD_NOT_ALLOWED"


def test_unacceptable_media_type_is_406_in_the_one_shape(client, published):
    answer = client.get("/api/v1/prices", headers={"Accept": "application/xml"})

    assert (answer.status_code, answer["Content-Type"]) == (406, "application/json")
    assert decode(answer.content)["error"]["code"] == "NOT_ACCEPTABLE"


def test_too_many_fields_is_400(client, published):
    answer = client.get("/api/v1/market/ticker?" + "&".join("a=1" for _ in range(1_001)))

    assert (answer.status_code, decode(answer.content)["error"]["code"]) == (400, "BAD_REQUEST")


@pytest.mark.parametrize("query", ["%ff", "%00", "%", "=&&=", "symbol=%ff%fe", "symbol[]=1"])
def test_odd_queries_are_4xx(client, published, query):
    assert client.get(f"/api/v1/market/ticker?{query}").status_code in (400, 404)


# --- tokens ---


@pytest.mark.django_db
def test_bearer_token_is_its_user(admin_user):
    token = Token.objects.create(user=admin_user)
    request = Request(APIRequestFactory().get("/", HTTP_AUTHORIZATION=f"Bearer {token.key}"))

    assert BearerAuthentication().authenticate(request) == (admin_user, token)


@pytest.mark.django_db
def test_bearer_wrong_token_is_refused():
    request = Request(APIRequestFactory().get("/", HTTP_AUTHORIZATION="Bearer wrong"))

    with pytest.raises(exceptions.AuthenticationFailed):
        BearerAuthentication().authenticate(request)


@pytest.mark.django_db
def test_wrong_tokens_count_for_the_limit(client, published, settings):
    settings.RATE_LIMIT_PER_MINUTE = 2
    guesses = [
        client.get("/openapi.json", headers={"Authorization": f"Bearer {guess}"}).status_code
        for guess in range(3)
    ]

    assert guesses == [401, 401, 429]


# --- limits ---


def test_limit_over_it_says_when_to_try_again(client, published, settings):
    settings.RATE_LIMIT_PER_MINUTE = 1
    client.get("/api/v1/prices")

    answer = client.get("/api/v1/prices")
    error = decode(answer.content)["error"]

    assert (answer.status_code, error["code"]) == (429, "RATE_LIMITED")
    assert 58 <= int(answer["Retry-After"]) <= 60
    assert error["details"] == {
        "limit_per_minute": 1,
        "retry_after": int(answer["Retry-After"]),
    }


@pytest.mark.parametrize(
    "path",
    ["/api/v1/prices/nope", "/api/v1/market/ohlcv?limit=0", "/api/v1/none"],
)
def test_limit_counts_errors_too(client, published, settings, path):
    settings.RATE_LIMIT_PER_MINUTE = 2
    statuses = [client.get(path).status_code for _ in range(3)]

    assert statuses[0] in (400, 404)
    assert statuses[2] == 429


def test_limit_unacceptable_and_wrong_methods_count_once_each(client, published, settings):
    settings.RATE_LIMIT_PER_MINUTE = 2
    client.post("/api/v1/prices")
    client.get("/api/v1/prices", headers={"Accept": "application/xml"})

    assert redis_client().zcard(keys.ratelimit("127.0.0.1", "prices")) == 2
    assert client.get("/api/v1/prices").status_code == 429


def test_limit_scopes_are_apart(client, published, settings):
    settings.RATE_LIMIT_PER_MINUTE = 1
    paths = ["/api/v1/prices", "/api/v1/market/symbols", "/api/v1/", "/", "/board.json"]
    first = [client.get(path).status_code for path in paths]
    second = [client.get(path).status_code for path in paths]

    assert first == [200, 200, 200, 200, 429]  # the page and its rows share one
    assert second == [429] * 5


def test_limit_of_the_docs_is_that_of_pages(client, settings):
    settings.RATE_LIMIT_PER_MINUTE = 1
    answers = [client.get("/api/docs/") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 429]
    assert 58 <= int(answers[1]["Retry-After"]) <= 60


@pytest.mark.django_db
def test_limit_of_the_login_counts_attempts(client, admin_user, settings):
    settings.RATE_LIMIT_PER_MINUTE = 2
    right = {"username": "admin", "password": "password"}
    shown = [client.get("/admin/login/").status_code for _ in range(3)]
    guessed = [
        client.post("/admin/login/", right | {"password": str(n)}).status_code for n in range(2)
    ]

    answer = client.post("/admin/login/", right)

    assert (shown, guessed) == ([200] * 3, [200] * 2)
    assert (answer.status_code, "sessionid" in client.cookies) == (429, False)
    assert 58 <= int(answer["Retry-After"]) <= 60


@pytest.mark.django_db
def test_limit_of_the_login_lets_the_right_password_in(client, admin_user):
    answer = client.post("/admin/login/", {"username": "admin", "password": "password"})

    assert (answer.status_code, "sessionid" in client.cookies) == (302, True)


@pytest.mark.parametrize("path", ["/api/v1/health/live", "/api/v1/health/ready", "/metrics"])
def test_limit_probes_have_none(client, published, settings, path):
    settings.RATE_LIMIT_PER_MINUTE = 1

    assert 429 not in [client.get(path).status_code for _ in range(3)]


def test_limit_forwarded_address_counts_only_from_a_trusted_proxy(client, published, settings):
    settings.RATE_LIMIT_PER_MINUTE = 1

    def ask(address):
        return client.get("/api/v1/prices", headers={"X-Forwarded-For": address}).status_code

    assert [ask("203.0.113.1"), ask("203.0.113.2")] == [200, 429]
    settings.TRUSTED_PROXIES = ["127.0.0.0/8"]
    assert [ask("203.0.113.1"), ask("203.0.113.2"), ask("203.0.113.1")] == [200, 200, 429]


def test_limit_redis_away_lets_through(client, settings):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    settings.RATE_LIMIT_PER_MINUTE = 1

    assert [client.get("/api/v1/").status_code for _ in range(3)] == [200, 200, 200]


@pytest.mark.parametrize(("asked", "refused"), [(101, 1), (150, 50)])
def test_limit_over_http_in_parallel_refuses_exactly_what_is_over(server, asked, refused):
    def ask(_):
        return requests.get(f"{server}/api/v1/prices", timeout=10).status_code

    with ThreadPoolExecutor(max_workers=asked) as pool:
        statuses = list(pool.map(ask, range(asked)))

    assert statuses.count(429) == refused
    assert statuses.count(200) == asked - refused


# --- the ASGI application ---


def test_asgi_query_that_is_not_ascii_is_answered(server):
    with requests.Session() as session:
        request = requests.Request("GET", f"{server}/api/v1/market/ticker").prepare()
        request.url = f"{server}/api/v1/market/ticker?symbol=\xff€"
        answer = session.send(request, timeout=10)

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "SYMBOL_UNKNOWN")


def test_asgi_forwarded_address_of_a_stranger_is_not_believed(server, settings):
    settings.RATE_LIMIT_PER_MINUTE = 1
    statuses = [
        requests.get(
            f"{server}/api/v1/prices", headers={"X-Forwarded-For": f"203.0.113.{n}"}, timeout=10
        ).status_code
        for n in range(2)
    ]

    assert statuses == [200, 429]


def test_openapi_numbers_are_numbers(client):
    schema = msgspec.json.decode(client.get("/openapi.json").content)

    price = schema["components"]["schemas"]["PriceAnswer"]["properties"]["price"]
    assert price["type"] == "number"
