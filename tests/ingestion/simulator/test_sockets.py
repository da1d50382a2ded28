"""The sockets: what they say equals the tape, in each exchange's own words and rules."""

import asyncio
import json
import time

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from ingestion.simulator import sockets
from ingestion.simulator.markets import default_markets
from ingestion.simulator.server import make_app
from ingestion.simulator.venue import Universe
from ingestion.simulator.ws import binance, bybit, coinbase, kraken, kucoin, okx, session, upbit
from tests.ingestion.simulator.lines import (
    SUBSCRIBES,
    SYMBOLS,
    Line,
    connected,
    heard_rows,
    rows_of,
    run,
    shape,
    subscribed,
    tape,
    world,
)


@pytest.mark.parametrize("exchange", SYMBOLS)
def test_pushed_trades_are_those_of_the_tape_without_hole_or_repeat(exchange):
    async def test() -> None:
        async with world() as (_, client), subscribed(client, exchange) as line:
            rows = await heard_rows(line, exchange, count=40)
            truth = await tape(client, exchange, rows)
            # A burst may have begun before the subscription or be cut by the last message.
            first = truth.index(rows[0])
            assert rows == truth[first : first + len(rows)]

    run(test)


@pytest.mark.parametrize("exchange", SYMBOLS)
def test_trades_are_pushed_when_they_happen(exchange):
    async def test() -> None:
        async with world(rate=300) as (_, client), subscribed(client, exchange) as line:
            rows = await heard_rows(line, exchange, count=1)
            now_ms = time.time_ns() // 1_000_000
            assert 0 <= now_ms - rows[-1]["event_ms"] < 1_000

    run(test)


RECORDED_TRADES = [
    ("upbit", "upbit/ws_trades_2.jsonl", 0),
    ("kraken", "kraken/ws_trades_1.jsonl", 0),
    ("coinbase", "coinbase/ws_trades_1.jsonl", 5),
    ("okx", "okx/ws_trades_2.jsonl", 0),
    ("bybit", "bybit/ws_trades_1.jsonl", 7),
    ("kucoin", "kucoin/ws_trades_1.jsonl", 14),
]


@pytest.mark.parametrize("exchange, name, line_number", RECORDED_TRADES)
def test_trade_message_has_the_recorded_fields_and_types(exchange, name, line_number, recorded):
    expected = shape(recorded(name)[line_number])

    async def test() -> None:
        async with world() as (_, client), subscribed(client, exchange) as line:
            message = await line.hear_until(lambda m: bool(rows_of(exchange, m)))
            assert shape(message) == expected

    run(test)


def test_binance_combined_stream_has_the_recorded_envelope(recorded):
    expected = shape(recorded("binance/ws_trades_1.jsonl")[0])

    async def test() -> None:
        path = "/binance/stream?streams=btcusdt@trade/ethusdt@trade"
        async with world() as (_, client), client.ws_connect(path) as socket:
            line = Line(client, socket)
            seen = {(await line.hear())["stream"] for _ in range(60)}
            assert seen == {"btcusdt@trade", "ethusdt@trade"}
            assert shape(await line.hear()) == expected

    run(test)


def test_binance_subscribes_lists_unsubscribes_and_refuses_as_recorded(recorded):
    accepted = recorded("binance/doc_ws_control_1.jsonl")[0]
    refused = recorded("binance/ws_control_1.jsonl")[0]

    async def test() -> None:
        async with world(rate=1) as (_, client), client.ws_connect("/binance/ws") as socket:
            line = Line(client, socket)
            await line.say({"method": "SUBSCRIBE", "params": ["grtusdt@trade"], "id": 1})
            assert await line.hear() == accepted
            await line.say({"method": "LIST_SUBSCRIPTIONS", "id": 3})
            assert await line.hear() == {"result": ["grtusdt@trade"], "id": 3}
            await line.say({"method": "SUBSCRIBE", "params": ["GRTUSDT/trade"], "id": 2})
            assert await line.hear() == refused
            await line.say({"method": "UNSUBSCRIBE", "params": ["grtusdt@trade"], "id": 1})
            assert await line.hear() == accepted
            await line.say("not json")
            assert (await line.hear())["error"]["code"] == 2

    run(test)


def test_binance_pings_and_leaves_a_client_that_never_answers(monkeypatch):
    monkeypatch.setattr(session, "SECOND_MS", 50)
    monkeypatch.setitem(sockets.PING_EVERY_MS, "binance", 200)
    monkeypatch.setattr(binance, "PING_EVERY_MS", 200)
    monkeypatch.setattr(binance, "PONG_WITHIN_MS", 200)

    async def test() -> None:
        async with world(rate=1) as (_, client):
            path = "/binance/ws/grtusdt@trade"
            async with client.ws_connect(path, autoping=False) as socket:
                line = Line(client, socket)
                kinds = [(await line.raw()).type for _ in range(3)]
                assert kinds[0] is aiohttp.WSMsgType.PING
                assert aiohttp.WSMsgType.CLOSE in kinds

    run(test)


def test_upbit_frames_are_binary_with_a_snapshot_first_and_resubscribing_replaces():
    async def test() -> None:
        async with world() as (_, client), connected(client, "upbit") as line:
            both = {"type": "trade", "codes": ["KRW-BTC", "krw-eth", "KRW-NOTACOIN"]}
            await line.say([{"ticket": "t"}, both])
            first = await line.raw()
            assert first.type is aiohttp.WSMsgType.BINARY
            assert json.loads(first.data)["stream_type"] == "SNAPSHOT"
            assert {(await line.hear())["code"] for _ in range(20)} == {"KRW-BTC"}
            other = {"type": "trade", "codes": ["KRW-ETH"], "is_only_realtime": True}
            await line.say([{"ticket": "t"}, other, {"format": "SIMPLE"}])
            await line.hear_until(lambda m: m.get("cd") == "KRW-ETH")
            messages = [await line.hear() for _ in range(20)]
            assert {m["cd"] for m in messages} == {"KRW-ETH"}
            assert {m["st"] for m in messages} == {"REALTIME"}
            assert len(str(messages[0]["sid"])) == 17

    run(test)


def test_upbit_answers_ping_and_refuses_without_a_ticket_as_recorded(recorded):
    up, refused = recorded("upbit/ws_control_1.jsonl")

    async def test() -> None:
        async with world(rate=1) as (_, client), connected(client, "upbit") as line:
            await line.say("PING")
            assert await line.hear() == up
            await line.say([{"type": "trade", "codes": ["KRW-BTC"]}])
            assert await line.hear() == refused
            assert (await line.raw()).type is aiohttp.WSMsgType.CLOSE
            assert line.socket.close_code == 1000

    run(test)


def test_kraken_greets_acknowledges_and_beats_as_recorded(recorded, monkeypatch):
    monkeypatch.setattr(session, "SECOND_MS", 200)
    control = recorded("kraken/ws_control_1.jsonl")

    async def test() -> None:
        async with world(rate=1) as (_, client), connected(client, "kraken") as line:
            assert shape(await line.hear()) == shape(control[0])
            params = {"channel": "trade", "symbol": ["GRT/USD", "XBT/USD"], "snapshot": False}
            await line.say({"method": "subscribe", "params": params})
            assert shape(await line.hear()) == shape(control[3])
            refusal = await line.hear()
            assert refusal["error"] == "Currency pair not supported XBT/USD"
            assert refusal["success"] is False
            assert await line.hear_until(lambda m: m.get("channel") == "heartbeat") == control[5]
            await line.say({"method": "ping", "req_id": 9})
            pong = await line.hear_until(lambda m: m.get("method") == "pong")
            assert pong["req_id"] == 9

    run(test)


def test_kraken_tells_several_trades_in_one_message_and_a_snapshot_when_asked():
    async def test() -> None:
        async with world() as (_, client), connected(client, "kraken") as line:
            params = {"channel": "trade", "symbol": ["BTC/USD"], "snapshot": True}
            await line.say({"method": "subscribe", "params": params})
            snapshot = await line.hear_until(lambda m: m.get("type") == "snapshot")
            assert len(snapshot["data"]) == 50
            await line.hear_until(lambda m: m.get("type") == "update" and len(m["data"]) > 1)

    run(test)


def test_coinbase_tells_the_last_match_first_and_beats_each_second(recorded):
    control = recorded("coinbase/ws_control_1.jsonl")

    async def test() -> None:
        async with world() as (_, client), connected(client, "coinbase") as line:
            channels = ["matches", {"name": "heartbeat", "product_ids": ["GRT-USD"]}]
            body = {"type": "subscribe", "product_ids": ["BTC-USD"], "channels": channels}
            await line.say(body)
            assert shape(await line.hear()) == shape(control[0])
            last = await line.hear()
            match = await line.hear_until(lambda m: m["type"] == "match")
            assert last["type"] == "last_match"
            assert match["trade_id"] == last["trade_id"] + 1
            beat = await line.hear_until(lambda m: m["type"] == "heartbeat")
            assert shape(beat) == shape(control[1])
            assert beat["product_id"] == "GRT-USD"

    run(test)


def test_coinbase_one_bad_product_voids_the_whole_subscribe(recorded):
    expected = shape(recorded("coinbase/ws_control_1.jsonl")[-1])

    async def test() -> None:
        async with world() as (_, client), connected(client, "coinbase") as line:
            products = ["BTC-USD", "NOTACOIN-USD"]
            body = {"type": "subscribe", "product_ids": products, "channels": ["matches"]}
            await line.say(body)
            answer = await line.hear()
            assert shape(answer) == expected
            assert answer["reason"] == "NOTACOIN-USD is not a valid product"
            await line.say({"type": "unsubscribe", "product_ids": [], "channels": ["matches"]})
            assert (await line.hear())["type"] == "error"

    run(test)


def test_okx_acknowledges_each_argument_and_answers_the_text_ping(recorded):
    control = recorded("okx/ws_control_1.jsonl")

    async def test() -> None:
        async with world(rate=1) as (_, client), connected(client, "okx") as line:
            names = ("GRT-USDT", "LTC-USD")
            arguments = [{"channel": "trades", "instId": name} for name in names]
            await line.say({"op": "subscribe", "args": arguments})
            assert shape(await line.hear()) == shape(control[7])
            refusal = await line.hear()
            assert refusal["msg"] == "channel:trades,instId:LTC-USD doesn't exist"
            assert set(refusal) >= set(control[6]) and refusal["code"] == "60018"
            await line.say("ping")
            assert (await line.raw()).data == "pong"

    run(test)


def test_bybit_acknowledges_the_request_and_refuses_a_bad_topic_whole(recorded):
    accepted, pong = recorded("bybit/ws_control_1.jsonl")
    refused = recorded("bybit/doc_ws_control_1.jsonl")[0]

    async def test() -> None:
        async with world(rate=1) as (_, client), connected(client, "bybit") as line:
            await line.say({"op": "subscribe", "args": ["publicTrade.GRTUSDT"]})
            assert shape(await line.hear()) == shape(accepted)
            await line.say({"op": "ping"})
            assert await line.hear() == pong
            topics = ["publicTrade.ETHUSDT", "publicTrade.NOTACOIN"]
            await line.say({"op": "subscribe", "args": topics})
            answer = await line.hear()
            assert shape(answer) == shape(refused)
            assert answer["ret_msg"] == "Invalid topic: publicTrade.NOTACOIN"
            eleven = [f"publicTrade.{coin}USDT" for coin in "ABCDEFGHIJK"]
            await line.say({"op": "subscribe", "args": eleven})
            assert (await line.hear())["ret_msg"] == "args size >10"

    run(test)


def test_kucoin_welcomes_acknowledges_pongs_and_refuses(recorded):
    control = recorded("kucoin/ws_control_1.jsonl")

    async def test() -> None:
        async with world(rate=1) as (_, client), connected(client, "kucoin") as line:
            assert await line.hear() == {"id": "abc", "type": "welcome"}
            await line.say(SUBSCRIBES["kucoin"] | {"topic": "/market/match:GRT-USDT,BAT-USDT"})
            assert await line.hear() == control[1]
            await line.say({"id": "7", "type": "ping"})
            pong = await line.hear()
            assert (pong["id"], pong["type"]) == ("7", control[5]["type"])
            await line.say(SUBSCRIBES["kucoin"] | {"topic": "/market/match:NOTACOIN-USDT"})
            refusal = await line.hear()
            assert shape(refusal) == shape(control[6]) and refusal["code"] == 404

    run(test)


def test_kucoin_needs_a_token_of_its_own():
    async def test() -> None:
        path = "/kucoin/ws?token=stale&connectId=x"
        async with world(rate=1) as (_, client), client.ws_connect(path) as socket:
            line = Line(client, socket)
            assert (await line.hear())["code"] == 401
            assert (await line.raw()).type is aiohttp.WSMsgType.CLOSE

    run(test)


@pytest.mark.parametrize(
    "exchange, module, name, words",
    [
        ("okx", okx, "IDLE_MS", 0),
        ("bybit", bybit, "IDLE_MS", 0),
        ("kraken", kraken, "IDLE_MS", 1),
        ("upbit", upbit, "IDLE_MS", 0),
        ("coinbase", coinbase, "SUBSCRIBE_WITHIN_MS", 0),
        ("kucoin", kucoin, "PING_WITHIN_MS", 2),
    ],
)
def test_silent_client_is_left_in_the_end(monkeypatch, exchange, module, name, words):
    monkeypatch.setattr(session, "SECOND_MS", 50)
    monkeypatch.setattr(module, name, 300)

    async def test() -> None:
        async with world(rate=1) as (_, client), connected(client, exchange) as line:
            said = [await line.hear() for _ in range(words)]
            assert (await line.raw()).type is aiohttp.WSMsgType.CLOSE
            if exchange == "kucoin":
                assert said[-1]["data"] == "ping timeout"

    run(test)


def test_server_going_down_says_goodbye():
    async def test() -> None:
        universe = Universe(markets=default_markets(), seed=7, rate_per_minute=1)
        server = TestServer(make_app(universe))
        async with TestClient(server) as client:
            async with connected(client, "okx") as line:
                await line.say("ping")
                assert (await line.raw()).data == "pong"
                closing = asyncio.create_task(server.close())
                assert (await line.raw()).type is aiohttp.WSMsgType.CLOSE
                assert line.socket.close_code == 1001
            await closing

    run(test)
