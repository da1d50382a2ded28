"""The whole stack as a user starts it, against the simulator, on free ports and real servers.

One flow, in real time: prices flow → every candle equals what was published → the database is away
for two minutes' worth of candles → none is missing → Ctrl-C leaves no process behind.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from config import embedded
from tests.stack import Stack, demo, until

MINUTE_MS = 60_000
START_SECONDS = 90  # what the project promises, once packages are there


@dataclass
class Listener:
    """Folds what the index publishes into candles, by the clock of the prices themselves."""

    connection: redis.Redis
    candles: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    last_ms: int = 0

    def listen(self) -> None:
        # Until the stack, and its Redis, is stopped.
        with suppress(redis.ConnectionError), self.connection.pubsub() as channel:
            channel.subscribe("oracle:prices")
            for message in channel.listen():
                if message["type"] == "message":
                    self.fold(json.loads(message["data"]))

    def fold(self, price: dict[str, Any]) -> None:
        if price["status"] == "stale":
            return
        value, at_ms = Decimal(price["price"]), price["timestamp_ms"]
        kept = {source["exchange"] for source in price["sources"] if source["kept"]}
        key = (price["symbol"], at_ms - at_ms % MINUTE_MS)
        candle = self.candles.setdefault(
            key, {"open": value, "high": value, "low": value, "sources": set()}
        )
        candle["high"] = max(candle["high"], value)
        candle["low"] = min(candle["low"], value)
        candle["close"] = value
        candle["sources"] |= kept
        self.last_ms = max(self.last_ms, at_ms)

    def of_minute(self, minute_ms: int) -> dict[str, tuple[Any, ...]]:
        return {
            symbol: (c["open"], c["high"], c["low"], c["close"], sorted(c["sources"]))
            for (symbol, opened_ms), c in self.candles.items()
            if opened_ms == minute_ms
        }


@pytest.fixture
def stack(tmp_path: Path, postgres_server: None) -> Iterator[Stack]:
    with demo(tmp_path) as running:
        yield running


def stored(home: Path, minute_ms: int) -> dict[str, tuple[Any, ...]]:
    """The candles of a minute in the database, by symbol; empty while it is away."""
    try:
        with psycopg.connect(
            host=str(embedded.socket_folder(home)), user="postgres", dbname="oracle"
        ) as connection:
            rows = connection.execute(
                "SELECT symbol, open, high, low, close, sources FROM ohlcv_1m "
                "WHERE time = to_timestamp(%s)",
                (minute_ms // 1_000,),
            )
            return {row[0]: (*row[1:5], sorted(row[5])) for row in rows}
    except psycopg.OperationalError:
        return {}


def test_a_demo_from_the_first_price_through_a_dead_database_to_ctrl_c(stack: Stack) -> None:
    prices = until(
        lambda: stack.running() and stack.get("/api/v1/prices")[1]["prices"],
        seconds=START_SECONDS,
        what="prices over HTTP",
    )
    assert {price["simulated"] for price in prices} == {True}
    assert stack.printed[0].startswith("Token Price Oracle (simulated)")
    assert stack.url.rsplit(":", 1)[1] in stack.printed[0]
    until(lambda: len(stack.printed) > 1, seconds=30, what="the line that prices flow")

    socket_path = embedded.socket_folder(stack.home) / "redis.sock"
    listener = Listener(redis.Redis(unix_socket_path=str(socket_path)))
    threading.Thread(target=listener.listen, daemon=True).start()
    until(lambda: listener.last_ms, seconds=10, what="a published price")
    first_ms = (listener.last_ms // MINUTE_MS + 1) * MINUTE_MS
    minutes = [first_ms, first_ms + MINUTE_MS, first_ms + 2 * MINUTE_MS]

    _an_exchange_goes_mad_and_nobody_notices(stack)

    # Two whole minutes go by without a database; prices go on, and say so truthfully.
    until(lambda: listener.last_ms >= first_ms, seconds=70, what="a whole minute to begin")
    stack.supervisor("stop", "databases:postgres")
    until(lambda: stack.get("/api/v1/health")[1]["status"] == "degraded", seconds=20, what="health")
    status, health = stack.get("/api/v1/health")
    assert (status, health["services"]["database"]) == (200, "down")
    until(
        lambda: listener.last_ms >= first_ms + 2 * MINUTE_MS + 8_000,
        seconds=140,
        what="two minutes without a database",
    )
    status, price = stack.get("/api/v1/prices/btc-usdt?max_age_ms=5000")
    assert (status, price["status"]) == (200, "fresh")
    status, error = stack.get("/api/v1/market/ohlcv?symbol=BTC/USDT&resolution=1m")
    assert (status, error["error"]["code"]) == (503, "DATABASE_UNAVAILABLE")
    stack.supervisor("start", "databases:postgres")

    until(
        lambda: all(stored(stack.home, minute_ms) for minute_ms in minutes),
        seconds=150,
        what="all candles in the database",
    )
    for minute_ms in minutes:
        assert stored(stack.home, minute_ms) == listener.of_minute(minute_ms)
        # The first answer may have been given before every symbol had its first price.
        assert len(stored(stack.home, minute_ms)) >= len(prices)

    _history_over_http_is_what_was_stored(stack, minutes)
    until(lambda: stack.get("/api/v1/health")[1]["status"] == "ok", seconds=30, what="health ok")
    _all_sources_gone_is_stale_and_named(stack)

    stack.process.send_signal(signal.SIGINT)
    assert stack.process.wait(timeout=60) == 0
    assert stack.processes() == []


def _an_exchange_goes_mad_and_nobody_notices(stack: Stack) -> None:
    _, before = stack.get("/api/v1/prices/btc-usdt")
    stack.fault(exchange="okx", fault="price_factor", value=10)
    receipt = until(
        lambda: _outlier(stack.get("/api/v1/prices/btc-usdt/sources")[1], "okx"),
        seconds=10,
        what="the mad exchange on the receipt",
    )
    _, after = stack.get("/api/v1/prices/btc-usdt")
    assert receipt["price"] > 5 * before["price"]
    assert abs(after["price"] / before["price"] - 1) < Decimal("0.05")
    assert after["outliers_removed"] >= 1
    stack.clear_faults()


def _outlier(receipt: dict[str, Any], exchange: str) -> dict[str, Any] | None:
    for source in receipt["sources"]:
        if source["exchange"] == exchange and not source["kept"] and source["price"]:
            return dict(source)
    return None


def _history_over_http_is_what_was_stored(stack: Stack, minutes: list[int]) -> None:
    path = (
        "/api/v1/market/ohlcv?symbol=btc-usdt&resolution=1m"
        f"&from={minutes[0] // 1_000}&to={minutes[-1] // 1_000}"
    )
    status, answer = stack.get(path)
    rows = [stored(stack.home, minute_ms)["BTC/USDT"] for minute_ms in minutes]
    assert status == 200
    assert [(c["open"], c["high"], c["low"], c["close"]) for c in answer["data"]] == [
        row[:4] for row in rows
    ]
    assert [candle["time"] * 1_000 for candle in answer["data"]] == minutes
    assert all(candle["closed"] for candle in answer["data"])


def _all_sources_gone_is_stale_and_named(stack: Stack) -> None:
    stack.fault(exchange="*", fault="freeze")

    def stale() -> dict[str, Any] | None:
        price = stack.get("/api/v1/prices/btc-usdt")[1]
        return dict(price) if price["status"] == "stale" else None

    first = until(stale, seconds=30, what="a stale price")
    assert first["age_ms"] > 10_000
    later = until(
        lambda: (now := stale()) and now["age_ms"] > first["age_ms"] and now,
        seconds=10,
        what="a growing age",
    )
    assert later["timestamp"] == first["timestamp"]
    status, error = stack.get("/api/v1/prices/btc-usdt?max_age_ms=5000")
    assert (status, error["error"]["code"]) == (503, "PRICE_STALE")
    until(
        lambda: (
            {each["status"] for each in stack.get("/api/v1/health")[1]["exchanges"].values()}
            == {"down"}
        ),
        seconds=10,
        what="every exchange named as down",
    )
    status, health = stack.get("/api/v1/health")
    assert (status, health["status"]) == (503, "down")
    stack.clear_faults()
    until(lambda: stale() is None, seconds=60, what="a fresh price again")
