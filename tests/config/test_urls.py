"""URLs, and what every answer carries."""

from __future__ import annotations

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
from django.core.management import call_command

from config import edge_schema
from config.urls import ENDPOINTS
from oracle import catalog
from oracle.catalog import Catalog, CatalogSymbol
from oracle.jsontext import decode

ORIGIN = "https://app.example"
SYMBOL = CatalogSymbol(name="BTC/USDT", base="BTC", quote="USDT", min_sources=1)


@pytest.fixture(autouse=True)
def published():
    catalog.publish(Catalog(symbols=(SYMBOL,)))


# --- errors outside of views ---


@pytest.mark.parametrize("path", ["/api/none", "/api/v1/none", "/api/v1/market", "/health/none"])
def test_nothing_there_is_json_for_programs(client, path):
    answer = client.get(path)

    assert (answer.status_code, answer["Content-Type"]) == (404, "application/json")
    assert decode(answer.content)["error"]["code"] == "NOT_FOUND"


def test_nothing_there_is_a_page_for_people(client):
    answer = client.get("/none")

    assert (answer.status_code, answer["Content-Type"]) == (404, "text/html; charset=utf-8")


def test_unknown_host_is_400_in_the_one_shape(client):
    answer = client.get("/api/v1/prices", headers={"Host": "evil.example"})

    assert (answer.status_code, decode(answer.content)["error"]["code"]) == (400, "BAD_REQUEST")


def test_bug_is_500_without_internals(client, monkeypatch):
    def broken(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr("market.query.current_catalog", broken)
    client.raise_request_exception = False

    for path in ("/api/v1/prices", "/"):
        answer = client.get(path)
        assert answer.status_code == 500
        assert "secret" not in answer.content.decode()
    assert decode(client.get("/api/v1/prices").content)["error"]["code"] == "INTERNAL"


@pytest.mark.parametrize(
    ("path", "bare"),
    [
        ("/health/", "/health"),
        ("/api/v1/prices/?a=1", "/api/v1/prices?a=1"),
        ("/api/v1", "/api/v1/"),
    ],
)
def test_slash_too_many_or_too_few_is_sent_to_the_right_place(client, path, bare):
    answer = client.get(path)

    assert (answer.status_code, answer["Location"]) == (301, bare)


# --- headers ---


@pytest.mark.parametrize("path", ["/", "/api/v1/prices", "/api/none", "/static/oracle/style.css"])
def test_headers_of_every_answer(client, path):
    answer = client.get(path)
    b"".join(answer)  # read to its end, a file is closed

    policy = answer["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["Referrer-Policy"] == "same-origin"
    assert len(answer["X-Request-ID"]) == 32
    assert ("no-store" in answer["Cache-Control"]) == (not path.startswith("/static/"))
    assert "X-Oracle-Simulated" not in answer


def test_request_id_is_echoed(client):
    answer = client.get("/api/v1/", headers={"X-Request-ID": "abc-123.X:1"})

    assert answer["X-Request-ID"] == "abc-123.X:1"


@pytest.mark.parametrize("text", ["a b", "a\tb", "é", "x" * 129, ""])
def test_request_id_that_is_none_is_replaced(client, text):
    answer = client.get("/api/v1/", headers={"X-Request-ID": text})

    assert answer["X-Request-ID"] != text
    assert len(answer["X-Request-ID"]) == 32


@pytest.mark.parametrize("path", ["/", "/api/v1/prices", "/api/none", "/metrics"])
def test_simulated_is_said_on_every_answer(client, settings, path):
    settings.SIMULATED = True
    catalog.publish(Catalog(symbols=(SYMBOL,), simulated=True))

    assert client.get(path)["X-Oracle-Simulated"] == "true"


@pytest.mark.parametrize(
    ("proxies", "scheme"), [(["127.0.0.0/8"], "https"), (["10.0.0.1"], "http")]
)
def test_forwarded_scheme_counts_only_from_a_trusted_proxy(client, settings, proxies, scheme):
    settings.TRUSTED_PROXIES = proxies
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

    answer = client.get("/api/v1/", headers={"X-Forwarded-Proto": "https"})

    assert decode(answer.content)["documentation"].startswith(f"{scheme}://testserver")


# --- CORS ---


def ask(client, origin=ORIGIN, path="/api/v1/prices"):
    return client.get(path, headers={"Origin": origin})


def test_cors_listed_origin_may_read(client, settings):
    settings.CORS_ALLOWED_ORIGINS = [ORIGIN]

    answer = ask(client)

    assert answer["Access-Control-Allow-Origin"] == ORIGIN
    assert "Origin" in answer["Vary"]
    assert "Retry-After" in answer["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in answer


def test_cors_errors_may_be_read_too(client, settings):
    settings.CORS_ALLOWED_ORIGINS = [ORIGIN]

    assert ask(client, path="/api/v1/none")["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize("allowed", [[], ["https://other.example"], [f"{ORIGIN}.evil"]])
def test_cors_other_origin_may_not(client, settings, allowed):
    settings.CORS_ALLOWED_ORIGINS = allowed

    assert "Access-Control-Allow-Origin" not in ask(client)


def test_cors_admin_is_nobody_elses(client, settings):
    settings.CORS_ALLOWED_ORIGINS = ["*"]

    assert "Access-Control-Allow-Origin" not in ask(client, path="/admin/login/")
    assert ask(client)["Access-Control-Allow-Origin"] == ORIGIN


def test_cors_preflight(client, settings):
    settings.CORS_ALLOWED_ORIGINS = [ORIGIN]
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}

    answer = client.options("/api/v1/prices", headers=asked)
    refused = client.options("/api/v1/prices", headers=asked | {"Origin": "https://evil.example"})

    assert answer.status_code == 204
    assert answer["Access-Control-Allow-Origin"] == ORIGIN
    assert answer["Access-Control-Allow-Headers"] == (
        "Content-Type, Authorization, X-Idempotency-Key, X-Netron-Version, X-Request-ID, X-Trace-ID"
    )
    assert "POST" in answer["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Origin" not in refused


# --- what there is ---


def test_root_lists_endpoints_that_answer(client):
    body = decode(client.get("/api/v1/").content)
    edge = {*edge_schema.ENDPOINTS, "prices:socket"}  # asked in tests/prices/live/test_described.py
    missing = {
        name: client.get(url).status_code
        for name, url in body["endpoints"].items()
        if name not in edge and client.get(url).status_code == 404
    }

    assert body["endpoints"].keys() == {*ENDPOINTS, *edge, "prices:one", "prices:receipt"}
    assert body["endpoints"]["prices:socket"] == "ws://testserver/ws/prices"
    assert missing == {}


@pytest.mark.parametrize("path", ["/api/v1/", "/api/v1/prices", "/api/v1/prices/nope"])
def test_browsable_api_for_people(client, path):
    answer = client.get(path, headers={"Accept": "text/html"})

    assert answer["Content-Type"].startswith("text/html")
    assert "Token Price Oracle" in answer.content.decode()
    assert "<style" not in answer.content.decode()


def test_docs_page(client):
    assert 'data-schema="/openapi.json"' in client.get("/api/docs/").content.decode()


def test_openapi_is_valid_and_without_warnings(tmp_path):
    call_command(
        "spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "openapi.yml")
    )


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/api/v1/market/symbols", "/api/v1/market/symbols"),
        ("/api/v1/prices", "/api/v1/prices"),
        ("/api/v1/prices/{slug}", "/api/v1/prices/nope"),
        ("/api/v1/prices/{slug}", "/api/v1/prices/btc-usdt"),
        ("/api/v1/market/ohlcv", "/api/v1/market/ohlcv"),
        ("/api/v1/health", "/api/v1/health"),
        ("/api/v1/health/live", "/api/v1/health/live"),
        ("/api/v1/health/ready", "/api/v1/health/ready"),
        ("/api/v1/", "/api/v1/"),
    ],
)
@pytest.mark.django_db
def test_openapi_tells_the_truth(client, path, url):
    schema = msgspec.json.decode(client.get("/openapi.json").content)
    answer = client.get(url)
    told = schema["paths"][path]["get"]["responses"][str(answer.status_code)]

    jsonschema.validate(
        msgspec.json.decode(answer.content),
        told["content"]["application/json"]["schema"]
        | {"components": json_schema(schema["components"])},
    )


@pytest.mark.parametrize(
    ("path", "name", "accepted"),
    [
        ("/api/v1/market/ohlcv", "limit", (1, 5_000)),
        ("/api/v1/market/ohlcv", "from", (0, 9_999_999_999)),
        ("/api/v1/market/ohlcv", "to", (0, 9_999_999_999)),
        ("/api/v1/prices/{slug}/history", "limit", (1, 5_000)),
        ("/api/v1/prices/{slug}/history", "from", (0, 9_999_999_999)),
        ("/api/v1/prices/{slug}/change", "to", (0, 9_999_999_999)),
        ("/api/v1/prices/{slug}", "max_age_ms", (1, 2_592_000_000)),
        ("/api/v1/prices/{slug}", "min_sources", (1, 1_000)),
    ],
)
def test_openapi_tells_the_bounds_that_hold(client, path, name, accepted):
    told = parameter(client, path, name)
    url = path.format(slug="btc-usdt")
    beyond = [accepted[0] - 1, accepted[1] + 1]
    refused = [client.get(url, {"symbol": "BTC/USDT", name: value}) for value in beyond]

    assert told["type"] == "integer"
    assert (told["minimum"], told["maximum"]) == accepted
    assert [decode(answer.content)["error"]["details"].get("field") for answer in refused] == [
        name,
        name,
    ]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/v1/market/ohlcv", "symbol"),
        ("/api/v1/market/ticker", "symbol"),
        ("/api/v1/prices/{slug}", "slug"),
    ],
)
def test_openapi_symbol_is_not_empty(client, path, name):
    assert parameter(client, path, name) == {"type": "string", "minLength": 1}


def parameter(client, path, name):
    schema = msgspec.json.decode(client.get("/openapi.json").content)
    (found,) = [one for one in schema["paths"][path]["get"]["parameters"] if one["name"] == name]
    return found["schema"]


def json_schema(node):
    """OpenAPI 3.0's own `nullable` in the words of JSON Schema; no field more than is told."""
    if isinstance(node, list):
        return [json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {name: json_schema(item) for name, item in node.items() if name != "nullable"}
    if node.get("nullable"):
        if "type" not in made:  # a reference
            return {"anyOf": [made, {"type": "null"}]}
        made["type"] = [made["type"], "null"]
    if isinstance(node.get("properties"), dict) and "type" in node:
        made["additionalProperties"] = False
    return made
