"""Each fault does to the REST side what it says, and nothing to the tape."""

import asyncio
import json
import time

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from ingestion.simulator.faults import FAULTS, GARBAGE_CYCLE
from ingestion.simulator.server import make_app

TICKERS = {
    "binance": "binance/api/v3/ticker/24hr?symbol=BTCUSDT",
    "upbit": "upbit/v1/ticker?markets=KRW-BTC",
    "kraken": "kraken/0/public/Ticker?pair=XBTUSD",
    "coinbase": "coinbase/products/BTC-USD/ticker",
    "okx": "okx/api/v5/market/ticker?instId=BTC-USDT",
    "bybit": "bybit/v5/market/tickers?category=spot&symbol=BTCUSDT",
    "kucoin": "kucoin/api/v1/market/stats?symbol=BTC-USDT",
}
LAST = {
    "binance": lambda a: a["lastPrice"],
    "upbit": lambda a: a[0]["trade_price"],
    "kraken": lambda a: a["result"]["XXBTZUSD"]["c"][0],
    "coinbase": lambda a: a["price"],
    "okx": lambda a: a["data"][0]["last"],
    "bybit": lambda a: a["result"]["list"][0]["lastPrice"],
    "kucoin": lambda a: a["data"]["last"],
}
STATED_MS = {
    "binance": lambda a: a["closeTime"],
    "upbit": lambda a: a[0]["timestamp"],
    "okx": lambda a: a["data"][0]["ts"],
    "bybit": lambda a: a["time"],
    "kucoin": lambda a: a["data"]["time"],
}


def set_fault(universe, exchange, fault, **more):
    return universe.faults.set({"exchange": exchange, "fault": fault, **more})


@pytest.mark.parametrize(
    "exchange, status, part, retry_after",
    [
        ("binance", 429, '"code":-1003', "7"),
        ("upbit", 429, '"name":429', None),
        ("kraken", 200, "EGeneral:Too many requests", None),
        ("coinbase", 429, "Public rate limit exceeded", "7"),
        ("okx", 429, '"code":"50011"', None),
        ("bybit", 200, '"retCode":10006', None),
        ("kucoin", 429, '"code":"429000"', "7"),
    ],
)
def test_rate_limit_is_the_exchanges_own_answer(ask, universe, exchange, status, part, retry_after):
    set_fault(universe, exchange, "rate_limit", value=7)
    answer = ask(TICKERS[exchange])
    assert (answer.status, answer.headers.get("retry-after")) == (status, retry_after)
    assert part in answer.body.decode()


def test_rate_limit_bodies_are_the_recorded_ones(ask, universe, recorded):
    set_fault(universe, "*", "rate_limit")
    for name, exchange in [
        ("kraken/error_2.json", "kraken"),
        ("coinbase/error_2.json", "coinbase"),
        ("okx/error_2.json", "okx"),
        ("kucoin/error_2.json", "kucoin"),
    ]:
        assert ask(TICKERS[exchange]).json == recorded(name)
    bybit = ask(TICKERS["bybit"])
    assert bybit.json == recorded("bybit/error_2.json") | {"time": bybit.json["time"]}
    assert int(bybit.headers["x-bapi-limit-reset-timestamp"]) == bybit.json["time"] + 5_000


@pytest.mark.parametrize("value, status", [(None, 503), (502, 502)])
def test_error_is_a_cdn_page(ask, universe, value, status):
    set_fault(universe, "okx", "error", value=value)
    answer = ask(TICKERS["okx"])
    assert (answer.status, answer.headers["content-type"][:9]) == (status, "text/html")
    assert answer.body.startswith(b"<html>")


def test_fault_of_one_exchange_leaves_the_others_alone(ask, universe):
    set_fault(universe, "okx", "error")
    assert ask(TICKERS["bybit"]).status == 200
    assert ask("control/health").json["faults"] == 1


def test_latency_delays_the_answer(ask, universe):
    set_fault(universe, "binance", "latency", value=120)
    started = time.monotonic()
    assert ask(TICKERS["binance"]).status == 200
    assert time.monotonic() - started >= 0.12


def test_garbage_takes_turns(ask, universe):
    good = ask(TICKERS["kraken"]).body
    set_fault(universe, "*", "garbage")
    answers = [ask(TICKERS["kraken"]) for _ in GARBAGE_CYCLE]
    bodies = [answer.body for answer in answers]
    assert {answer.status for answer in answers} == {200}
    html, half, noise, empty, null, types = bodies
    assert html.startswith(b"<html>")
    assert half == good[: len(good) // 2]
    assert (empty, null) == (b"", b"null")
    with pytest.raises(UnicodeDecodeError):
        noise.decode()
    assert json.loads(types)["result"]["XXBTZUSD"]["t"] == ["not a number"] * 2
    assert ask(TICKERS["kraken"]).body.startswith(b"<html>")
    assert ask(TICKERS["okx"]).body.startswith(b"<html>")


@pytest.mark.parametrize("exchange", TICKERS)
def test_garbage_nan_and_negative_are_well_formed_with_bad_prices(ask, universe, exchange):
    good = LAST[exchange](ask(TICKERS[exchange]).json)
    set_fault(universe, exchange, "garbage", value="nan")
    assert str(LAST[exchange](ask(TICKERS[exchange]).json)).lower() == "nan"
    set_fault(universe, exchange, "garbage", value="negative")
    assert float(LAST[exchange](ask(TICKERS[exchange]).json)) == -float(good)


@pytest.mark.parametrize("exchange", STATED_MS)
def test_garbage_tomorrow_moves_every_time_by_a_day(ask, universe, exchange):
    today = int(STATED_MS[exchange](ask(TICKERS[exchange]).json))
    set_fault(universe, exchange, "garbage", value="tomorrow")
    assert int(STATED_MS[exchange](ask(TICKERS[exchange]).json)) == today + 86_400_000


def test_garbage_tomorrow_moves_candles_too(ask, universe):
    today = ask("binance/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=3").json
    set_fault(universe, "binance", "garbage", value="tomorrow")
    tomorrow = ask("binance/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=3").json
    assert [r[0] for r in tomorrow] == [r[0] + 86_400_000 for r in today]


@pytest.mark.parametrize("exchange", TICKERS)
def test_price_factor_multiplies_what_the_wire_says(ask, universe, exchange):
    good = float(LAST[exchange](ask(TICKERS[exchange]).json))
    set_fault(universe, exchange, "price_factor")
    assert float(LAST[exchange](ask(TICKERS[exchange]).json)) == pytest.approx(10 * good)
    set_fault(universe, exchange, "price_factor", value=0.5)
    assert float(LAST[exchange](ask(TICKERS[exchange]).json)) == pytest.approx(good / 2, rel=1e-4)


def test_price_factor_leaves_the_tape_alone(ask, universe, now_ms):
    question = f"control/tape?exchange=okx&symbol=BTC-USDT&from_ms={now_ms - 9_000}&to_ms={now_ms}"
    before = ask(question).body
    trades = "okx/api/v5/market/trades?instId=BTC-USDT&limit=1"
    price = float(ask(trades).json["data"][0]["px"])
    set_fault(universe, "okx", "price_factor")
    set_fault(universe, "okx", "clock_skew")
    assert ask(question).body == before
    assert float(ask(trades).json["data"][0]["px"]) == pytest.approx(10 * price)


@pytest.mark.parametrize("exchange", STATED_MS)
def test_clock_skew_shifts_the_stated_time(ask, universe, exchange):
    before = int(STATED_MS[exchange](ask(TICKERS[exchange]).json))
    set_fault(universe, exchange, "clock_skew", value=-5_000)
    assert int(STATED_MS[exchange](ask(TICKERS[exchange]).json)) == before - 5_000


def test_freeze_repeats_the_body_of_the_moment_it_was_set(universe, session_universe):
    async def bodies() -> list[bytes]:
        now = [1_795_251_645_678]
        universe.clock, universe.faults._clock = lambda: now[0], lambda: now[0]
        async with TestClient(TestServer(make_app(universe))) as client:
            seen = [await text(client, TICKERS["binance"])]
            set_fault(universe, "binance", "freeze")
            for seconds in (1, 90):
                now[0] += seconds * 1_000
                seen.append(await text(client, TICKERS["binance"]))
            universe.faults.clear()
            seen.append(await text(client, TICKERS["binance"]))
        return seen

    clock, board_clock = universe.clock, universe.faults._clock
    try:
        first, later, latest, thawed = asyncio.run(bodies())
    finally:
        universe.clock, universe.faults._clock = clock, board_clock
    assert first == later == latest != thawed


async def text(client, path: str) -> bytes:
    async with client.get(f"/{path}") as response:
        return bytes(await response.read())


def test_disconnect_closes_without_an_answer(ask, universe):
    set_fault(universe, "kucoin", "disconnect")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        ask(TICKERS["kucoin"])


def test_half_open_never_answers_and_cuts_when_the_fault_ends(universe):
    async def run() -> None:
        async with TestClient(TestServer(make_app(universe))) as client:
            set_fault(universe, "okx", "half_open")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(text(client, TICKERS["okx"]), 0.1)
            waiting = asyncio.create_task(text(client, TICKERS["okx"]))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            universe.faults.clear()
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await asyncio.wait_for(waiting, 5)

    asyncio.run(run())


def test_fault_ends_by_itself_after_its_seconds(universe):
    now = [1_000]
    board = type(universe.faults)(clock=lambda: now[0])
    fault = board.set({"exchange": "okx", "fault": "error", "seconds": 2})
    now[0] = 2_999
    assert board.get("okx", "error") is fault
    now[0] = 3_000
    assert board.get("okx", "error") is None
    assert board.active() == [] and fault.ended.is_set()


def test_setting_a_fault_again_replaces_it(universe):
    set_fault(universe, "okx", "latency", value=1)
    set_fault(universe, "okx", "latency", value=2)
    assert [fault.value for fault in universe.faults.active()] == [2]


def test_every_fault_has_a_default_value(universe):
    for name in FAULTS:
        set_fault(universe, "*", name)
    assert len(universe.faults.active()) == len(FAULTS)
