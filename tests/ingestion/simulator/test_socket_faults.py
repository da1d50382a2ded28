"""What the faults do to open sockets."""

import time

import aiohttp
import pytest

from ingestion.simulator.ws import session
from tests.ingestion.simulator.lines import (
    PATHS,
    anything,
    heard_rows,
    quiet,
    run,
    subscribed,
    tape,
    world,
)


def test_dropped_trades_are_not_pushed_but_stay_on_the_tape():
    async def test() -> None:
        async with world() as (universe, client):
            universe.faults.set({"exchange": "okx", "fault": "drop_trades", "value": 0.5})
            async with subscribed(client, "okx") as line:
                rows = await heard_rows(line, "okx", count=60)
            truth = await tape(client, "okx", rows)
            assert all(row in truth for row in rows)
            assert 0.3 < 1 - len(rows) / len(truth) < 0.7

    run(test)


def test_repeated_trades_come_twice():
    async def test() -> None:
        async with world() as (universe, client):
            universe.faults.set({"exchange": "bybit", "fault": "repeat_trades", "value": 1})
            async with subscribed(client, "bybit") as line:
                rows = await heard_rows(line, "bybit", count=60)
            identities = [row["trade_id"] for row in rows]
            assert len(set(identities)) < 45

    run(test)


def test_price_factor_and_clock_skew_bend_pushed_trades():
    async def test() -> None:
        async with world() as (universe, client):
            universe.faults.set({"exchange": "kraken", "fault": "price_factor"})
            universe.faults.set({"exchange": "kraken", "fault": "clock_skew", "value": 5_000})
            async with subscribed(client, "kraken") as line:
                row = (await heard_rows(line, "kraken", count=1))[0]
            question = {"price": row["price"] / 10, "event_ms": row["event_ms"] - 5_000}
            truth = await tape(client, "kraken", [row | question])
            assert row | question in truth

    run(test)


@pytest.mark.parametrize("fault", ["half_open", "freeze"])
def test_half_open_and_freeze_silence_a_socket_without_closing_it(fault, monkeypatch):
    monkeypatch.setattr(session, "SECOND_MS", 50)

    async def test() -> None:
        async with world() as (universe, client), subscribed(client, "okx") as line:
            await heard_rows(line, "okx", count=1)
            universe.faults.set({"exchange": "okx", "fault": fault})
            await quiet(line)
            await line.say("ping")
            await line.socket.ping()
            assert not await anything(line, seconds=0.3)
            universe.faults.clear()
            await heard_rows(line, "okx", count=1)

    run(test)


def test_disconnect_drops_sockets_and_refuses_new_ones():
    async def test() -> None:
        async with world() as (universe, client), subscribed(client, "binance") as line:
            await heard_rows(line, "binance", count=1)
            universe.faults.set({"exchange": "binance", "fault": "disconnect"})
            while (message := await line.raw()).type is aiohttp.WSMsgType.TEXT:
                pass
            assert message.type is not aiohttp.WSMsgType.CLOSE
            with pytest.raises(aiohttp.ClientError):
                await client.ws_connect(PATHS["binance"])
            universe.faults.clear()
            async with subscribed(client, "binance") as again:
                await heard_rows(again, "binance", count=1)

    run(test)


def test_latency_delays_pushed_trades():
    async def test() -> None:
        async with world() as (universe, client):
            universe.faults.set({"exchange": "okx", "fault": "latency", "value": 150})
            async with subscribed(client, "okx") as line:
                row = (await heard_rows(line, "okx", count=1))[0]
                assert time.time_ns() // 1_000_000 - row["event_ms"] >= 150

    run(test)


def test_garbage_ruins_frames_in_turn():
    async def test() -> None:
        async with world() as (universe, client), subscribed(client, "okx") as line:
            await heard_rows(line, "okx", count=1)
            universe.faults.set({"exchange": "okx", "fault": "garbage"})
            bodies = [(await line.raw()).data for _ in range(20)]
            assert "" in bodies and "null" in bodies
            assert any(isinstance(body, bytes) for body in bodies)
            assert any("<html>" in body for body in bodies if isinstance(body, str))

    run(test)


@pytest.mark.parametrize("exchange", ["rate_limit", "error"])
def test_refusing_faults_refuse_the_handshake(exchange):
    async def test() -> None:
        async with world() as (universe, client):
            universe.faults.set({"exchange": "okx", "fault": exchange})
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect(PATHS["okx"])
            assert refused.value.status in (429, 503)

    run(test)
