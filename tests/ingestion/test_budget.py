"""Request budgets, in a real Redis, at times the tests choose."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ingestion import budget
from ingestion.adapter import Adapter, Budget, Request, Usage
from ingestion.budget import Wait
from ingestion.exchanges import binance, kraken, kucoin
from ingestion.registry import ADAPTERS
from oracle.values import ErrorCode

NOW_MS = 1_790_000_000_000


def made(**units: tuple[int, int]) -> Adapter:
    """An adapter with these budgets (units, window); tickers draw on the first."""
    budgets: Mapping[str, Budget] = {
        name: Budget(units=count, window_ms=window) for name, (count, window) in units.items()
    }
    ticker = Request(path="/t", budget=next(iter(budgets)))
    return cast(
        Adapter,
        SimpleNamespace(NAME="okx", BUDGETS=budgets, tickers_request=lambda symbols: ticker),
    )


def take(adapter: Adapter, now_ms: int, weight: int = 1, name: str = "main") -> Wait | None:
    return budget.spend(
        adapter, Request(path="/t", weight=weight, budget=name), now_ms=NOW_MS + now_ms
    )


def take_spare(adapter: Adapter, now_ms: int, weight: int = 1, name: str = "main") -> Wait | None:
    return budget.spend_spare(
        adapter, Request(path="/c", weight=weight, budget=name), now_ms=NOW_MS + now_ms
    )


def test_spend_until_the_window_is_full_then_says_how_long_to_wait() -> None:
    adapter = made(main=(10, 1_000))
    assert [take(adapter, now) for now in (0, 100)] == [None, None]
    assert take(adapter, 200, weight=8) is None
    assert take(adapter, 300) == Wait(wait_ms=700, why="budget")
    assert take(adapter, 300, weight=2) == Wait(wait_ms=800, why="budget")
    assert take(adapter, 1_000) is None
    assert take(adapter, 1_000) == Wait(wait_ms=100, why="budget")


def test_spend_never_exceeds_the_units_of_any_window() -> None:
    adapter = made(main=(10, 1_000))
    taken = [now for now in range(0, 5_000, 13) if take(adapter, now) is None]
    # One may leave a hundredth of the window early.
    assert max(sum(now < other <= now + 990 for other in taken) for now in taken) <= 10
    assert len(taken) >= 49


def test_spend_of_many_workers_at_once_is_never_more_than_there_is() -> None:
    adapter = made(main=(10, 1_000))
    with ThreadPoolExecutor(16) as pool:
        tries = [pool.submit(take, adapter, 0) for _ in range(64)]
    assert sum(future.result() is None for future in tries) == 10


def test_spend_budgets_are_apart() -> None:
    adapter = made(main=(1, 1_000), other=(1, 1_000))
    assert take(adapter, 0) is None
    assert take(adapter, 0, name="other") is None
    assert take(adapter, 0, name="other") is not None


@pytest.mark.parametrize(("name", "weight"), [("none", 1), ("main", 11)])
def test_spend_what_no_budget_allows_is_an_error(name: str, weight: int) -> None:
    with pytest.raises(ValueError, match="okx has no budget for"):
        take(made(main=(10, 1_000)), 0, weight=weight, name=name)


@pytest.mark.parametrize("name", ADAPTERS)
def test_spend_a_ticker_request_each_second_is_always_allowed(name: str) -> None:
    adapter = ADAPTERS[name]
    request = adapter.tickers_request([f"A{number}" for number in range(100)])
    seconds = range(0, 130_000, 1_000)
    waits = [budget.spend(adapter, request, now_ms=NOW_MS + second) for second in seconds]
    assert waits == [None] * 130


@pytest.mark.parametrize("adapter", [binance, kucoin], ids=["binance", "kucoin"])
def test_spend_spare_greedy_backfill_never_keeps_a_ticker_waiting(adapter: Adapter) -> None:
    tickers = adapter.tickers_request([f"A{number}" for number in range(500)])
    candles = adapter.candles_request(
        "BTC", resolution_ms=60_000, from_ms=NOW_MS, to_ms=NOW_MS + 60_000, now_ms=NOW_MS
    )
    taken = 0
    for now_ms in range(NOW_MS, NOW_MS + 130_000, 1_000):
        for _ in range(60):
            taken += budget.spend_spare(adapter, candles, now_ms=now_ms) is None
        assert budget.spend(adapter, tickers, now_ms=now_ms) is None
    assert taken > 1_000


def test_spend_spare_gets_what_tickers_leave() -> None:
    adapter = made(main=(10, 1_000))
    assert [take_spare(adapter, 0) for _ in range(5)] == [None] * 5
    assert take_spare(adapter, 100) == Wait(wait_ms=900, why="budget")
    assert [take(adapter, 100) for _ in range(5)] == [None] * 5
    assert take(adapter, 100) == Wait(wait_ms=900, why="budget")


def test_spend_spare_gets_less_when_tickers_use_more_than_their_part() -> None:
    adapter = made(main=(10, 1_000))
    assert take(adapter, 0, weight=8) is None
    assert [take_spare(adapter, 10) for _ in range(2)] == [None] * 2
    assert take_spare(adapter, 10) == Wait(wait_ms=990, why="budget")


def test_spend_spare_of_a_budget_without_tickers_is_all_of_it() -> None:
    request = Request(path="/0/public/OHLC", budget="ohlc")
    assert budget.spend_spare(kraken, request, now_ms=NOW_MS) is None
    wait = budget.spend_spare(kraken, request, now_ms=NOW_MS)
    assert wait == Wait(wait_ms=2_000, why="budget")


def test_observe_the_exchange_counts_more_and_is_believed() -> None:
    adapter = made(main=(10, 1_000))
    take(adapter, 0, weight=3)
    assert budget.observe(adapter, Usage(budget="main", used=9), now_ms=NOW_MS + 100) == 6
    assert take(adapter, 200) is None
    assert take(adapter, 200) == Wait(wait_ms=800, why="budget")


def test_observe_the_exchange_counts_less_and_changes_nothing() -> None:
    adapter = made(main=(10, 1_000))
    take(adapter, 0, weight=9)
    assert budget.observe(adapter, Usage(budget="main", used=2), now_ms=NOW_MS + 100) == 0
    assert take(adapter, 100, weight=2) == Wait(wait_ms=900, why="budget")


def test_spend_fields_of_a_wrong_clock_do_not_count() -> None:
    adapter = made(main=(1, 1_000))
    assert take(adapter, 86_400_000) is None
    assert take(adapter, 0) is None


def block(now_ms: int = 0, **fields: Any) -> int:
    options = {"code": ErrorCode.RATE_LIMIT, **fields}
    return budget.block("okx", now_ms=NOW_MS + now_ms, **options) - NOW_MS - now_ms


@pytest.fixture
def _no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)


@pytest.mark.usefixtures("_no_jitter")
def test_block_of_a_budget_stops_that_budget_only() -> None:
    adapter = made(main=(10, 1_000), other=(10, 1_000))
    assert block(asked_ms=5_000, budget="main") == 5_000
    assert take(adapter, 1_000) == Wait(wait_ms=4_000, why="blocked")
    assert take_spare(adapter, 1_000) == Wait(wait_ms=4_000, why="blocked")
    assert take(adapter, 1_000, name="other") is None
    assert take(adapter, 5_000) is None


@pytest.mark.usefixtures("_no_jitter")
def test_block_of_the_exchange_stops_all_its_budgets() -> None:
    adapter = made(main=(10, 1_000), other=(10, 1_000))
    block(asked_ms=5_000, code=ErrorCode.IP_BAN)
    waits = [take(adapter, 1_000, name=name) for name in ("main", "other")]
    assert waits == [Wait(wait_ms=4_000, why="blocked")] * 2


@pytest.mark.usefixtures("_no_jitter")
@pytest.mark.parametrize(
    ("code", "first_ms", "cap_ms"),
    [(ErrorCode.RATE_LIMIT, 2_000, 300_000), (ErrorCode.IP_BAN, 120_000, 3_600_000)],
)
def test_block_without_a_named_wait_doubles_up_to_the_cap(
    code: ErrorCode, first_ms: int, cap_ms: int
) -> None:
    now_ms, waits = 0, []
    for _ in range(40):
        waits.append(block(now_ms, code=code))
        now_ms += waits[-1]
    assert waits == [min(cap_ms, first_ms * 2**number) for number in range(40)]


@pytest.mark.usefixtures("_no_jitter")
def test_block_answers_to_what_was_under_way_are_one_refusal() -> None:
    assert [block(now) + now for now in (0, 10, 20)] == [2_000, 2_010, 2_020]
    assert block(2_020) == 4_000


@pytest.mark.usefixtures("_no_jitter")
@pytest.mark.parametrize(
    ("asked_ms", "wait_ms"), [(0, 1_000), (7_000, 7_000), (10**15, 3 * 86_400_000)]
)
def test_block_named_wait_is_obeyed_within_reason(asked_ms: int, wait_ms: int) -> None:
    assert block(asked_ms=asked_ms) == wait_ms


@pytest.mark.usefixtures("_no_jitter")
def test_block_is_never_made_shorter() -> None:
    block(asked_ms=60_000)
    assert block(1_000, asked_ms=5_000) == 59_000


def test_block_waits_up_to_a_tenth_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.5)
    assert block(asked_ms=10_000) == 10_500


@pytest.mark.usefixtures("_no_jitter")
def test_blocked_until_is_the_later_of_both_or_none() -> None:
    assert budget.blocked_until("okx", now_ms=NOW_MS) is None
    block(asked_ms=5_000, budget="main")
    assert budget.blocked_until("okx", now_ms=NOW_MS) is None
    assert budget.blocked_until("okx", budget="main", now_ms=NOW_MS) == NOW_MS + 5_000
    block(asked_ms=9_000)
    assert budget.blocked_until("okx", budget="main", now_ms=NOW_MS) == NOW_MS + 9_000
    assert budget.blocked_until("okx", budget="main", now_ms=NOW_MS + 9_000) is None
