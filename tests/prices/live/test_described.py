"""What OpenAPI tells of the edge is so: its own examples, asked of a running server."""

from __future__ import annotations

import json

import jsonschema  # type: ignore[import-untyped]
import pytest
from django.contrib.auth import get_user_model

from config import edge_schema
from prices.live import sockets, sse
from prices.rpc import doors
from tests.config.test_urls import json_schema
from tests.prices.live.conftest import put
from tests.prices.live.test_sockets import hear, open_socket, say


@pytest.fixture
def schema(client):
    return client.get("/openapi.json").json()


def check(schema, name, value):
    components = json_schema(schema["components"])
    jsonschema.validate(value, {"$ref": f"#/components/schemas/{name}", "components": components})


def test_every_door_of_the_edge_is_told(schema):
    edge = {*doors.PATHS, sse.PATH, "/ws/prices"}

    assert edge <= schema["paths"].keys()
    assert edge == set(edge_schema.PATHS)
    assert edge_schema.WEBSOCKET in sockets.PATHS


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/netron/invoke", "/netron/batch", "/netron/authenticate"])
def test_rpc_examples_are_answered_as_told(server, schema, path):
    get_user_model().objects.create_superuser("admin", password="…")
    told = schema["paths"][path]["post"]
    asked = told["requestBody"]["content"]["application/json"]
    check(schema, asked["schema"]["$ref"].rpartition("/")[2], asked["example"])

    answer = server.post(path, asked["example"])

    assert answer.status_code == 200
    content = told["responses"]["200"]["content"]["application/json"]
    check(schema, content["schema"]["$ref"].rpartition("/")[2], answer.json())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/netron/invoke", b"garbage"),
        ("/netron/invoke", {"id": "1", "service": "No", "method": "no", "input": {}}),
        (
            "/netron/invoke",
            {"id": "1", "service": "PricesService", "method": "getPrice", "input": {}},
        ),
        ("/netron/batch", {"id": "1", "requests": [{}] * 101}),
        ("/netron/authenticate", {"id": "1"}),
    ],
)
def test_rpc_failures_are_as_told(server, schema, path, body):
    answer = server.post(path, body)
    told = schema["paths"][path]["post"]["responses"][str(answer.status_code)]

    assert told["content"]["application/json"]["schema"]["$ref"].endswith("/RpcFailure")
    check(schema, "RpcFailure", answer.json())


def test_discovery_is_as_told(server, schema):
    check(schema, "RpcServices", server.get("/discover").json())


def test_stream_is_as_told(server, schema):
    with server.get("/api/v1/stream?symbols=btc-usdt", stream=True) as answer:
        told = schema["paths"]["/api/v1/stream"]["get"]["responses"]["200"]["content"]
        assert [answer.headers["Content-Type"]] == list(told)
        lines = (line.decode() for line in answer.iter_lines(chunk_size=1))
        data = next(line for line in lines if line.startswith("data: "))
    check(schema, "PriceAnswer", json.loads(data.removeprefix("data: ")))
    refused = server.get("/api/v1/stream?symbols=nope")
    assert str(refused.status_code) in schema["paths"]["/api/v1/stream"]["get"]["responses"]
    check(schema, "ErrorAnswer", refused.json())


def test_socket_speaks_as_told(server, schema):
    stream = {"id": "s", "service": "PricesService", "method": "streamPrices"}
    messages = [
        {"subscribe": ["btc-usdt"]},
        {"ping": 1},
        {"unsubscribe": ["btc-usdt"]},
        stream | {"input": {"pairs": ["btc-usdt"]}},
        {"id": "s", "cancel": True},
    ]
    with open_socket(server) as client:
        for message in messages:
            check(schema, "SocketRequest", message)
            say(client, message)
            check(schema, "SocketMessage", hear(client))
        say(client, "garbage")
        put()
        while (said := hear(client)).get("type") != "error":
            check(schema, "SocketMessage", said)
        check(schema, "SocketMessage", said)
