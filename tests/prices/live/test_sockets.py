"""Streams over WebSocket: subscriptions, JSON-RPC's streamPrices, and clients that misbehave."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from prices.live import outbox, sockets
from tests.prices.live.conftest import now_ms, put, put_rate, wait_for

STALE_MS = 600_000


def open_socket(server, path="/ws/prices"):
    return connect(
        f"ws://127.0.0.1:{server.port}{path}", compression=None, max_size=None, close_timeout=2
    )


def hear(client):
    return json.loads(client.recv(timeout=5))


def say(client, message):
    client.send(message if isinstance(message, str | bytes) else json.dumps(message))


def close_code(client):
    with pytest.raises(ConnectionClosed):
        while True:
            client.recv(timeout=5)
    return client.close_code


def test_subscribe_gives_the_current_price_then_each_update(server):
    with open_socket(server) as client:
        say(client, {"subscribe": ["btc-usdt", "ETHUSDT"]})

        assert hear(client) == {"type": "subscribed", "symbols": ["btc-usdt", "eth-usdt"]}
        first = hear(client)
        assert (first["type"], first["data"]["price"]) == ("price", 42150.5)
        put("8", symbol="PEPE/USDT")
        put("9", symbol="ETH/USDT")
        assert hear(client)["data"]["price"] == 9

        say(client, {"unsubscribe": ["eth-usdt"]})
        assert hear(client) == {"type": "subscribed", "symbols": ["btc-usdt"]}
        put("10", symbol="ETH/USDT")
        put("11")
        assert hear(client)["data"]["price"] == 11


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("garbage", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        ("[]", "JSON object"),
        ("{}", 'say {"subscribe"'),
        ({"subscribe": "btc-usdt"}, 'say {"subscribe"'),
        ({"subscribe": [1]}, "texts"),
        ({"subscribe": ["nope"]}, "unknown symbol"),
        ({"subscribe": [None]}, "texts"),
        ({"subscribe": [f"btc-{n}" for n in range(1_001)]}, "at most 1000 symbols"),
        ("[" * 101 + "]" * 101, "nested"),
        ("[" * 20_000, "nested"),
        ('{"subscribe": [1e999999]}', "texts"),
    ],
)
def test_garbage_is_told_and_the_connection_stays(server, message, words):
    with open_socket(server) as client:
        say(client, message)
        error = hear(client)
        assert error["type"] == "error"
        assert words in error["error"]["message"]

        say(client, {"subscribe": ["btc-usdt"]})
        assert hear(client)["type"] == "subscribed"


def test_frame_over_64_kb_is_told_and_closed_with_1009(server):
    with open_socket(server) as client:
        say(client, '{"subscribe": ["' + "x" * sockets.MAX_MESSAGE_BYTES + '"]}')

        assert hear(client)["error"]["code"] == "TOO_LARGE"
        assert close_code(client) == 1009


def test_too_much_garbage_is_closed(server):
    with open_socket(server) as client:
        for _ in range(sockets.MAX_ERRORS):
            say(client, "garbage")

        assert close_code(client) == 1008


def test_one_that_is_closed_disturbs_no_other(server):
    with open_socket(server) as good:
        say(good, {"subscribe": ["btc-usdt"]})
        hear(good)
        hear(good)
        for _ in range(5):
            with open_socket(server) as bad:
                say(bad, {"subscribe": ["btc-usdt"]})
                say(bad, "x" * 70_000)
                assert close_code(bad) == 1009
        put("3")

        assert hear(good)["data"]["price"] == 3
        wait_for(lambda: len(server.hub._listeners) == 1)


def test_ping_is_answered_and_beats_are_sent(server):
    with open_socket(server) as client:
        say(client, {"ping": 1})
        assert hear(client)["type"] == "pong"
        (listener,) = server.hub._listeners
        server.loop.call_soon_threadsafe(listener.beat)

        assert hear(client)["type"] == "ping"


def test_other_paths_are_404(server):
    with pytest.raises(InvalidStatus) as refused, open_socket(server, "/ws/nothing"):
        pass

    assert refused.value.response.status_code == 404


def test_limit_refuses_with_429(server, settings):
    settings.RATE_LIMIT_PER_MINUTE = 1
    with open_socket(server):
        pass
    with pytest.raises(InvalidStatus) as refused, open_socket(server):
        pass

    assert refused.value.response.status_code == 429
    assert int(refused.value.response.headers["Retry-After"]) > 0


# --- streamPrices ---


def stream(client, stream_id="s", pairs=("btc-usdt",), **other):
    request = {
        "service": "PricesService@2.0.0",
        "method": "streamPrices",
        "input": {"pairs": list(pairs)},
        "id": stream_id,
    }
    say(client, {**request, **other})


@pytest.mark.parametrize("path", sorted(sockets.PATHS))
def test_stream_prices_gives_quotes_under_its_id(server, path):
    with open_socket(server, path) as client:
        stream(client)
        first = hear(client)
        at = put("5")
        second = hear(client)

        assert (first["id"], first["data"]["pair"]) == ("s", "btc-usdt")
        assert second == {"id": "s", "data": {"pair": "btc-usdt", "price": 5, "timestamp": at}}


def test_stream_prices_gives_the_trade_rate_where_there_is_one(server):
    with open_socket(server) as client:
        stream(client, input=[{"pairs": ["btc-usdt"]}])
        hear(client)
        at = put_rate("77.50")
        assert hear(client)["data"] == {"pair": "btc-usdt", "price": 77.5, "timestamp": at}
        put("5")  # the index does not matter now
        at = put_rate("78", at=at + 1)

        assert hear(client)["data"] == {"pair": "btc-usdt", "price": 78, "timestamp": at}


def test_stream_prices_tells_once_of_a_pair_without_a_price_and_goes_on(server):
    with open_socket(server) as client:
        stream(client, pairs=("eth-usdt", "btc-usdt"))
        error = hear(client)
        assert (error["id"], error["error"]["code"]) == ("s", "PRICE_1002")
        assert error["error"]["details"]["pair"] == "eth-usdt"
        assert hear(client)["data"]["pair"] == "btc-usdt"

        put("9", symbol="ETH/USDT", age_ms=STALE_MS)  # as good as none
        at = put("8", symbol="ETH/USDT")
        assert hear(client) == {
            "id": "s",
            "data": {"pair": "eth-usdt", "price": 8, "timestamp": at},
        }


def test_stream_prices_of_a_stale_pair_says_how_old_it_is(server):
    put("9", symbol="ETH/USDT", age_ms=STALE_MS)
    wait_for(lambda: server.board.price("ETH/USDT", now_ms()) is not None)
    with open_socket(server) as client:
        stream(client, pairs=("eth-usdt",))
        error = hear(client)["error"]

        assert (error["code"], error["details"]["ageMs"] >= STALE_MS) == ("PRICE_1003", True)


def test_stream_prices_ends_when_cancelled_and_others_go_on(server):
    with open_socket(server) as client:
        stream(client, "a")
        hear(client)
        stream(client, "b")
        hear(client)
        say(client, {"id": "a", "cancel": True})
        assert hear(client) == {"id": "a", "done": True}
        put("6")

        assert hear(client)["id"] == "b"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"input": {"pairs": ["nope"]}}, "PRICE_1001"),
        ({"input": {"pairs": []}}, "VALIDATION_4001"),
        ({"input": None}, "VALIDATION_4001"),
        ({"input": {"pairs": [1]}}, "VALIDATION_4001"),
        ({"method": "getPrice"}, "404"),
        ({"service": "Other"}, "404"),
    ],
)
def test_stream_prices_errors_are_under_its_id(server, change, code):
    with open_socket(server) as client:
        stream(client, **change)
        answer = hear(client)

        assert (answer["id"], answer["error"]["code"]) == ("s", code)


def test_stream_prices_same_id_twice_is_refused(server):
    with open_socket(server) as client:
        stream(client)
        hear(client)
        stream(client)

        assert hear(client)["error"]["code"] == "400"


def test_stream_prices_id_too_long_is_refused(server):
    with open_socket(server) as client:
        stream(client, "s" * 257)

        error = hear(client)["error"]
        assert (error["code"], "256" in error["message"]) == ("BAD_REQUEST", True)


def test_client_that_reads_no_farewell_is_dropped(monkeypatch):
    """What is sent waits for a client that does not read, whatever it said before."""
    monkeypatch.setattr(sockets, "FAREWELL_SECONDS", 0.05)
    dropped = []

    async def scenario():
        async def stuck() -> None:
            await asyncio.Event().wait()

        writing = asyncio.create_task(stuck())
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await sockets._part(writing, lambda: dropped.append(1))
        await asyncio.gather(writing, return_exceptions=True)
        return writing.cancelled()

    before = outbox.DROPPED.labels("websocket")._value.get()
    assert asyncio.run(scenario())
    assert dropped == [1]
    assert outbox.DROPPED.labels("websocket")._value.get() == before + 1


def test_slow_client_is_dropped_and_nobody_waits_for_it(server, monkeypatch):
    monkeypatch.setattr(outbox, "MAX_PENDING_BYTES", 20_000)
    before = outbox.DROPPED.labels("websocket")._value.get()
    filler = tuple(f"exchange{n}" for n in range(2_000))
    with socket.create_connection(("127.0.0.1", server.port)) as slow, open_socket(server) as good:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        slow.sendall(
            b"GET /ws/prices HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b"101" in slow.recv(1_024)
        text = b'{"subscribe":["btc-usdt"]}'
        slow.sendall(bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text)
        say(good, {"subscribe": ["eth-usdt"]})
        hear(good)
        wait_for(lambda: len(server.hub._listeners) == 2)
        while outbox.DROPPED.labels("websocket")._value.get() == before:
            put("1", exchanges=filler)
            put("2", symbol="ETH/USDT")
            assert hear(good)["data"]["price"] == 2

    wait_for(lambda: not server.hub._listeners)
