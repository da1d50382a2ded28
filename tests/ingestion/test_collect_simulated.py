"""Collecting from the simulated exchanges over real sockets, with everything that goes wrong.

In this process; what is in the log is measured by the tape (`tests.ingestion.collected`).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import requests
from redis.exceptions import RedisError

from ingestion import holes, ws
from ingestion.adapter import Parsed
from ingestion.collector import role_of, stand_by
from ingestion.outbox import Outbox
from ingestion.registry import ADAPTERS
from oracle import heartbeat, keys, leader, metrics, trade_log
from oracle.connection import redis_client
from tests.ingestion.collected import SYMBOLS, check, entries, logged, no_open_hole
from tests.ingestion.simulated import simulator as simulating
from tests.ingestion.simulated import suffer

COUNTED = [name for name in SYMBOLS if ADAPTERS[name].TRADE_IDS_CONTIGUOUS]
RECENT = [name for name in SYMBOLS if not ADAPTERS[name].TRADE_IDS_CONTIGUOUS]

every_exchange = pytest.mark.parametrize("exchange", SYMBOLS)


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    with simulating("--rate-per-minute", "600") as url:
        yield url


@pytest.fixture(autouse=True)
def simulated(simulator: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    settings.SIMULATOR_URL = simulator
    settings.LEASE_TTL_MS, settings.LEASE_HEARTBEAT_MS = 3_000, 500
    monkeypatch.setattr(ws, "FIRST_RETRY_SECONDS", 0.2)
    yield simulator
    requests.delete(f"{simulator}/control/faults", timeout=5)


def heal(simulator: str, exchange: str) -> None:
    requests.delete(f"{simulator}/control/faults?exchange={exchange}", timeout=5)


@asynccontextmanager
async def collecting(exchange: str, symbols: Any = None) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    wanted = symbols or (lambda: SYMBOLS[exchange])
    task = asyncio.create_task(stand_by(ADAPTERS[exchange], wanted, stop=stop))
    try:
        yield stop
    finally:
        stop.set()
        await task


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < end, "condition not met in time"
        await asyncio.sleep(0.02)


async def more(exchange: str, count: int = 5) -> None:
    """Wait for so many more trades of each symbol."""
    before = Counter(trade.exchange_symbol for trade in await asyncio.to_thread(entries, exchange))

    def grown() -> bool:
        now = Counter(trade.exchange_symbol for trade in entries(exchange))
        return all(now[symbol] >= before[symbol] + count for symbol in SYMBOLS[exchange])

    await until(grown)


@every_exchange
def test_collect_logs_the_tape_exactly(exchange: str, simulated: str) -> None:
    async def scenario() -> None:
        async with collecting(exchange):
            await more(exchange, 20)

    asyncio.run(scenario())

    check(simulated, exchange, complete=True)
    assert trade_log.holes(exchange) == []
    assert leader.holder(role_of(exchange)) is None
    beat = heartbeat.last([role_of(exchange)])[role_of(exchange)]
    assert beat["symbols"] == 2


async def collect_through(simulator: str, exchange: str, fault: str, *, seconds: float) -> None:
    """Collect before, while and after the sockets suffer, until nothing is to be fetched."""
    async with collecting(exchange):
        await more(exchange)
        await asyncio.to_thread(suffer, simulator, exchange, fault, seconds=seconds)
        await more(exchange, 20)
        await until(lambda: no_open_hole(exchange))


@every_exchange
def test_collect_after_a_disconnect_misses_nothing(exchange: str, simulated: str) -> None:
    asyncio.run(collect_through(simulated, exchange, "disconnect", seconds=1.0))

    # Bybit lists the last 60 trades only, which on a slow machine are too few.
    check(simulated, exchange, complete=exchange != "bybit")


@pytest.mark.parametrize("exchange", ["binance", "bybit"])
def test_collect_leaves_a_half_open_socket(
    exchange: str, simulated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws, "READ_SECONDS", 0.8)
    monkeypatch.setattr(ws, "PROBE_SECONDS", 0.4)

    asyncio.run(collect_through(simulated, exchange, "half_open", seconds=2.0))

    check(simulated, exchange, complete=exchange != "bybit")


@pytest.mark.parametrize("exchange", COUNTED)
def test_collect_fetches_dropped_trades(exchange: str, simulated: str) -> None:
    async def scenario() -> None:
        async with collecting(exchange):
            await more(exchange)
            await asyncio.to_thread(suffer, simulated, exchange, "drop_trades", value=0.5)
            await more(exchange, 20)
            await asyncio.to_thread(heal, simulated, exchange)
            await more(exchange, 3)
            await until(lambda: no_open_hole(exchange))

    asyncio.run(scenario())

    check(simulated, exchange, complete=True)


@every_exchange
def test_collect_counts_repeated_trades_once(exchange: str, simulated: str) -> None:
    async def scenario() -> None:
        await asyncio.to_thread(suffer, simulated, exchange, "repeat_trades", value=1)
        async with collecting(exchange):
            await more(exchange, 20)

    asyncio.run(scenario())

    check(simulated, exchange, complete=True)


@pytest.mark.parametrize("exchange", RECENT)
def test_collect_names_what_it_cannot_prove(
    exchange: str, simulated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ADAPTERS[exchange], "parse_trades", lambda *_: Parsed())
    monkeypatch.setattr(holes, "PAUSES_SECONDS", (0.01, 0.01))

    def all_final() -> bool:
        named = trade_log.holes(exchange)
        symbols = {hole.exchange_symbol for hole in named if not hole.is_open}
        return no_open_hole(exchange) and symbols == set(SYMBOLS[exchange])

    async def scenario() -> None:
        async with collecting(exchange):
            await more(exchange)
            await asyncio.to_thread(suffer, simulated, exchange, "disconnect", seconds=1.0)
            await until(all_final)

    asyncio.run(scenario())

    check(simulated, exchange, complete=False)


def errors(exchange: str) -> float:
    samples = next(iter(metrics.TRADE_ERRORS.collect())).samples
    return sum(each.value for each in samples if each.labels["exchange"] == exchange)


@pytest.mark.parametrize("exchange", ["binance", "kraken", "upbit"])
def test_collect_through_garbage_frames_counts_them_and_fetches_the_rest(
    exchange: str, simulated: str
) -> None:
    before = errors(exchange)

    async def scenario() -> None:
        async with collecting(exchange):
            await more(exchange)
            await asyncio.to_thread(suffer, simulated, exchange, "garbage")
            await until(lambda: errors(exchange) > before + 20)
            await asyncio.to_thread(heal, simulated, exchange)
            await more(exchange, 3)
            await until(lambda: no_open_hole(exchange))

    asyncio.run(scenario())

    check(simulated, exchange, complete=True)


def test_collect_keeps_the_exchange_s_own_time_however_wrong(simulated: str) -> None:
    async def scenario() -> None:
        await asyncio.to_thread(suffer, simulated, "okx", "clock_skew", value=-60_000)
        async with collecting("okx"):
            await more("okx")

    asyncio.run(scenario())

    assert all(55_000 < each.received_ms - each.event_ms < 65_000 for each in entries("okx"))


@pytest.mark.parametrize("exchange", ["okx", "bybit"])
def test_collect_refuses_trades_of_another_day(exchange: str, simulated: str) -> None:
    before = errors(exchange)

    async def scenario() -> None:
        await asyncio.to_thread(suffer, simulated, exchange, "clock_skew", value=86_400_000)
        async with collecting(exchange):
            await until(lambda: errors(exchange) > before + 3)

    asyncio.run(scenario())

    assert entries(exchange) == []
    # Where ids are contiguous, the next trade that is taken tells what is missing.
    named = [hole.reason for hole in trade_log.holes(exchange)]
    assert set(named) == ({"a trade was BAD_TIME"} if exchange in RECENT else set())


def test_collect_follows_the_symbols_it_is_given(simulated: str) -> None:
    wanted = ["BTCUSDT"]

    async def scenario() -> None:
        async with collecting("binance", lambda: tuple(wanted)):
            await until(lambda: logged("binance", "BTCUSDT"))
            assert logged("binance", "ETHUSDT") == []
            wanted.append("ETHUSDT")
            await until(lambda: len(logged("binance", "ETHUSDT")) > 5)
            wanted.remove("BTCUSDT")
            await until(lambda: beat("binance").get("symbols") == 1)

    asyncio.run(scenario())

    check(simulated, "binance", complete=True)


def beat(exchange: str) -> dict[str, object]:
    return heartbeat.last([role_of(exchange)]).get(role_of(exchange), {})


@pytest.mark.parametrize("exchange", ["coinbase", "bybit", "kucoin"])
def test_collect_one_unknown_symbol_costs_no_other(exchange: str, simulated: str) -> None:
    unknown = {"coinbase": "NO-COIN", "bybit": "NOCOIN", "kucoin": "NO-COIN"}[exchange]

    async def scenario() -> None:
        async with collecting(exchange, lambda: (unknown, *SYMBOLS[exchange])):
            await more(exchange)

    asyncio.run(scenario())

    check(simulated, exchange, complete=True)


def test_collect_more_symbols_than_a_socket_takes_uses_several(
    simulated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ADAPTERS["kucoin"], "MAX_SYMBOLS_PER_SOCKET", 1)

    async def scenario() -> None:
        async with collecting("kucoin"):
            await more("kucoin")
            await until(lambda: beat("kucoin").get("sockets_up") == 2)

    asyncio.run(scenario())

    check(simulated, "kucoin", complete=True)


@pytest.mark.parametrize("exchange", ["binance", "kucoin"])
def test_collect_renews_its_socket_without_a_break(
    exchange: str, simulated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ADAPTERS[exchange], "SOCKET_LIFETIME_MS", 1_000)
    monkeypatch.setattr(ws, "OVERLAP_SECONDS", 0.3)
    renewed = renewals(exchange)

    async def scenario() -> None:
        async with collecting(exchange):
            await until(lambda: renewals(exchange) > renewed + 2)
            await more(exchange)

    asyncio.run(scenario())

    check(simulated, exchange, complete=True)
    assert trade_log.holes(exchange) == []


def renewals(exchange: str) -> float:
    value: float = metrics.SOCKET_RECONNECTS.labels(exchange, "renewed")._value.get()
    return value


@pytest.mark.parametrize("exchange", ["binance", "upbit"])
def test_collect_with_a_full_queue_names_or_fetches_what_it_dropped(
    exchange: str, simulated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Outbox.__init__, "__kwdefaults__", {"max_queued": 60})
    append, away = trade_log.append, [True]

    def sometimes(name: str, trades: Any, *, token: str) -> bool:
        if away[0]:
            raise RedisError("away")
        return append(name, trades, token=token)

    async def scenario() -> None:
        async with collecting(exchange):
            await more(exchange)
            away[0] = True
            await until(lambda: dropped(exchange) > lost + 10)
            away[0] = False
            await more(exchange, 30)  # what was queued comes first
            await until(lambda: no_open_hole(exchange))

    lost = dropped(exchange)
    away[0] = False
    monkeypatch.setattr(trade_log, "append", sometimes)
    asyncio.run(scenario())

    check(simulated, exchange, complete=True)


def dropped(exchange: str) -> float:
    value: float = metrics.TRADES_DROPPED.labels(exchange)._value.get()
    return value


def test_collect_whose_lease_is_taken_stops_and_writes_no_more(simulated: str) -> None:
    usurper = leader.Leader(role_of("binance"), ttl_ms=60_000)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with collecting("binance"):
            await more("binance")
            redis_client().delete(keys.leader(role_of("binance")))
            assert await asyncio.to_thread(usurper.campaign)
            assert trade_log.claim("binance", token=usurper.token or "")
            count = len(entries("binance"))
            await until(lambda: not [task for task in asyncio.all_tasks(loop) if is_feed(task)])
            assert len(entries("binance")) == count
            await asyncio.to_thread(usurper.resign)
            await more("binance")
            await until(lambda: no_open_hole("binance"))

    asyncio.run(scenario())

    check(simulated, "binance", complete=True)


def is_feed(task: asyncio.Task[Any]) -> bool:
    return getattr(task.get_coro(), "__qualname__", "") == "Feed.run"
