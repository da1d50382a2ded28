"""Health: judged by what was last written, and answered in time whatever hangs."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from secrets import token_hex

import pytest
from django.db import connection

from config import state, uptime
from config.version import VERSION
from ingestion import breaker
from oracle import catalog, heartbeat, keys, locks, price_board, ticker_book
from oracle.catalog import Catalog, CatalogSymbol
from oracle.connection import redis_client, run_script
from oracle.jsontext import decode
from oracle.values import ErrorCode, Ticker
from tests.oracle.test_price_board import price, publish

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).parents[2]
PAIRS = ("BTC/USDT", "ETH/USDT")
D = Decimal


def now_ms():
    return time.time_ns() // 1_000_000


def send(exchange, *, age_ms=0, digest=None):
    at = now_ms() - age_ms
    ticker = Ticker(
        exchange_symbol="BTCUSDT",
        price=D(1),
        volume=D(1),
        quote_volume=D(1),
        event_ms=at,
        received_ms=at,
    )
    lock = locks.acquire(token_hex(4), ttl_ms=100, resource=exchange)
    assert lock is not None
    ticker_book.store(
        exchange, [ticker], digest=digest or str(at), received_ms=at, token=lock.token
    )


def price_all(*, age_ms=0, **other):
    at = now_ms() - age_ms
    publish(*(price(symbol=name, now_ms=at, **other) for name in PAIRS), now_ms=at)


@pytest.fixture
def well():
    """An oracle in which everything works."""
    symbols = tuple(
        CatalogSymbol(name=name, base=name[:3], quote="USDT", min_sources=2) for name in PAIRS
    )
    catalog.publish(Catalog(exchanges=("binance", "kraken"), symbols=symbols))
    send("binance")
    send("kraken")
    price_all()
    heartbeat.beat("index", now_ms=now_ms(), published=2)
    heartbeat.beat("flush", now_ms=now_ms(), created=2)
    for role in ("catalog", "collect:binance", "collect:kraken"):
        names = [keys.leader(role), keys.tokens(f"leader:{role}")]
        run_script("lock_acquire", names, ["me", 30_000])
    for exchange in ("binance", "kraken"):
        listen(exchange)


def listen(exchange, *, age_ms=0, sockets_up=1):
    at = now_ms() - age_ms
    heartbeat.beat(f"collect:{exchange}", now_ms=at, event_ms=at - 70, sockets_up=sockets_up)


@pytest.fixture
def database_away(transactional_db):
    connection.close()
    host = connection.settings_dict["HOST"]
    connection.settings_dict["HOST"] = "/nowhere"
    yield
    connection.settings_dict["HOST"] = host


@pytest.fixture
def hanging_socket(tmp_path):
    """A server that takes connections and never says a word."""
    path = tmp_path / ".s.PGSQL.5432"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(50)
        yield path


def health(client, status=200, path="/api/v1/health"):
    answer = client.get(path)
    assert answer.status_code == status, answer.content
    return decode(answer.content)


def test_health_all_well_is_ok(client, well):
    body = health(client)
    ages = [
        exchange.pop(name)
        for exchange in body["exchanges"].values()
        for name in ("last_ticker_age_ms", "last_trade_age_ms")
    ]

    assert max(ages) < 10_000
    assert abs(body.pop("timestamp") - now_ms()) < 10_000
    assert body.pop("uptime") >= 0
    assert {check["status"] for check in body["checks"].values()} == {"up"}
    assert set(body.pop("checks")) == {
        *("redis", "database", "index", "prices", "exchanges", "trades", "flush", "candles")
    }
    feed = {"status": "up", "circuit": "closed"}
    assert body == {
        "status": "ok",
        "version": VERSION,
        "simulated": False,
        "leader": True,
        "services": {"redis": "up", "database": "up"},
        "exchanges": {"binance": feed, "kraken": feed},
    }


@pytest.mark.parametrize("server", ["config.asgi", "config.wsgi"])
def test_uptime_counts_from_the_start_of_the_process_not_from_a_first_request(server):
    script = f"import sys, {server}; assert 'config.uptime' in sys.modules, sorted(sys.modules)"

    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_uptime_is_in_whole_seconds(monkeypatch):
    monkeypatch.setattr("config.uptime._STARTED", time.monotonic() - 7.9)

    assert uptime.uptime_seconds() == 7


def test_health_alias(client, well):
    assert health(client, path="/health")["status"] == "ok"


def test_health_nothing_yet_is_down(client):
    body = health(client, 503)

    assert (body["status"], body["leader"], body["exchanges"]) == ("down", False, {})


def test_health_redis_away_is_down(client, well, settings):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"

    body = health(client, 503)

    assert body["status"] == "down"
    assert body["services"] == {"redis": "down", "database": "up"}
    assert body["checks"]["prices"]["message"] == "not known while Redis is away"
    assert "nowhere" not in str(body)


def test_health_database_away_is_degraded(client, database_away, well):
    body = health(client)

    assert (body["status"], body["services"]) == ("degraded", {"redis": "up", "database": "down"})
    assert "nowhere" not in str(body)


def test_health_all_prices_stale_is_down(client, well):
    price_board.mark_stale(PAIRS, token="9" * 16)

    assert health(client, 503)["status"] == "down"


@pytest.mark.parametrize("status", ["degraded", "stale"])
def test_health_one_price_not_fresh_is_degraded(client, well, status):
    at = now_ms()
    publish(price(symbol="ETH/USDT", now_ms=at, status=status), now_ms=at)

    body = health(client)

    assert body["status"] == "degraded"
    assert body["checks"]["prices"]["message"] == f"1 fresh, 1 {status}"


def test_health_exchange_that_stopped_is_down(client, well):
    ticker_book.record_failure("kraken", code=ErrorCode.TIMEOUT, detail="2 s", now_ms=now_ms())
    send("kraken", age_ms=11_000)

    body = health(client)

    assert body["status"] == "degraded"
    assert body["exchanges"]["kraken"]["status"] == "down"
    assert body["exchanges"]["kraken"]["last_ticker_age_ms"] >= 11_000
    assert body["exchanges"]["binance"]["status"] == "up"
    assert body["checks"]["exchanges"]["message"] == "down: kraken (TIMEOUT)"


def test_health_exchange_that_repeats_itself_is_down(client, well):
    send("kraken", age_ms=11_000, digest="same")
    send("kraken", digest="same")

    assert health(client)["exchanges"]["kraken"]["status"] == "down"


def test_health_exchange_that_never_answered_is_down(client, well):
    catalog.publish(Catalog(exchanges=("binance", "kraken", "okx"), symbols=()))

    assert health(client, 503)["exchanges"]["okx"] == {
        "status": "down",
        "last_ticker_age_ms": None,
        "last_trade_age_ms": None,
        "circuit": "closed",
    }


def test_health_shows_circuits(client, well, settings):
    for _ in range(settings.BREAKER_FAILURES):
        breaker.record_failure("kraken", code=ErrorCode.TIMEOUT, now_ms=now_ms())

    assert health(client)["exchanges"]["kraken"]["circuit"] == "open"


@pytest.mark.parametrize("wrong", [{"age_ms": 15_100}, {"sockets_up": 0}])
def test_health_nobody_listening_to_an_exchange_is_degraded(client, well, wrong):
    listen("kraken", **wrong)

    body = health(client)

    assert (body["status"], body["checks"]["trades"]["status"]) == ("degraded", "down")
    assert "kraken" in body["checks"]["trades"]["message"]


def test_health_exchange_that_was_never_listened_to_is_named(client, well):
    redis_client().delete(keys.heartbeat("collect:kraken"))

    assert health(client)["checks"]["trades"] == {
        "status": "down",
        "latency_ms": None,
        "message": "nobody listens to kraken",
    }


@pytest.mark.parametrize(("waiting_ms", "status"), [(50_000, "up"), (60_001, "down")])
def test_health_trades_that_wait_to_be_counted_are_late(client, well, waiting_ms, status):
    entry_id = f"{now_ms() - waiting_ms}-0"
    redis_client().xadd(keys.trades_stream("kraken"), {"trades": b""}, id=entry_id)

    body = health(client)

    assert body["checks"]["trades"]["status"] == status
    assert body["status"] == {"up": "ok", "down": "degraded"}[status]


def test_health_late_flush_is_degraded(client, well):
    heartbeat.beat("flush", now_ms=now_ms() - 181_000)

    body = health(client)

    assert (body["status"], body["checks"]["flush"]["status"]) == ("degraded", "down")


def test_health_candle_that_waits_too_long_is_degraded(client, well):
    at = now_ms() - 300_000
    publish(price(symbol="OLD/USDT", now_ms=at), now_ms=at)

    body = health(client)

    assert (body["status"], body["checks"]["flush"]["status"]) == ("degraded", "down")


def test_health_role_without_holder_says_so(client, well):
    run_script("lock_release", [keys.leader("catalog")], ["me"])

    assert health(client)["leader"] is False


def test_health_both_stores_hang_answers_in_time(client, well, settings, hanging_socket):
    settings.REDIS_URL = f"unix://{hanging_socket}"
    host = connection.settings_dict["HOST"]
    connection.settings_dict["HOST"] = str(hanging_socket.parent)
    started = time.monotonic()
    try:
        body = health(client, 503)
    finally:
        connection.settings_dict["HOST"] = host

    assert time.monotonic() - started < 1.6
    assert body["services"] == {"redis": "down", "database": "down"}


def test_checks_that_hang_do_not_pile_up_threads():
    hang = threading.Event()
    try:
        asked = [state._begin("redis", hang.wait) for _ in range(3 * state.THREADS)]
        threads = [one for one in threading.enumerate() if one.name.startswith("state-redis")]

        assert len(threads) == state.THREADS
    finally:
        hang.set()
        for one in asked:
            one.result()


def test_health_database_that_hangs_does_not_make_redis_look_down(client, well, hanging_socket):
    host = connection.settings_dict["HOST"]
    connection.settings_dict["HOST"] = str(hanging_socket.parent)
    try:
        bodies = [health(client) for _ in range(state.THREADS + 1)]
    finally:
        connection.settings_dict["HOST"] = host

    assert bodies[-1]["services"] == {"redis": "up", "database": "down"}


def test_live_asks_nothing(client, database_away, settings):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"

    assert health(client, path="/api/v1/health/live") == {"status": "ok"}


def test_ready_all_there_is_ok(client, well):
    body = health(client, path="/api/v1/health/ready")

    assert body["status"] == "ok"
    assert set(body["checks"]) == {"redis", "database", "prices"}


def test_ready_asks_the_stores_once_a_second(client, well, monkeypatch):
    asked = []
    monkeypatch.setattr(state, "_ping_database", lambda: asked.append(time.monotonic()))
    while len(asked) < 2:
        health(client, path="/api/v1/health/ready")

    assert asked[1] - asked[0] >= state.RECENT_SECONDS


def test_ready_together_ask_the_stores_once(well, monkeypatch):
    asked: list[int] = []

    def ask():
        asked.append(1)
        time.sleep(0.2)  # as long as it takes

    monkeypatch.setattr(state, "_ping_database", ask)
    with ThreadPoolExecutor(max_workers=8) as pool:
        found = list(pool.map(lambda _: state.recent_state(), range(8)))

    assert len(asked) == 1
    assert all(one is found[0] for one in found)


def test_ready_without_database_is_not(client, database_away, well):
    assert health(client, 503, "/api/v1/health/ready")["status"] == "not_ready"


def test_ready_without_redis_is_not(client, well, settings):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"

    assert health(client, 503, "/api/v1/health/ready")["status"] == "not_ready"


def test_ready_without_current_prices_is_not(client, well):
    price_all(age_ms=11_000)
    price_board.mark_stale(PAIRS, token="9" * 16)

    assert health(client, 503, "/api/v1/health/ready")["checks"]["prices"]["status"] == "down"
