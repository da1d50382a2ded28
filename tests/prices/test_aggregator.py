import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from oracle import catalog, heartbeat, keys, trade_log, trade_totals
from oracle.catalog import Catalog, CatalogListing, CatalogSymbol
from oracle.connection import redis_client
from oracle.trade_totals import Sums
from prices import aggregator
from prices.aggregator import Aggregator
from tests.oracle.test_trade_totals import BTC, MINUTE, NOW, log_trades, put, sums, total, trade

D = Decimal
LISTED = (
    ("binance", "BTCUSDT", BTC, "USDT"),
    ("okx", "BTC-USDT", BTC, "USDT"),
    ("kraken", "BTC/USD", BTC, "USD"),  # converted: its trades are not this symbol's
    ("kraken", "BTC/USD", "BTC/USD", "USD"),
)


@pytest.fixture(autouse=True)
def _catalog(redis_prefix):
    publish_catalog()


def publish_catalog():
    catalog.publish(
        Catalog(
            exchanges=("binance", "kraken", "okx"),
            symbols=tuple(
                CatalogSymbol(name=name, base="BTC", quote=name.split("/")[1], min_sources=1)
                for name in (BTC, "BTC/USD")
            ),
            listings=tuple(
                CatalogListing(
                    exchange=exchange, exchange_symbol=native, symbol=symbol, quote=quote
                )
                for exchange, native, symbol, quote in LISTED
            ),
        )
    )


def drain(one, now_ms=NOW + 1_000):
    while one.step(now_ms=now_ms, block_ms=1):
        pass


@pytest.fixture
def one():
    made = Aggregator("a")
    yield made
    made.close()


@pytest.fixture
def at_once(monkeypatch):
    """Entries of others may be taken over without waiting."""
    monkeypatch.setattr(aggregator, "RECLAIM_IDLE_MS", 0)
    monkeypatch.setattr(aggregator, "RECLAIM_EVERY_MS", 0)


def counted(counter, *labels):
    return (counter.labels(*labels) if labels else counter)._value.get()


def test_trades_of_all_exchanges_become_sums_of_their_symbol(one):
    log_trades(trade("100", "1.5"), trade("101", "2"))
    log_trades(trade("99", "1", symbol="BTC-USDT"), exchange="okx")
    log_trades(trade("98", "4", symbol="BTC/USD"), exchange="kraken")
    drain(one)
    assert total().sums == sums("4.5", "451", 3)
    assert total("BTC/USD").sums == sums("4", "392", 1)
    window = trade_totals.read_window(from_second=NOW // 1_000, to_second=NOW // 1_000 + 1)
    assert {name: set(found) for name, found in window.items()} == {
        BTC: {"binance", "okx"},
        "BTC/USD": {"kraken"},
    }


def test_what_was_logged_before_the_group_existed_counts(one):
    log_trades(trade())
    drain(one)
    assert total().sums.trade_count == 1


def test_unlisted_markets_are_acknowledged_and_counted(one):
    before = counted(aggregator.REFUSED, "binance", "UNLISTED")
    log_trades(trade(symbol="XUSDT"), trade())
    drain(one)
    assert total().sums == sums()
    assert counted(aggregator.REFUSED, "binance", "UNLISTED") == before + 1
    assert trade_totals.lags_ms(["binance"], now_ms=NOW * 2) == {"binance": 0}


def test_poison_is_moved_aside_and_blocks_nothing(one):
    before = counted(aggregator.POISON, "binance")
    stream = keys.trades_stream("binance")
    redis_client().xadd(stream, {"trades": b"\xff\x00"})
    redis_client().xadd(stream, {"other": b"?"})
    log_trades(trade())
    with capture_logs() as logs:
        drain(one)
    assert total().sums == sums()
    assert redis_client().xlen(keys.trades_poison()) == 2
    assert redis_client().xpending(stream, trade_log.GROUP)["pending"] == 0
    assert counted(aggregator.POISON, "binance") == before + 2
    assert [line["event"] for line in logs].count("aggregate.poison") == 2


def test_a_trade_too_late_to_be_revised_is_counted_and_named(one):
    put()
    trade_totals.mark_flushed([total()], now_ms=NOW)
    trade_totals.forget(now_ms=NOW + trade_totals.KEEP_MS)
    before = counted(aggregator.REFUSED, "binance", "TOO_LATE")
    log_trades(trade(), trade(at_ms=NOW + MINUTE))
    with capture_logs() as logs:
        drain(one)
    assert total() is None
    assert total(minute_ms=NOW + MINUTE).sums == sums()
    assert counted(aggregator.REFUSED, "binance", "TOO_LATE") == before + 1
    assert {"symbol": BTC, "minute_ms": NOW, "trades": 1}.items() <= logs[0].items()


def test_entries_of_a_dead_consumer_are_taken_over_once(one, at_once):
    dead = Aggregator("dead")
    for exchange in ("binance", "okx"):
        trade_log.ensure_group(exchange)
    for _ in range(3):
        log_trades(trade())
    assert dead._read(["binance"], ">", block_ms=None)
    drain(one)
    assert total().sums.trade_count == 3
    drain(dead)  # it was only paused
    assert total().sums.trade_count == 3
    dead.close()


def test_a_batch_taken_over_while_it_was_folded_is_not_counted_twice(one, at_once, monkeypatch):
    other = Aggregator("b")
    log_trades(trade())
    commit = trade_totals.commit

    def too_slow(entries, **options):
        monkeypatch.setattr(trade_totals, "commit", commit)
        drain(other)
        return commit(entries, **options)

    monkeypatch.setattr(trade_totals, "commit", too_slow)
    before = counted(aggregator.REVOKED)
    drain(one)
    other.close()
    assert total().sums == sums()
    assert counted(aggregator.REVOKED) == before + 1


def test_entries_whose_delivery_was_lost_are_read_in_the_next_round(one, monkeypatch):
    log_trades(trade())
    read = one._read

    def lost(*args, **options):
        read(*args, **options)
        raise RedisConnectionError("reset")

    one.step(now_ms=NOW, block_ms=1)
    log_trades(trade())
    with monkeypatch.context() as patch:
        patch.setattr(one, "_read", lost)
        with pytest.raises(RedisConnectionError):
            one.step(now_ms=NOW, block_ms=1)
    assert one.step(now_ms=NOW, block_ms=1) == 1
    assert total().sums.trade_count == 2


def test_a_batch_whose_commit_failed_is_read_again_in_the_next_round(one, monkeypatch):
    def fails(entries, **options):
        raise RedisConnectionError("reset")

    one.step(now_ms=NOW, block_ms=1)
    log_trades(trade())
    with monkeypatch.context() as patch:
        patch.setattr(trade_totals, "commit", fails)
        with pytest.raises(RedisConnectionError):
            one.step(now_ms=NOW, block_ms=1)
    assert one.step(now_ms=NOW, block_ms=1) == 1
    assert total().sums.trade_count == 1


def test_after_redis_lost_everything_the_next_round_begins_anew(one):
    log_trades(trade())
    drain(one)
    redis_client().delete(*redis_client().keys(f"{keys.trades_stream('*')}"))
    assert one.step(now_ms=NOW, block_ms=1) == 0
    log_trades(trade())
    drain(one)
    assert total().sums.trade_count == 2


def test_a_minute_was_listened_to_when_a_socket_was_up_and_its_log_read(one):
    heartbeat.beat("collect:binance", now_ms=NOW + 3_000, sockets_up=1)
    heartbeat.beat("collect:kraken", now_ms=NOW + 3_000, sockets_up=0)
    heartbeat.beat("collect:okx", now_ms=NOW - MINUTE, sockets_up=2)
    one.step(now_ms=NOW + 4_000, block_ms=1)
    assert trade_totals.listening([NOW - MINUTE, NOW]) == {NOW - MINUTE: {"okx"}, NOW: {"binance"}}
    assert heartbeat.last(["aggregate"])["aggregate"]["at_ms"] == NOW + 4_000


def test_while_it_is_behind_nothing_is_said_to_be_listened_to(one):
    for exchange in ("binance", "okx"):
        heartbeat.beat(f"collect:{exchange}", now_ms=NOW, sockets_up=1)
    for _ in range(aggregator.ENTRIES_PER_STREAM + 1):
        log_trades(trade())
    one.step(now_ms=NOW, block_ms=1)
    assert trade_totals.listening([NOW]) == {NOW: {"okx"}}


def test_without_a_catalogue_nothing_is_read():
    redis_client().delete(keys.catalog(), keys.catalog_version())
    idle = Aggregator("idle")
    assert idle.step(now_ms=NOW) == 0
    idle.close()


# --- exactly once ---


class Crash(BaseException):
    pass


def dying(when, commit):
    def die(entries, **options):
        if when == "dies after":
            commit(entries, **options)
        raise Crash

    return die


def expect(expected, trades):
    for each in trades:
        minute = each.event_ms // MINUTE * MINUTE
        expected.setdefault(minute, Sums()).add(
            Sums(volume=each.size, quote_volume=each.price * each.size, trade_count=1)
        )


steps = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(["round", "dies before", "dies after", "restarts"]),
        st.integers(0, 4),  # entries logged before it
    ),
    min_size=1,
    max_size=12,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps, st.data())
def test_any_batches_consumers_crashes_and_redeliveries_give_the_same_sums(
    redis_prefix, at_once, monkeypatch, steps, data
):
    redis_client().delete(*redis_client().keys(f"{redis_prefix}:*"))
    publish_catalog()
    expected: dict[int, Sums] = {}
    consumers = {name: Aggregator(name) for name in "abc"}
    for name, what, entries in steps:
        for _ in range(entries):
            some = data.draw(st.lists(random_trades, min_size=1, max_size=4))
            expect(expected, some)
            log_trades(*some)
        with monkeypatch.context() as patch:
            if what.startswith("dies"):
                patch.setattr(trade_totals, "commit", dying(what, trade_totals.commit))
            with suppress(Crash):
                consumers[name].step(now_ms=NOW, block_ms=1)
        if what != "round":
            consumers[name].close()
            consumers[name] = Aggregator(name)
    for each in consumers.values():
        drain(each)
        each.close()
    found = trade_totals.read([(BTC, minute) for minute in expected])
    assert {minute: each.sums for (_, minute), each in found.items()} == expected


amounts = st.decimals(min_value="1e-8", max_value="1e6", places=8).map(lambda each: f"{each:f}")
random_trades = st.builds(
    lambda price, size, offset: trade(price, size, at_ms=NOW + offset),
    amounts,
    amounts,
    st.integers(-90_000, 90_000),
)


PROCESS = """
import os, signal, sys, threading
import django; django.setup()
from oracle import trade_totals
from prices.aggregator import Aggregator
from prices.management.commands.aggregate import run

name, when, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
commit, calls = trade_totals.commit, []

def dying(*args, **options):
    calls.append(1)
    if when == "before" and len(calls) == number:
        os.kill(os.getpid(), signal.SIGKILL)
    answer = commit(*args, **options)
    if when == "after" and len(calls) == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer

trade_totals.commit = dying
run(Aggregator(name), threading.Event())
"""


def spawn(redis_prefix, settings, *arguments):
    environment = {**os.environ, "REDIS_URL": settings.REDIS_URL, "REDIS_PREFIX": redis_prefix}
    return subprocess.Popen([sys.executable, *arguments], env=environment, cwd=settings.BASE_DIR)


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def log_many(entries):
    """So many entries of 20 trades; how many trades."""
    for number in range(entries):
        log_trades(*(trade("0.1", "0.001", at_ms=NOW + number * 100) for _ in range(20)))
    return entries * 20


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_killed_around_its_commit_loses_and_doubles_nothing(
    redis_prefix, settings, at_once, when
):
    logged = log_many(40)
    victim = spawn(redis_prefix, settings, "-c", PROCESS, "victim", when, "3")
    assert victim.wait(30) == -signal.SIGKILL
    survivor = Aggregator("survivor")
    drain(survivor)
    survivor.close()
    assert total().sums == sums(f"{D('0.001') * logged}", f"{D('0.0001') * logged}", logged)


def test_processes_killed_at_any_moment_lose_and_double_nothing(redis_prefix, settings, at_once):
    logged = log_many(20)
    killed: Counter[int] = Counter()
    for number in range(3):
        victim = spawn(
            redis_prefix, settings, "manage.py", "aggregate", "--consumer", f"victim{number}"
        )
        done = total().sums.trade_count if total() else 0
        while victim.poll() is None:
            logged += log_many(2)
            now = total()
            if now and now.sums.trade_count > done + 100 * (number + 1):
                victim.kill()
                killed[victim.wait()] += 1
    assert killed == {-signal.SIGKILL: 3}
    survivor = Aggregator("survivor")
    drain(survivor)
    survivor.close()
    found = Sums()
    stored = [f"{BTC}|{minute}" for minute in range(NOW, NOW + 3 * MINUTE, MINUTE)]
    for each in trade_totals.read([(BTC, int(name.split("|")[1])) for name in stored]).values():
        found.add(each.sums)
    assert found == sums(f"{D('0.001') * logged}", f"{D('0.0001') * logged}", logged)


def test_the_command_ends_cleanly_when_told_to(redis_prefix, settings):
    process = spawn(redis_prefix, settings, "manage.py", "aggregate", "--consumer", "a")
    log_many(1)
    wait_until(lambda: total() is not None)
    process.terminate()
    assert process.wait(10) == 0
