"""Sockets against a local server that does as it is told."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.protocol import State

from ingestion import ws
from ingestion.adapter import Adapter, Parsed
from ingestion.exchanges import binance
from ingestion.registry import ADAPTERS
from ingestion.ws import Feed, Gate, retry_seconds, socket_url

Handler = Callable[[ServerConnection], Awaitable[None]]


class Ear:
    """A listener that writes everything down."""

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self.events: list[tuple[str, tuple[str, ...]]] = []
        self.refuses = False
        self.replies: tuple[str, ...] = ()

    def heard(
        self, message: str | bytes, state: Mapping[str, object]
    ) -> tuple[Mapping[str, object], Sequence[str], bool]:
        self.messages.append(message)
        return {"count": cast(int, state.get("count", 0)) + 1}, self.replies, self.refuses

    def pause_seconds(self) -> float:
        return 0.0

    def interrupted(self, symbols: Sequence[str], *, why: str) -> None:
        self.events.append(("interrupted", tuple(symbols)))

    def listening(self, symbols: Sequence[str]) -> None:
        self.events.append(("listening", tuple(symbols)))


@asynccontextmanager
async def feed(
    handler: Handler, ear: Ear, *, symbols: Sequence[str] = ("BTCUSDT",), **changes: Any
) -> AsyncIterator[tuple[Feed, list[ServerConnection]]]:
    """A feed, and the connections that its server has had."""
    had: list[ServerConnection] = []

    async def serving(connection: ServerConnection) -> None:
        had.append(connection)
        await handler(connection)

    async with serve(serving, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        facts = {**vars(binance), "WS_URL": f"ws://127.0.0.1:{port}/ws", **changes}
        adapter = cast(Adapter, types.SimpleNamespace(**facts))
        one = Feed(adapter, symbols, listener=ear, gate=Gate())
        task = asyncio.create_task(one.run())
        try:
            yield one, had
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {
        "FIRST_RETRY_SECONDS": 0.05,
        "CONNECT_SPACING_SECONDS": 0.01,
        "OVERLAP_SECONDS": 0.1,
        "READ_SECONDS": 0.4,
        "PROBE_SECONDS": 0.15,
        "CLOSE_SECONDS": 0.2,
    }.items():
        monkeypatch.setattr(ws, name, seconds)


@pytest.mark.parametrize(("failures", "longest"), [(1, 1), (2, 2), (5, 16), (6, 30), (10_000, 30)])
def test_retry_seconds_double_up_to_a_cap_and_are_never_alike(
    failures: int, longest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws, "FIRST_RETRY_SECONDS", 1.0)

    seconds = {retry_seconds(failures) for _ in range(50)}

    assert all(longest / 4 <= each <= longest for each in seconds)
    assert len(seconds) > 1


@pytest.mark.parametrize("exchange", [name for name in ADAPTERS if name != "kucoin"])
def test_socket_url_is_the_exchange_s_own_or_the_simulator_s(exchange: str, settings: Any) -> None:
    adapter = ADAPTERS[exchange]
    settings.SIMULATOR_URL = ""
    assert asyncio.run(socket_url(adapter)) == adapter.WS_URL

    settings.SIMULATOR_URL = "http://127.0.0.1:8001"
    url = asyncio.run(socket_url(adapter))
    assert url.startswith(f"ws://127.0.0.1:8001/{exchange}")
    assert adapter.WS_URL.endswith(url.removeprefix(f"ws://127.0.0.1:8001/{exchange}"))


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ("ws://elsewhere.test:99", "ws://elsewhere.test:99/ws/v5/public"),
        ("wss://elsewhere.test/", "wss://elsewhere.test/ws/v5/public"),
        ("wss://elsewhere.test/other", "wss://elsewhere.test/other"),
    ],
)
def test_socket_url_is_where_the_settings_say(
    configured: str, expected: str, settings: Any
) -> None:
    settings.SIMULATOR_URL = ""
    settings.EXCHANGE_WS_URLS = {"okx": configured}

    assert asyncio.run(socket_url(ADAPTERS["okx"])) == expected
    assert asyncio.run(socket_url(ADAPTERS["kraken"])) == ADAPTERS["kraken"].WS_URL


def test_feed_connects_to_where_the_settings_say(settings: Any) -> None:
    async def scenario() -> None:
        paths: list[str] = []

        async def note(connection: ServerConnection) -> None:
            paths.append(connection.request.path if connection.request else "")
            await connection.wait_closed()

        async with serve(note, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            settings.EXCHANGE_WS_URLS = {"binance": f"ws://127.0.0.1:{port}"}
            one = Feed(ADAPTERS["binance"], ("BTCUSDT",), listener=Ear(), gate=Gate())
            task = asyncio.create_task(one.run())
            await until(lambda: paths)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert paths == ["/ws"]

    settings.SIMULATOR_URL = ""
    asyncio.run(scenario())


def test_socket_url_of_kucoin_keeps_its_token(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SIMULATOR_URL = ""
    settings.EXCHANGE_WS_URLS = {"kucoin": "wss://elsewhere.test"}
    told = Parsed(values=("wss://ws-api-spot.kucoin.com/?token=abc",))
    monkeypatch.setattr(ws, "call", lambda *_, **__: told)

    url = asyncio.run(socket_url(ADAPTERS["kucoin"]))

    assert url.startswith("wss://elsewhere.test/?token=abc&connectId=")


def test_feed_broken_is_opened_again_for_ever() -> None:
    ear = Ear()

    async def hang_up(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send("{}")
        await asyncio.sleep(0.02)
        connection.transport.abort()

    async def scenario() -> None:
        async with feed(hang_up, ear) as (_, had):
            await until(lambda: len(had) >= 4)

    asyncio.run(scenario())
    assert ear.events.count(("interrupted", ("BTCUSDT",))) >= 3


def test_feed_tells_of_an_interruption_before_it_listens_again() -> None:
    ear = Ear()

    async def scenario() -> None:
        async with feed(echo, ear) as (one, had):
            await until(lambda: one.is_up)
            had[0].transport.abort()
            await until(lambda: len(ear.events) == 3)

    asyncio.run(scenario())
    symbols = ("BTCUSDT",)
    assert ear.events == [
        ("listening", symbols),
        ("interrupted", symbols),
        ("listening", symbols),
    ]


def test_feed_quiet_but_alive_is_kept() -> None:
    ear = Ear()

    async def scenario() -> None:
        async with feed(echo, ear) as (one, had):
            await until(lambda: len(ear.messages) >= 6)  # only our own probes come back
            assert (len(had), one.is_up) == (1, True)

    asyncio.run(scenario())
    assert set(ear.messages[1:]) == {binance.WS_PROBE}


def test_feed_silent_for_too_long_is_left_though_its_pongs_come() -> None:
    ear = Ear()

    async def answers_once(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send("{}")
        async for _ in connection:
            pass

    async def scenario() -> None:
        async with feed(answers_once, ear) as (_, had):
            await until(lambda: len(had) >= 2)

    asyncio.run(scenario())


def test_feed_pings_as_the_exchange_wants_whatever_flows() -> None:
    ear, said = Ear(), list[str | bytes]()

    async def busy(connection: ServerConnection) -> None:
        async def read() -> None:
            async for message in connection:
                said.append(message)

        task = asyncio.create_task(read())
        while not task.done():
            await connection.send("{}")
            await asyncio.sleep(0.01)

    async def scenario() -> None:
        async with feed(busy, ear, WS_PING="ping!", WS_PING_INTERVAL_MS=50):
            await until(lambda: said.count("ping!") >= 3)

    asyncio.run(scenario())


def test_feed_renews_with_the_new_socket_open_before_the_old_one_closes() -> None:
    ear, open_now, most = Ear(), [0], [0]

    async def counted(connection: ServerConnection) -> None:
        open_now[0] += 1
        most[0] = max(most[0], open_now[0])
        try:
            await echo(connection)
        finally:
            open_now[0] -= 1

    async def scenario() -> None:
        async with feed(counted, ear, SOCKET_LIFETIME_MS=200) as (_, had):
            await until(lambda: len(had) >= 3)

    asyncio.run(scenario())
    assert most == [2]
    assert ("interrupted", ("BTCUSDT",)) not in ear.events


def test_feed_changed_subscribes_anew_before_it_leaves_the_old_socket() -> None:
    ear = Ear()

    async def scenario() -> None:
        async with feed(echo, ear) as (one, had):
            await until(lambda: one.is_up)
            one.change(["BTCUSDT", "ETHUSDT"])
            await until(lambda: any("ethusdt@trade" in str(each) for each in ear.messages))
            assert len(had) == 2

    asyncio.run(scenario())


def test_feed_whose_new_socket_breaks_at_once_stays_with_the_old_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Left then, it would be a break that nobody is told of."""
    monkeypatch.setattr(ws, "RENEW_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(ws, "OVERLAP_SECONDS", 0.5)
    ear, count = Ear(), [0]

    async def second_breaks(connection: ServerConnection) -> None:
        count[0] += 1
        if count[0] == 2:
            for _ in range(2):  # the subscription, and the probe that makes it speak
                await connection.send(await connection.recv())
            await asyncio.sleep(0.05)
            connection.transport.abort()
        else:
            await echo(connection)

    async def scenario() -> None:
        async with feed(second_breaks, ear) as (one, had):
            await until(lambda: one.is_up)
            one.change(["BTCUSDT", "ETHUSDT"])
            await until(lambda: len(had) == 3 and had[0].state is State.CLOSED)
            assert had[2].state is State.OPEN

    asyncio.run(scenario())
    both = ("BTCUSDT", "ETHUSDT")
    assert ear.events == [
        ("listening", ("BTCUSDT",)),
        ("listening", both),
        ("interrupted", ("ETHUSDT",)),  # the other one was heard all the time
        ("listening", both),
    ]


def test_feed_cancelled_while_it_leaves_a_socket_ends() -> None:
    async def scenario() -> None:
        async with feed(echo, Ear()) as (one, had):
            await until(lambda: one.is_up)
            [(link, serving)] = one._links.items()
            leaving = asyncio.create_task(one._drop(link))
            await asyncio.sleep(0)  # it waits for the socket's task to end
            assert not serving.done()
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            await until(lambda: had[0].state is State.CLOSED)

    asyncio.run(scenario())


def test_feed_refused_as_a_whole_subscribes_one_by_one_once() -> None:
    ear = Ear()
    ear.refuses = True
    symbols = ("ADAUSDT", "BTCUSDT", "ETHUSDT")

    async def scenario() -> None:
        changes = {"ONE_BAD_SYMBOL_REFUSES_ALL": True, "MAX_MESSAGES_PER_SECOND": 200}
        async with feed(echo, ear, symbols=symbols, **changes):
            wanted = {text for each in symbols for text in binance.subscribe_messages([each])}
            await until(lambda: wanted <= set(map(str, ear.messages)))

    asyncio.run(scenario())
    assert ear.messages.count(binance.subscribe_messages(["BTCUSDT"])[0]) == 1


def test_feed_sends_no_faster_than_the_exchange_allows() -> None:
    ear, times = Ear(), list[float]()

    async def clocked(connection: ServerConnection) -> None:
        async for message in connection:
            times.append(asyncio.get_running_loop().time())
            await connection.send(message)

    async def scenario() -> None:
        changes: dict[str, Any] = {
            "subscribe_messages": lambda _: tuple("abcde"),
            "MAX_MESSAGES_PER_SECOND": 20,
        }
        async with feed(clocked, ear, **changes):
            await until(lambda: len(times) >= 5)

    asyncio.run(scenario())
    assert times[4] - times[0] >= 4 / 20 * 0.9


def test_feed_sends_the_replies_that_a_message_asks_for() -> None:
    ear, said = Ear(), list[str | bytes]()
    ear.replies = ("pong!",)

    async def asks(connection: ServerConnection) -> None:
        await connection.send("ping?")
        async for message in connection:
            said.append(message)

    async def scenario() -> None:
        async with feed(asks, ear, MAX_MESSAGES_PER_SECOND=200):
            await until(lambda: "pong!" in said)

    asyncio.run(scenario())


def test_feed_survives_a_message_beyond_all_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws, "MAX_MESSAGE_BYTES", 1_000)
    ear = Ear()

    async def bloated(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send("x" * 2_000)
        async for _ in connection:
            pass

    async def scenario() -> None:
        async with feed(bloated, ear) as (_, had):
            await until(lambda: len(had) >= 2)

    asyncio.run(scenario())
    assert ear.messages == []
