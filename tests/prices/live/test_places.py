"""How much one client may take: streams of an address, messages and frames of a connection."""

from __future__ import annotations

import json
import socket
import struct
import time
from contextlib import ExitStack, suppress
from types import SimpleNamespace

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from market.query import ApiError
from prices.live import protocol, sockets
from prices.live.allowance import Allowance
from prices.live.places import Places
from tests.prices.live.conftest import put, wait_for
from tests.prices.live.test_sockets import close_code, hear, open_socket, say

STREAM = "/api/v1/stream?symbols=btc-usdt"
HANDSHAKE = (
    b"GET /ws/prices HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
PING, CONTINUATION, TEXT_TO_GO_ON = 0x89, 0x00, 0x01


def frame(first, data=b""):
    return bytes((first, 0x80 | len(data), 0, 0, 0, 0)) + data


# --- streams ---


def test_places_of_an_address_are_given_back(settings):
    settings.STREAMS_PER_ADDRESS = 1
    places = Places()
    for _ in range(2):
        with places.taken("a"), places.taken("b"), pytest.raises(ApiError) as refused:
            places.taken("a").__enter__()
        assert refused.value.status_code == 429
    assert not places._taken


def test_streams_of_an_address_are_counted_together(server, settings):
    settings.STREAMS_PER_ADDRESS = 2
    with ExitStack() as held:
        first = held.enter_context(server.get(STREAM, stream=True))
        client = held.enter_context(open_socket(server))
        refused = server.get(STREAM)
        with pytest.raises(InvalidStatus) as shut, open_socket(server):
            pass
        body = json.loads(shut.value.response.body)

        assert first.status_code == 200
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
        assert refused.json()["error"]["code"] == "TOO_MANY_STREAMS"
        assert refused.json() == body
        assert shut.value.response.status_code == 429
        assert shut.value.response.headers["Retry-After"] == "5"
        say(client, {"subscribe": ["btc-usdt"]})  # who is there is not disturbed
        assert hear(client)["type"] == "subscribed"
    wait_for(lambda: not server.hub._listeners)
    with open_socket(server), open_socket(server):
        pass


def test_stream_that_never_began_takes_no_place(server, settings):
    settings.STREAMS_PER_ADDRESS = 1
    for _ in range(3):
        assert server.get("/api/v1/stream?symbols=nope").status_code == 404
    with server.get(STREAM, stream=True) as answer:
        assert answer.status_code == 200


def test_too_many_symbols_at_once_are_refused(server):
    texts = ",".join(f"x{number}" for number in range(1_001))

    assert server.get(f"/api/v1/stream?symbols={texts}").status_code == 400


# --- messages ---


def test_allowance_fills_up_evenly():
    bucket = Allowance(60, now=0)

    assert [bucket.take(now=0) for _ in range(61)] == [True] * 60 + [False]
    assert [bucket.take(now=2.5) for _ in range(3)] == [True, True, False]
    assert sum(bucket.take(now=1_000) for _ in range(100)) == 60


@pytest.mark.parametrize("message", [{"ping": 1}, {"subscribe": ["btc-usdt"]}, "garbage"])
def test_messages_in_a_tight_loop_are_told_and_ended(server, settings, message):
    settings.STREAM_MESSAGES_PER_MINUTE = 10
    with open_socket(server) as good, open_socket(server) as bad:
        say(good, {"subscribe": ["eth-usdt"]})
        hear(good)
        with suppress(ConnectionClosed):  # it may be ended while it still speaks
            for _ in range(100):
                say(bad, message)
        said: list[dict] = []
        while not said or said[-1].get("error", {}).get("code") != "RATE_LIMITED":
            said.append(hear(bad))
        assert close_code(bad) == 1008
        put("5", symbol="ETH/USDT")

        assert hear(good)["data"]["price"] == 5


def test_message_too_many_is_told_and_later_ones_are_heard(server, settings, monkeypatch):
    settings.STREAM_MESSAGES_PER_MINUTE = 2
    clock = SimpleNamespace(monotonic=lambda: 0.0, time_ns=time.time_ns)
    monkeypatch.setattr(sockets, "time", clock)
    with open_socket(server) as client:
        for _ in range(3):
            say(client, {"ping": 1})
        assert [hear(client)["type"] for _ in range(3)] == ["pong", "pong", "error"]
        clock.monotonic = lambda: 30.0
        say(client, {"ping": 1})
        assert hear(client)["type"] == "pong"


# --- frames ---


@pytest.mark.parametrize("first", [PING, CONTINUATION])
def test_frames_that_are_no_messages_are_counted_too(server, monkeypatch, first):
    monkeypatch.setattr(protocol, "FRAMES_PER_MINUTE", 200)
    with (
        open_socket(server) as good,
        socket.create_connection(("127.0.0.1", server.port)) as bad,
    ):
        say(good, {"subscribe": ["eth-usdt"]})
        hear(good)
        bad.sendall(HANDSHAKE)
        assert b"101" in bad.recv(1_024)
        bad.settimeout(5)
        try:
            bad.sendall(frame(TEXT_TO_GO_ON) + frame(first) * 50_000)
            said = b""
            while data := bad.recv(65_536):
                said += data
        except ConnectionError:
            pass  # it was ended while we still spoke
        wait_for(lambda: len(server.hub._listeners) == 1)
        assert not said or struct.pack("!H", 1008) in said
        put("5", symbol="ETH/USDT")

        assert hear(good)["data"]["price"] == 5


def test_message_beyond_the_servers_own_limit_ends_only_its_connection(server):
    with open_socket(server) as good, open_socket(server) as bad:
        say(good, {"subscribe": ["eth-usdt"]})
        hear(good)
        say(bad, "x" * 200_000)
        assert close_code(bad) == 1009
        put("5", symbol="ETH/USDT")

        assert hear(good)["data"]["price"] == 5
