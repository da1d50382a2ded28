"""The connection to Redis, patient for tasks and quick for who waits."""

from __future__ import annotations

import socket
import time
from types import SimpleNamespace

import pytest
from redis.exceptions import TimeoutError as RedisTimeoutError

from oracle import connection, keys, ratelimit
from oracle.connection import HANGS_SECONDS, QUICK_TIMEOUT_SECONDS, quickly, redis_client
from oracle.ratelimit import Verdict


@pytest.fixture
def hangs(settings, tmp_path):
    """A Redis that takes connections and never says a word."""
    path = tmp_path / "redis.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(50)
        settings.REDIS_URL = f"unix://{path}"
        yield


def seconds(ask):
    started = time.monotonic()
    with pytest.raises(RedisTimeoutError):
        ask()
    return time.monotonic() - started


def test_quickly_gives_up_after_one_short_try(hangs):
    with quickly():
        assert QUICK_TIMEOUT_SECONDS <= seconds(lambda: redis_client().ping()) < 0.8


def test_quickly_ends_with_its_block():
    patient = redis_client()
    with quickly(), quickly():
        quick = redis_client()
    with quickly():
        assert redis_client() is quick

    assert redis_client() is patient
    assert quick is not patient


def test_quickly_after_a_timeout_of_the_limiter_nobody_waits_again(hangs, monkeypatch):
    assert ratelimit.take("203.0.113.1", "prices") == Verdict(allowed=True)
    with quickly():
        assert seconds(lambda: redis_client().ping()) < 0.1
        monkeypatch.setattr(connection, "_hang", lambda url: connection._Hang())  # a moment later
        assert seconds(lambda: redis_client().ping()) >= QUICK_TIMEOUT_SECONDS


def test_quickly_requests_that_keep_coming_do_not_prolong_a_hang(hangs, monkeypatch):
    """Who is not let ask Redis has not learnt that it still hangs."""
    clock = SimpleNamespace()
    monkeypatch.setattr(connection, "time", clock)

    def is_asked(at):
        clock.monotonic = lambda: at
        started = time.monotonic()
        assert ratelimit.take("203.0.113.1", "prices") == Verdict(allowed=True)
        return time.monotonic() - started >= QUICK_TIMEOUT_SECONDS

    times = (0, 0.2, HANGS_SECONDS - 0.01, HANGS_SECONDS + 0.01)
    assert [is_asked(at) for at in times] == [True, False, False, True]


def test_quickly_redis_that_was_restarted_is_asked_a_second_time():
    with quickly():
        redis_client().ping()
        for held in redis_client().connection_pool._available_connections:
            held._sock.shutdown(socket.SHUT_RDWR)

        assert redis_client().get(keys.catalog()) is None
