"""The limiter: exact, sliding, and open when Redis is away."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from oracle import keys, ratelimit
from oracle.connection import redis_client
from oracle.ratelimit import Verdict, client_address, is_trusted, take

PROXIES = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]


def _parallel(count: int) -> list[Verdict]:
    with ThreadPoolExecutor(max_workers=32) as pool:
        return list(pool.map(lambda _: take("203.0.113.1", "market"), range(count)))


@pytest.mark.parametrize(("asked", "refused"), [(100, 0), (101, 1), (150, 50)])
def test_take_parallel_refuses_exactly_what_is_over(asked, refused):
    verdicts = _parallel(asked)

    assert sum(not verdict.allowed for verdict in verdicts) == refused


def test_take_refused_is_not_counted(settings):
    settings.RATE_LIMIT_PER_MINUTE = 1
    take("203.0.113.1", "market")
    for _ in range(3):
        take("203.0.113.1", "market")

    assert redis_client().zcard(keys.ratelimit("203.0.113.1", "market")) == 1


def test_take_addresses_and_scopes_are_apart(settings):
    settings.RATE_LIMIT_PER_MINUTE = 1
    doors = [("203.0.113.1", "market"), ("203.0.113.1", "prices"), ("203.0.113.2", "market")]

    assert [take(*door).allowed for door in doors] == [True, True, True]
    assert [take(*door).allowed for door in doors] == [False, False, False]


def test_take_refused_says_when_the_next_passes(settings):
    settings.RATE_LIMIT_PER_MINUTE = 2
    key = keys.ratelimit("203.0.113.1", "market")
    now_ms = time.time_ns() // 1_000_000
    redis_client().zadd(key, {"older": now_ms - 50_000, "old": now_ms - 20_000})

    verdict = take("203.0.113.1", "market")

    assert not verdict.allowed
    assert 9_000 < verdict.retry_after_ms <= 10_000


def test_take_lower_limit_waits_for_as_many_as_are_over(settings):
    settings.RATE_LIMIT_PER_MINUTE = 1
    key = keys.ratelimit("203.0.113.1", "market")
    now_ms = time.time_ns() // 1_000_000
    redis_client().zadd(key, {"older": now_ms - 50_000, "old": now_ms - 20_000})

    assert 39_000 < take("203.0.113.1", "market").retry_after_ms <= 40_000


def test_take_window_slides(settings):
    """A minute's worth just before the turn of a minute leaves nothing for just after it."""
    settings.RATE_LIMIT_PER_MINUTE = 2
    key = keys.ratelimit("203.0.113.1", "market")
    now_ms = time.time_ns() // 1_000_000
    redis_client().zadd(key, {"gone": now_ms - 60_001, "there": now_ms - 59_000})

    assert [take("203.0.113.1", "market").allowed for _ in range(2)] == [True, False]


def test_take_key_expires_with_the_window():
    take("203.0.113.1", "market")

    assert 0 < redis_client().pttl(keys.ratelimit("203.0.113.1", "market")) <= 60_000


def test_take_same_request_twice_counts_once(monkeypatch):
    monkeypatch.setattr("oracle.ratelimit.secrets.token_hex", lambda _: "same")
    take("203.0.113.1", "market")
    take("203.0.113.1", "market")

    assert redis_client().zcard(keys.ratelimit("203.0.113.1", "market")) == 1


def test_take_redis_away_lets_through_and_counts_it(settings):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    counter = ratelimit.UNCHECKED.labels("market")
    before = counter._value.get()

    assert take("203.0.113.1", "market") == Verdict(allowed=True)
    assert counter._value.get() == before + 1


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # not a proxy of ours
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.66, 198.51.100.1", "198.51.100.1"),  # the left one is made up
        ("10.0.0.1", "198.51.100.1, 192.0.2.7", "198.51.100.1"),  # two proxies
        ("10.0.0.1", "10.0.0.2, 10.0.0.3", "10.0.0.2"),  # all of them ours
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "garbage", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, garbage, 10.0.0.5", "10.0.0.5"),
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("2001:db8::1", "[2001:db9::5]:4711", "2001:db9::/64"),
        ("2001:db8::1", "2001:db9::5", "2001:db9::/64"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("::ffff:203.0.113.9", "", "203.0.113.9"),
        ("", "198.51.100.1", "unknown"),
        ("unix", "198.51.100.1", "unix"),
    ],
)
def test_client_address_trusts_proxies_only(peer, forwarded, address):
    assert client_address(peer, forwarded, PROXIES) == address


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        *(("10.9.9.9", True), ("::ffff:10.0.0.1", True), ("2001:db8::1", True)),
        *(("203.0.113.9", False), ("", False), ("unix", False)),
    ],
)
def test_is_trusted_proxies_only(peer, trusted):
    assert is_trusted(peer, PROXIES) is trusted


def test_client_address_of_one_ipv6_network_is_one():
    clients = [f"2001:db9:0:7::{n:x}" for n in range(3)] + [
        "2001:db9:0:7:ffff::1",
        "2001:db9:0:7::1%eth0",
    ]

    found = [client_address(client, "", []) for client in clients]

    assert found == ["2001:db9:0:7::/64"] * 5


def test_client_address_no_proxies_is_the_peer():
    assert client_address("127.0.0.1", "198.51.100.1", []) == "127.0.0.1"
