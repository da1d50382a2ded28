"""The circuit breaker, in a real Redis, at times the tests choose."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ingestion import breaker
from ingestion.breaker import PROBE_LOST_MS, Circuit, State
from oracle import keys
from oracle.connection import redis_client
from oracle.values import ErrorCode

NOW_MS = 1_790_000_000_000
WINDOW_MS, OPEN_MS = 30_000, 60_000


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    settings.BREAKER_FAILURES = 5
    settings.BREAKER_WINDOW_MS = WINDOW_MS
    settings.BREAKER_OPEN_MS = OPEN_MS


def fail(now_ms: int, exchange: str = "okx") -> bool:
    return breaker.record_failure(exchange, code=ErrorCode.TIMEOUT, now_ms=now_ms)


def open_at(now_ms: int) -> None:
    assert [fail(now_ms) for _ in range(5)] == [False, False, False, False, True]


def circuit(now_ms: int) -> Circuit:
    return breaker.states(["okx"], now_ms=now_ms)["okx"]


def test_allow_unknown_exchange_is_closed() -> None:
    assert breaker.allow("okx", now_ms=NOW_MS)
    assert circuit(NOW_MS) == Circuit()


def test_record_failure_the_fifth_in_the_window_opens() -> None:
    results = [fail(NOW_MS + number * 7_000) for number in range(5)]
    assert results == [False, False, False, False, True]
    assert not breaker.allow("okx", now_ms=NOW_MS + 28_001)
    assert circuit(NOW_MS + 28_001) == Circuit(
        state=State.OPEN,
        failure_count=5,
        opened_ms=NOW_MS + 28_000,
        failed_ms=NOW_MS + 28_000,
        error="TIMEOUT",
    )


def test_record_failure_fifth_after_the_first_left_the_window_stays_closed() -> None:
    results = [fail(NOW_MS + number * 7_500) for number in range(12)]
    assert not any(results)
    assert breaker.allow("okx", now_ms=NOW_MS + 90_000)


def test_record_success_while_closed_does_not_forget_failures() -> None:
    for number in range(4):
        fail(NOW_MS + number)
        assert not breaker.record_success("okx")
    assert fail(NOW_MS + 5)


def test_record_failure_of_one_exchange_leaves_the_others_alone() -> None:
    open_at(NOW_MS)
    assert breaker.allow("kraken", now_ms=NOW_MS)


def test_allow_lets_one_probe_through_when_the_open_time_is_over() -> None:
    open_at(NOW_MS)
    assert not breaker.allow("okx", now_ms=NOW_MS + OPEN_MS - 1)
    assert breaker.allow("okx", now_ms=NOW_MS + OPEN_MS)
    assert not breaker.allow("okx", now_ms=NOW_MS + OPEN_MS)
    assert circuit(NOW_MS + OPEN_MS).state == State.HALF_OPEN


def test_allow_of_many_workers_at_once_is_one_probe() -> None:
    open_at(NOW_MS)
    with ThreadPoolExecutor(16) as pool:
        asked = [
            pool.submit(breaker.allow, "okx", now_ms=NOW_MS + OPEN_MS + number)
            for number in range(64)
        ]
    assert sum(future.result() for future in asked) == 1


def test_record_success_of_the_probe_closes_and_forgets_the_failures() -> None:
    open_at(NOW_MS)
    breaker.allow("okx", now_ms=NOW_MS + OPEN_MS)
    assert breaker.record_success("okx")
    assert breaker.allow("okx", now_ms=NOW_MS + OPEN_MS)
    assert not fail(NOW_MS + OPEN_MS + 1)
    assert circuit(NOW_MS + OPEN_MS + 1) == Circuit(
        failure_count=1, failed_ms=NOW_MS + OPEN_MS + 1, error="TIMEOUT"
    )


def test_record_failure_of_the_probe_opens_again_for_the_whole_time() -> None:
    open_at(NOW_MS)
    again_ms = NOW_MS + OPEN_MS + 10
    assert breaker.allow("okx", now_ms=again_ms)
    assert fail(again_ms)
    assert not breaker.allow("okx", now_ms=again_ms + OPEN_MS - 1)
    assert breaker.allow("okx", now_ms=again_ms + OPEN_MS)


def test_allow_lost_probe_is_replaced_by_one_other() -> None:
    open_at(NOW_MS)
    probe_ms = NOW_MS + OPEN_MS
    assert breaker.allow("okx", now_ms=probe_ms)
    assert not breaker.allow("okx", now_ms=probe_ms + PROBE_LOST_MS - 1)
    assert breaker.allow("okx", now_ms=probe_ms + PROBE_LOST_MS)
    assert not breaker.allow("okx", now_ms=probe_ms + PROBE_LOST_MS + 1)


def test_record_success_sent_before_it_opened_leaves_it_open() -> None:
    open_at(NOW_MS)
    assert not breaker.record_success("okx")
    assert not breaker.allow("okx", now_ms=NOW_MS + 1)


def test_record_failure_late_one_does_not_prolong_the_open_time() -> None:
    open_at(NOW_MS)
    assert not fail(NOW_MS + OPEN_MS - 1)
    assert breaker.allow("okx", now_ms=NOW_MS + OPEN_MS)


def test_allow_opened_by_a_clock_days_ahead_is_not_shut_for_days() -> None:
    open_at(NOW_MS + 3 * 86_400_000)
    assert breaker.allow("okx", now_ms=NOW_MS)


def test_record_failure_is_forgotten_by_redis_itself() -> None:
    fail(NOW_MS)
    left_ms = redis_client().pttl(keys.circuit("okx"))
    assert breaker.KEEP_MS - 60_000 < left_ms <= breaker.KEEP_MS


def test_reset_closes_and_forgets() -> None:
    open_at(NOW_MS)
    breaker.reset("okx")
    assert circuit(NOW_MS) == Circuit()
    assert breaker.allow("okx", now_ms=NOW_MS)


def test_states_counts_only_failures_still_in_the_window() -> None:
    fail(NOW_MS)
    fail(NOW_MS + 20_000)
    counts = [circuit(NOW_MS + later).failure_count for later in (20_000, 30_000, 50_000)]
    assert counts == [2, 1, 0]


def test_settings_are_obeyed(settings: Any) -> None:
    settings.BREAKER_FAILURES, settings.BREAKER_OPEN_MS = 1, 1_000
    assert fail(NOW_MS)
    assert not breaker.allow("okx", now_ms=NOW_MS + 999)
    assert breaker.allow("okx", now_ms=NOW_MS + 1_000)
