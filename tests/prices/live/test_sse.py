"""Server-sent events: every update to every client, whatever the others do."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from oracle.jsontext import decode
from prices.live import hub as hubs
from tests.prices.live.conftest import put, wait_for

PATH = "/api/v1/stream"


@pytest.fixture(autouse=True)
def no_limit(settings):
    settings.RATE_LIMIT_PER_MINUTE = 100_000
    settings.STREAMS_PER_ADDRESS = 1_000


class Events:
    """One client: its status, headers, and the events that came."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def head(self):
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        self.status = int(text.split()[1])
        return text

    async def chunk(self):
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        data = await self.reader.readexactly(size + 2)
        return data[:-2]

    async def events(self, count):
        """The next ``count`` events: (id, data)."""
        found: list[tuple[str, dict]] = []
        while len(found) < count:
            for block in (await self.chunk()).decode().split("\n\n"):
                fields = dict(line.split(": ", 1) for line in block.split("\n") if line)
                if fields.get("event") == "price":
                    found.append((fields["id"], decode(fields["data"])))
        return found


@asynccontextmanager
async def listening(server, query="", **headers):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    writer.write(f"GET {PATH}{query} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode())
    client = Events(reader, writer)
    try:
        yield client
    finally:
        writer.close()


def run(scenario):
    async def within():
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(within())


def clients_of(server):
    return len(server.hub._listeners)


def test_stream_begins_with_what_is_known_and_goes_on(server):
    async def scenario():
        async with listening(server, "?symbols=btc-usdt,PEPEUSDT") as client:
            head = await client.head()
            first = await client.events(2)
            put("7", symbol="ETH/USDT")
            put("8")
            ((event_id, data),) = await client.events(1)

            assert "text/event-stream" in head
            assert "no-store" in head
            assert [body["symbol"] for _, body in first] == ["BTC/USDT", "PEPE/USDT"]
            assert (data["symbol"], data["price"], data["status"]) == ("BTC/USDT", 8, "fresh")
            assert event_id.split("-")[0] == server.hub.boot

    run(scenario)


def test_stream_without_symbols_is_all(server):
    async def scenario():
        async with listening(server) as client:
            await client.head()
            await client.events(2)
            put("5", symbol="ETH/USDT")
            ((_, data),) = await client.events(1)

            assert data["symbol"] == "ETH/USDT"

    run(scenario)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("?symbols=nope", 404, "SYMBOL_UNKNOWN"),
        ("?symbols=btc-usdt,nope", 404, "SYMBOL_UNKNOWN"),
        ("?symbols=", 400, "INVALID_PARAMETER"),
        (f"?symbols={','.join(map(str, range(1_001)))}", 400, "BAD_REQUEST"),
        ("?symbols=btc-usdt,,", 400, "INVALID_PARAMETER"),
    ],
)
def test_stream_of_unknown_symbols_does_not_begin(server, query, status, code):
    answer = server.get(f"{PATH}{query}")

    assert (answer.status_code, decode(answer.content)["error"]["code"]) == (status, code)


def test_stream_is_only_read(server):
    assert server.post(PATH, {}).status_code == 405


def test_stream_resumes_where_it_was_left(server):
    async def scenario():
        async with listening(server, "?symbols=btc-usdt") as client:
            await client.head()
            await client.events(1)
            put("1")
            ((last_id, _),) = await client.events(1)
        for value in ("2", "3", "4"):
            put(value)
        wait_for(lambda: server.hub.number >= int(last_id.split("-")[1]) + 3)
        async with listening(server, "?symbols=btc-usdt", Last_Event_ID=last_id) as client:
            await client.head()
            missed = await client.events(3)

            assert [data["price"] for _, data in missed] == [2, 3, 4]

    run(scenario)


@pytest.mark.parametrize("last_id", ["", "x", "x-1", "-", "{boot}-", "{boot}-99999", "{boot}-1e9"])
def test_stream_with_an_id_of_no_use_begins_anew(server, last_id):
    async def scenario():
        sent = last_id.format(boot=server.hub.boot)
        async with listening(server, "?symbols=btc-usdt", Last_Event_ID=sent) as client:
            await client.head()
            ((_, data),) = await client.events(1)

            assert data["symbol"] == "BTC/USDT"

    run(scenario)


def test_stream_beats_while_nothing_happens(server, monkeypatch):
    async def scenario():
        async with listening(server, "?symbols=btc-usdt") as client:
            await client.head()
            await client.events(1)
            listeners = list(server.hub._listeners)
            server.loop.call_soon_threadsafe(listeners[0].beat)

            assert await client.chunk() == b": still here\n\n"

    run(scenario)


async def crowd(server, stack, count):
    clients = [
        await stack.enter_async_context(listening(server, "?symbols=btc-usdt"))
        for _ in range(count)
    ]
    for client in clients:
        await client.head()
        await client.events(1)
    return clients


async def until_there_are(server, count):
    while clients_of(server) != count:
        await asyncio.sleep(0.01)


def test_every_client_gets_every_update_though_some_leave(server):
    """200 clients stay, 50 leave in the middle, 20 never read: the 200 miss nothing."""

    async def scenario():
        async with AsyncExitStack() as stack:
            staying = await crowd(server, stack, 200)
            await crowd(server, stack, 20)
            async with AsyncExitStack() as leaving:
                await crowd(server, leaving, 50)
                for number in range(1, 6):
                    put(str(number))
            await until_there_are(server, 220)
            for number in range(6, 11):
                put(str(number))
            got = await asyncio.gather(*(client.events(10) for client in staying))

            prices = [[data["price"] for _, data in events] for events in got]
            assert prices == [list(range(1, 11))] * 200
        await until_there_are(server, 0)

    run(scenario)


def test_slow_client_is_dropped_and_nobody_waits_for_it(server, monkeypatch):
    from prices.live import outbox

    monkeypatch.setattr(outbox, "MAX_PENDING_BYTES", 20_000)
    before = outbox.DROPPED.labels("sse")._value.get()
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    slow.connect(("127.0.0.1", server.port))
    slow.sendall(f"GET {PATH}?symbols=btc-usdt HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    wait_for(lambda: clients_of(server) == 1)

    async def scenario():
        async with listening(server, "?symbols=eth-usdt") as client:
            await client.head()
            await client.chunk()
            filler = tuple(f"exchange{n}" for n in range(2_000))
            while outbox.DROPPED.labels("sse")._value.get() == before:
                put("1", exchanges=filler)
                put("2", symbol="ETH/USDT")
                ((_, data),) = await client.events(1)
                assert data["price"] == 2

    run(scenario)
    wait_for(lambda: clients_of(server) == 0)
    slow.close()


def test_full_house_is_503(server, monkeypatch):
    monkeypatch.setattr(hubs, "MAX_CLIENTS", 0)
    answer = server.get(f"{PATH}?symbols=btc-usdt")

    assert (answer.status_code, decode(answer.content)["error"]["code"]) == (503, "STREAMS_FULL")


def test_limit_counts_streams(server, settings):
    settings.RATE_LIMIT_PER_MINUTE = 1
    server.get(f"{PATH}?symbols=nope")

    assert server.get(f"{PATH}?symbols=btc-usdt").status_code == 429


def test_sigterm_ends_streams_at_once(prices, redis_prefix, settings):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = os.environ | {"REDIS_PREFIX": redis_prefix, "LOG_LEVEL": "warning"}
    process = subprocess.Popen(
        (sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", str(port)),
        env=environment,
        stderr=subprocess.PIPE,
    )

    def connected():
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5)
        except OSError:
            return None

    connection = wait_for(connected, seconds=30)
    connection.sendall(f"GET {PATH}?symbols=btc-usdt HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    text = b""
    while b"event: price" not in text:
        text += connection.recv(65_536)
    process.send_signal(signal.SIGTERM)
    while data := connection.recv(65_536):
        text += data
    errors = process.communicate(timeout=3)[1].decode()
    connection.close()

    assert text.endswith(b"0\r\n\r\n")
    assert "Traceback" not in errors
    assert "Cancel" not in errors
