"""What the whole oracle did last, read at once and in bounded time: for health and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from functools import cache
from threading import Lock
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections
from redis.exceptions import RedisError

from ingestion import breaker
from ingestion.breaker import Circuit
from market import flush, query
from oracle import candle_book, heartbeat, leader, price_board, ticker_book, trade_totals
from oracle.connection import quickly, redis_client
from oracle.price_board import Freshness
from oracle.ticker_book import Feed

# Both stores may hang: with the limiter's half second before, an answer is out within 1.5 s.
DEADLINE_SECONDS = 0.9
# Checks that hang must not pile up threads: the others wait for these, and give up in time. Each
# store has its own, or the one that hangs would make the other one look down.
THREADS = 4
RECENT_SECONDS = 1.0
ELECTED_ROLES = ("catalog",)  # and a collector for each exchange


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Whether something works, how long that took to find out, and in words."""

    up: bool
    latency_ms: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What Redis knows at ``now_ms``. ``prices`` holds None where a symbol has no price."""

    now_ms: int
    feeds: Mapping[str, Feed] = field(default_factory=dict)
    circuits: Mapping[str, Circuit] = field(default_factory=dict)
    prices: Mapping[str, Freshness | None] = field(default_factory=dict)
    beats: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    candles_waiting: int = 0
    flush_lag_ms: int = 0
    trade_lags_ms: Mapping[str, int] = field(default_factory=dict)
    trade_beats: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    leaders: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The two stores, and what Redis knows; None when it did not say."""

    redis: Check
    database: Check
    facts: Facts | None


def read_state() -> State:
    """Ask Redis and the database at the same time, for DEADLINE_SECONDS at most."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    redis_answer = _begin("redis", read_facts)
    database_answer = _begin("database", _ping_database)
    redis, facts = _outcome(redis_answer, deadline)
    database, _ = _outcome(database_answer, deadline)
    return State(redis=redis, database=database, facts=facts)


def read_facts_in_time() -> Facts | None:
    """What Redis knows; None when it did not say within DEADLINE_SECONDS."""
    facts: Facts | None
    _, facts = _outcome(_begin("redis", read_facts), time.monotonic() + DEADLINE_SECONDS)
    return facts


def recent_state() -> State:
    """The state as it was at most RECENT_SECONDS ago: for doors without a limit."""
    return _recent(settings.REDIS_PREFIX).read()


class _Recent:
    """The last state and until when it is good: one caller asks, the others take what there is."""

    def __init__(self) -> None:
        self._asking = Lock()
        self._state: State | None = None
        self._until = 0.0

    def read(self) -> State:
        state = self._state
        late = time.monotonic() - self._until
        if state is None or late > DEADLINE_SECONDS:
            self._asking.acquire()
        # While another one is asking, what there is will do: nobody waits for long.
        elif late < 0 or not self._asking.acquire(blocking=False):
            return state
        try:
            if self._state is None or time.monotonic() >= self._until:
                self._state = read_state()
                self._until = time.monotonic() + RECENT_SECONDS
            return self._state
        finally:
            self._asking.release()


@cache
def _recent(prefix: str) -> _Recent:
    return _Recent()


@cache
def _pool(store: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix=f"state-{store}")


def _begin(store: str, ask: Callable[[], object]) -> Future[tuple[object, int]]:
    return _pool(store).submit(_timed, ask)


def _timed(ask: Callable[[], object]) -> tuple[object, int]:
    started = time.perf_counter()
    answer = ask()
    return answer, round((time.perf_counter() - started) * 1_000)


def _outcome(answer: Future[Any], deadline: float) -> tuple[Check, Any]:
    try:
        value, latency_ms = answer.result(timeout=max(0.0, deadline - time.monotonic()))
    except FutureTimeoutError:
        answer.cancel()
        return Check(up=False, message=f"no answer within {DEADLINE_SECONDS} s"), None
    except (DatabaseError, InterfaceError, RedisError) as error:
        # Not the error's own words: they name hosts and users.
        return Check(up=False, message=f"away ({type(error).__name__})"), None
    return Check(up=True, latency_ms=latency_ms, message="answers"), value


def _ping_database() -> None:
    # A connection of its own: the request's may be in use, and a thread's own would stay open.
    wrapper = connections.create_connection("default")
    try:
        with wrapper.cursor() as cursor:
            cursor.execute("SET statement_timeout = 1000")
            cursor.execute("SELECT 1")
    finally:
        wrapper.close()


@quickly()
def read_facts() -> Facts:
    """Everything that Redis knows about how the oracle is. Raises RedisError."""
    redis_client().ping()
    catalog = query.published_catalog()
    now_ms = time.time_ns() // 1_000_000
    prices = price_board.read(catalog.spot_names)
    return Facts(
        now_ms=now_ms,
        feeds=ticker_book.read_feeds(catalog.exchanges),
        circuits=breaker.states(catalog.exchanges, now_ms=now_ms),
        prices={
            name: price_board.freshness(prices[name], now_ms=now_ms) if name in prices else None
            for name in sorted(catalog.spot_names)
        },
        beats=heartbeat.last(("index", "flush")),
        candles_waiting=candle_book.waiting(),
        flush_lag_ms=flush.lag_ms(now_ms=now_ms),
        trade_lags_ms=trade_totals.lags_ms(catalog.exchanges, now_ms=now_ms),
        trade_beats=heartbeat.last(f"collect:{name}" for name in catalog.exchanges),
        leaders={
            role: leader.holder(role)
            for role in (*ELECTED_ROLES, *(f"collect:{name}" for name in catalog.exchanges))
        },
    )
