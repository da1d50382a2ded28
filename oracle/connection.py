"""The process's connection to Redis, and the Lua scripts that run there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Any

from django.conf import settings
from redis import Redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

LUA = Path(__file__).parent / "lua"
TIMEOUT_SECONDS = 2
# What a Redis that hangs may cost somebody who waits for a web page, and for how long it is then
# taken at its word: else each of the requests behind would hold its thread as long again.
QUICK_TIMEOUT_SECONDS = 0.5
HANGS_SECONDS = 0.5


_in_a_hurry: ContextVar[bool] = ContextVar("in_a_hurry", default=False)


class RedisHangsError(RedisTimeoutError):
    """Redis was not asked: a moment ago it did not answer somebody else in time."""

    retryable = True


class ClockError(RuntimeError):
    """This host's clock is so far from Redis's that what it says of ages is not to be believed."""

    retryable = False


def check_own_clock(script_answer: int) -> None:
    """Raise ClockError for the -1 with which a script refuses a caller's clock."""
    if script_answer == -1:
        raise ClockError(
            f"this host's clock is more than {settings.MAX_CLOCK_OFF_MS} ms (MAX_CLOCK_OFF_MS) off "
            "that of Redis: nothing was written. Is it synchronised?"
        )


@cache
def _connect(url: str) -> Redis:
    # One quick retry covers a connection that a restart of Redis left half dead; more would only
    # pile up ticks behind a server that is away.
    return Redis.from_url(
        url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=0.1, base=0.05), 1),
    )


@cache
def _connect_quickly(url: str) -> Redis:
    # The second try is for a connection that a restart of Redis left half dead. A timeout has none.
    return Redis.from_url(
        url,
        socket_timeout=QUICK_TIMEOUT_SECONDS,
        socket_connect_timeout=QUICK_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )


def redis_client() -> Redis:
    """The client of this process: thread-safe, pooled, answering bytes.

    Under `quickly` one that gives up soon; it raises TimeoutError. Where somebody else's question
    has just ended so, there is none: raises RedisHangsError.
    """
    if not _in_a_hurry.get():
        return _connect(settings.REDIS_URL)
    if time.monotonic() < _hang(settings.REDIS_URL).until:
        raise RedisHangsError(f"did not answer within {QUICK_TIMEOUT_SECONDS} s a moment ago")
    return _connect_quickly(settings.REDIS_URL)


@contextmanager
def quickly() -> Iterator[None]:
    """Give Redis half a second in here, not more, and no second try: somebody waits."""
    before = _in_a_hurry.set(True)
    try:
        yield
    finally:
        _in_a_hurry.reset(before)


def note_timeout() -> None:
    """Redis did not answer in time: for HANGS_SECONDS, `quickly` does not even ask it."""
    _hang(settings.REDIS_URL).until = time.monotonic() + HANGS_SECONDS


@dataclass(slots=True)
class _Hang:
    until: float = 0.0


@cache
def _hang(url: str) -> _Hang:
    return _Hang()


@cache
def script(name: str) -> tuple[str, str]:
    """A script's text, the shared functions before it, and the digest that names it in Redis."""
    text = (LUA / "shared.lua").read_text() + (LUA / f"{name}.lua").read_text()
    return text, sha1(text.encode(), usedforsecurity=False).hexdigest()


def run_script(name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
    """Run ``oracle/lua/<name>.lua`` in one round trip; loads it when Redis does not know it yet."""
    return run_scripts(name, [(keys, args)])[0]


def run_scripts(name: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
    """Run one script for each ``(keys, args)``, all in one round trip; the answers in order.

    A script must be safe to run again: after a NOSCRIPT the whole batch is sent once more.
    """
    text, digest = script(name)
    client = redis_client()

    def send() -> list[Any]:
        if len(calls) == 1:
            keys, args = calls[0]
            return [client.evalsha(digest, len(keys), *keys, *args)]
        pipe = client.pipeline(transaction=False)
        for keys, args in calls:
            pipe.evalsha(digest, len(keys), *keys, *args)
        return pipe.execute()

    try:
        return send()
    except NoScriptError:
        client.script_load(text)
        return send()
