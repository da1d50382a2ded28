"""The subscription: quiet is not lost, lost is made again, and what was missed is loaded."""

from __future__ import annotations

import asyncio

import pytest

from oracle import keys
from oracle.connection import redis_client
from prices.live import feed as feeds
from prices.live.board import Board
from prices.live.feed import LOST, Feed, connect
from prices.live.hub import Hub
from tests.prices.live.conftest import now_ms, put


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(feeds, "EVERY_SECONDS", 0.05)
    monkeypatch.setattr(feeds, "SILENT_SECONDS", 0.4)


def run(scenario):
    async def within():
        client = connect()
        board = Board(client, Hub(lambda value: b"").publish)
        feed = Feed(board)
        task = asyncio.create_task(feed.run())
        try:
            async with asyncio.timeout(10):
                await feed.subscribed.wait()
                await scenario(board)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await feed.close()
            await client.aclose()

    asyncio.run(within())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)


def price_of(board):
    entry = board.price("BTC/USDT", now_ms())
    return entry and int(entry.published.price)


def test_quiet_subscription_is_kept_by_pings(prices, fast):
    async def scenario(board):
        before = LOST._value.get()
        await asyncio.sleep(3 * feeds.SILENT_SECONDS)  # the quiet is what is tested
        assert (LOST._value.get(), board.is_subscribed) == (before, True)
        put("5")
        await until(lambda: price_of(board) == 5)

    run(scenario)


def test_killed_subscription_is_made_again_and_the_gap_loaded(prices, fast):
    async def scenario(board):
        redis_client().execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: not board.is_subscribed)
        put("6")
        await until(lambda: price_of(board) == 6)
        await until(lambda: board.is_subscribed)
        put("7")
        await until(lambda: price_of(board) == 7)

    run(scenario)


def test_catalogue_of_the_other_world_is_not_taken(prices, fast, settings):
    async def scenario(board):
        names = board.names
        redis_client().set(keys.catalog(), b'{"symbols":[],"simulated":true}')
        redis_client().set(keys.catalog_version(), b"other")
        await asyncio.sleep(4 * feeds.EVERY_SECONDS)
        assert board.names == names

    run(scenario)


def test_price_of_the_other_world_is_not_taken(prices, fast):
    async def scenario(board):
        hub = board._on_update.__self__
        put("5", simulated=True)
        put("6")
        await until(lambda: price_of(board) == 6)
        streamed = [int(update.entry.published.price) for update in hub._kept]
        assert (streamed[-1], 5 in streamed) == (6, False)

    run(scenario)


def test_without_a_catalogue_clients_are_told_to_come_back(redis_prefix):
    from tests.prices.live.conftest import serving

    with serving() as server:
        stream = server.get("/api/v1/stream?symbols=btc-usdt")
        call = {
            "id": "1",
            "service": "PricesService",
            "method": "getPrice",
            "input": {"pair": "btc-usdt"},
        }
        invoked = server.post("/netron/invoke", call)

    assert (stream.status_code, invoked.status_code) == (503, 503)
    assert invoked.json()["error"]["code"] == "SYSTEM_5002"
