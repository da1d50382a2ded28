"""``manage.py collect`` as processes of its own: takeovers, the catalogue, holes, and the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from ingestion.collector import role_of
from oracle import catalog, leader, trade_log
from oracle.catalog import Catalog, CatalogListing
from oracle.connection import redis_client
from oracle.trade_log import Hole
from tests.ingestion.collected import SYMBOLS, check, entries, no_open_hole
from tests.ingestion.simulated import simulator

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def simulated() -> Iterator[str]:
    with simulator("--rate-per-minute", "600") as url:
        yield url


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


def test_command_holes_without_redis_is_an_error(settings: Any) -> None:
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    with pytest.raises(CommandError, match=r"^Redis: .*nowhere"):
        call_command("collect", "--holes")


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
