"""Collecting from the simulated exchanges over real sockets, with everything that goes wrong.

The measure is the tape: what is in the log equals it, or the difference lies in a named hole.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import requests
from django.core.management import call_command
from redis.exceptions import RedisError

from ingestion import holes, ws
from ingestion.adapter import Parsed
from ingestion.collector import role_of, stand_by
from ingestion.outbox import Outbox
from ingestion.registry import ADAPTERS
from oracle import catalog, heartbeat, keys, leader, metrics, trade_log
from oracle.catalog import Catalog, CatalogListing
from oracle.connection import redis_client
from oracle.trade_log import Hole, LoggedTrade

ROOT = Path(__file__).resolve().parents[2]
SYMBOLS = {
    "binance": ("BTCUSDT", "ETHUSDT"),
    "upbit": ("KRW-BTC", "KRW-ETH"),
    "kraken": ("BTC/USD", "ETH/USD"),
    "coinbase": ("BTC-USD", "ETH-USD"),
    "okx": ("BTC-USDT", "ETH-USDT"),
    "bybit": ("BTCUSDT", "ETHUSDT"),
    "kucoin": ("BTC-USDT", "ETH-USDT"),
}
COUNTED = [name for name in SYMBOLS if ADAPTERS[name].TRADE_IDS_CONTIGUOUS]
RECENT = [name for name in SYMBOLS if not ADAPTERS[name].TRADE_IDS_CONTIGUOUS]

every_exchange = pytest.mark.parametrize("exchange", SYMBOLS)


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    command = [sys.executable, "-m", "ingestion.simulator", "--port", "0", "--seed", "7"]
    command += ["--rate-per-minute", "600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.terminate()


@pytest.fixture(autouse=True)
def simulated(simulator: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    settings.SIMULATOR_URL = simulator
    settings.LEASE_TTL_MS, settings.LEASE_HEARTBEAT_MS = 3_000, 500
    monkeypatch.setattr(ws, "FIRST_RETRY_SECONDS", 0.2)
    yield simulator
    requests.delete(f"{simulator}/control/faults", timeout=5)


def fault(simulator: str, exchange: str, name: str, **more: Any) -> None:
    body = {"exchange": exchange, "fault": name, **more}
    requests.post(f"{simulator}/control/faults", json=body, timeout=5).raise_for_status()


def heal(simulator: str, exchange: str) -> None:
    requests.delete(f"{simulator}/control/faults?exchange={exchange}", timeout=5)


def tape(simulator: str, exchange: str, symbol: str, *, from_ms: int, to_ms: int) -> list[Any]:
    query: dict[str, Any] = {
        "exchange": exchange,
        "symbol": symbol,
        "from_ms": from_ms,
        "to_ms": to_ms,
    }
    rows: list[Any] = requests.get(f"{simulator}/control/tape", params=query, timeout=20).json()
    return rows


def entries(exchange: str) -> list[LoggedTrade]:
    rows: Any = redis_client().xrange(keys.trades_stream(exchange))
    return [trade for _, entry in rows for trade in trade_log.decode(entry)]


def logged(exchange: str, symbol: str) -> list[LoggedTrade]:
    return [trade for trade in entries(exchange) if trade.exchange_symbol == symbol]


def by_id(rows: list[Any]) -> dict[str, tuple[Any, ...]]:
    return {
        str(row["trade_id"]): (row["price"], row["size"], row["side"], row["event_ms"])
        for row in rows
    }


def facts(trades: list[LoggedTrade]) -> dict[str, tuple[Any, ...]]:
    return {
        str(trade.trade_id): (trade.price, trade.size, trade.side, trade.event_ms)
        for trade in trades
    }


def check(simulator: str, exchange: str, *, complete: bool) -> None:
    """No trade twice, none that the tape has not, and none missing outside the named holes."""
    for symbol in SYMBOLS[exchange]:
        trades = logged(exchange, symbol)
        counts = Counter(trade.trade_id for trade in trades)
        assert not [each for each, count in counts.items() if count > 1]
        times = [trade.event_ms for trade in trades]
        first_ms, last_ms = min(times), max(times)
        rows = tape(simulator, exchange, symbol, from_ms=first_ms, to_ms=last_ms + 1)
        expected = exact(by_id(rows))
        # The very first and last moment may have been cut in two.
        inner = {k: v for k, v in expected.items() if first_ms < v[3] < last_ms}
        found = facts(trades)
        assert {k: v for k, v in found.items() if k not in expected} == {}
        assert {k: v for k, v in found.items() if v != expected[k]} == {}
        missing = {k: v for k, v in inner.items() if k not in found}
        if complete:
            assert missing == {}
        named = trade_log.holes(exchange)
        assert [k for k, v in missing.items() if not in_hole(symbol, k, v[3], named)] == []


def exact(rows: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    return {k: (Decimal(p), Decimal(s), side, ms) for k, (p, s, side, ms) in rows.items()}


def in_hole(symbol: str, trade_id: str, event_ms: int, named: list[Hole]) -> bool:
    for hole in named:
        if hole.exchange_symbol != symbol:
            continue
        if hole.missing is not None and hole.after_id and hole.before_id:
            if int(hole.after_id) < int(trade_id) < int(hole.before_id):
                return True
        elif hole.from_ms <= event_ms <= hole.to_ms:
            return True
    return False


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


def no_open_hole(exchange: str) -> bool:
    return not [hole for hole in trade_log.holes(exchange) if hole.is_open]


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


@every_exchange
def test_collect_after_a_disconnect_misses_nothing(exchange: str, simulated: str) -> None:
    async def scenario() -> None:
        async with collecting(exchange):
            await more(exchange)
            await asyncio.to_thread(fault, simulated, exchange, "disconnect", seconds=1.0)
            await more(exchange, 20)
            await until(lambda: no_open_hole(exchange))

    asyncio.run(scenario())

    # Bybit lists the last 60 trades only, which on a slow machine are too few.
    check(simulated, exchange, complete=exchange != "bybit")


@pytest.mark.parametrize("exchange", ["binance", "bybit"])
def test_collect_leaves_a_half_open_socket(
    exchange: str, simulated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws, "READ_SECONDS", 0.8)
    monkeypatch.setattr(ws, "PROBE_SECONDS", 0.4)

    async def scenario() -> None:
        async with collecting(exchange):
            await more(exchange)
            await asyncio.to_thread(fault, simulated, exchange, "half_open", seconds=2.0)
            await more(exchange, 20)
            await until(lambda: no_open_hole(exchange))

    asyncio.run(scenario())

    check(simulated, exchange, complete=exchange != "bybit")


@pytest.mark.parametrize("exchange", COUNTED)
def test_collect_fetches_dropped_trades(exchange: str, simulated: str) -> None:
    async def scenario() -> None:
        async with collecting(exchange):
            await more(exchange)
            await asyncio.to_thread(fault, simulated, exchange, "drop_trades", value=0.5)
            await more(exchange, 20)
            await asyncio.to_thread(heal, simulated, exchange)
            await more(exchange, 3)
            await until(lambda: no_open_hole(exchange))

    asyncio.run(scenario())

    check(simulated, exchange, complete=True)


@every_exchange
def test_collect_counts_repeated_trades_once(exchange: str, simulated: str) -> None:
    async def scenario() -> None:
        await asyncio.to_thread(fault, simulated, exchange, "repeat_trades", value=1)
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
            await asyncio.to_thread(fault, simulated, exchange, "disconnect", seconds=1.0)
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
            await asyncio.to_thread(fault, simulated, exchange, "garbage")
            await until(lambda: errors(exchange) > before + 20)
            await asyncio.to_thread(heal, simulated, exchange)
            await more(exchange, 3)
            await until(lambda: no_open_hole(exchange))

    asyncio.run(scenario())

    check(simulated, exchange, complete=True)


def test_collect_keeps_the_exchange_s_own_time_however_wrong(simulated: str) -> None:
    async def scenario() -> None:
        await asyncio.to_thread(fault, simulated, "okx", "clock_skew", value=-60_000)
        async with collecting("okx"):
            await more("okx")

    asyncio.run(scenario())

    assert all(55_000 < each.received_ms - each.event_ms < 65_000 for each in entries("okx"))


def test_collect_refuses_trades_of_another_day(simulated: str) -> None:
    before = errors("okx")

    async def scenario() -> None:
        await asyncio.to_thread(fault, simulated, "okx", "clock_skew", value=86_400_000)
        async with collecting("okx"):
            await until(lambda: errors("okx") > before + 3)

    asyncio.run(scenario())

    assert entries("okx") == []


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


# --- processes ---


@contextmanager
def process(*arguments: str, redis_prefix: str, simulator: str) -> Iterator[subprocess.Popen[str]]:
    environment = {
        **os.environ,
        "REDIS_PREFIX": redis_prefix,
        "SIMULATOR_URL": simulator,
        "LEASE_TTL_MS": "2000",
        "LEASE_HEARTBEAT_MS": "400",
    }
    command = [sys.executable, "manage.py", "collect", *arguments]
    with subprocess.Popen(
        command, env=environment, cwd=ROOT, text=True, stderr=subprocess.PIPE
    ) as started:
        try:
            yield started
        finally:
            with suppress(ProcessLookupError):
                started.kill()


def publish(*exchanges: str) -> None:
    catalog.publish(
        Catalog(
            exchanges=exchanges,
            listings=tuple(
                CatalogListing(exchange=name, exchange_symbol=native, symbol=native, quote="USDT")
                for name in exchanges
                for native in SYMBOLS[name]
            ),
        )
    )


def wait_for(condition: Callable[[], Any], seconds: float = 20.0) -> float:
    """How long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "condition not met in time"
        time.sleep(0.01)
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("exchange", "signal_number", "within_seconds"),
    [
        ("binance", signal.SIGTERM, 1.0),
        ("binance", signal.SIGKILL, 3.0),
        ("kucoin", signal.SIGTERM, 1.0),
        ("kucoin", signal.SIGKILL, 3.0),
    ],
)
def test_command_a_standby_takes_over_and_no_trade_is_counted_twice(
    exchange: str,
    signal_number: signal.Signals,
    within_seconds: float,
    simulated: str,
    redis_prefix: str,
) -> None:
    publish(exchange)
    world = {"redis_prefix": redis_prefix, "simulator": simulated}
    role = role_of(exchange)
    with process("--exchange", exchange, **world) as first:
        wait_for(lambda: len(entries(exchange)) > 10)
        with process("--exchange", exchange, **world) as second:
            assert second.stderr is not None
            assert any("standing_by" in line for line in iter(second.stderr.readline, ""))
            held_by = leader.holder(role)
            first.send_signal(signal_number)
            took = wait_for(lambda: leader.holder(role) not in (None, held_by))
            assert took < within_seconds
            if signal_number == signal.SIGTERM:
                assert first.wait(5) == 0
            count = len(entries(exchange))
            wait_for(lambda: len(entries(exchange)) > count + 20)
            wait_for(lambda: no_open_hole(exchange))

    check(simulated, exchange, complete=True)


def test_command_collects_everything_of_the_catalogue_and_shows_holes(
    simulated: str, redis_prefix: str
) -> None:
    publish("okx", "coinbase")
    trade_log.record_hole(
        "okx",
        Hole(
            exchange_symbol="BTC-USDT",
            after_id="5",
            before_id="9",
            from_ms=1_700_000_000_000,
            to_ms=1_700_000_001_000,
            missing=3,
            reason="not listed",
        ),
    )
    with process(redis_prefix=redis_prefix, simulator=simulated) as running:
        wait_for(lambda: entries("okx") and entries("coinbase"))
        running.terminate()
        assert wait_for(lambda: running.poll() is not None, 5.0) < 5.0
        assert running.returncode == 0
        assert "Traceback" not in (running.stderr.read() if running.stderr else "")

    said = StringIO()
    call_command("collect", "--holes", "--exchange", "okx", stdout=said)
    assert said.getvalue() == (
        "okx BTC-USDT 2023-11-14T22:13:20.000+00:00 to 2023-11-14T22:13:21.000+00:00"
        " after 5 before 9 missing 3: not listed\n"
    )


def test_command_ends_within_five_seconds_though_redis_hangs(
    simulated: str, redis_prefix: str
) -> None:
    publish("binance")
    server = int(redis_client().info("server")["process_id"])
    with process("--exchange", "binance", redis_prefix=redis_prefix, simulator=simulated) as one:
        wait_for(lambda: entries("binance"))
        os.kill(server, signal.SIGSTOP)
        try:
            one.terminate()
            assert wait_for(lambda: one.poll() is not None, 6.0) < 5.0
        finally:
            os.kill(server, signal.SIGCONT)
