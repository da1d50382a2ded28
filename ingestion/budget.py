"""What we may still ask of an exchange, counted in its own units, by all workers together in Redis.

Per-second tickers come first. `spend` may use the whole of a budget; everything else, which is
history, uses `spend_spare` and can never hold more than what the tickers' part leaves: a backfill
gets slower, the tickers do not. When the exchange refuses all the same, `block` stops us for as
long as it says.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ingestion.adapter import Adapter, Request, Usage
from oracle import keys
from oracle.connection import redis_client, run_script
from oracle.values import ErrorCode

# The part of their budget that is kept for tickers, or more where asking for all of them each
# second takes more (Binance: 80 %). The rest of this half is our distance from being banned.
TICKERS_RATIO = 0.5

# Where the exchange does not say how long to wait: twice as long at each refusal, up to the cap.
FIRST_WAIT_MS: Mapping[ErrorCode, int] = {ErrorCode.IP_BAN: 120_000}
CAP_WAIT_MS: Mapping[ErrorCode, int] = {ErrorCode.IP_BAN: 3_600_000}
DEFAULT_FIRST_WAIT_MS = 2_000
DEFAULT_CAP_WAIT_MS = 300_000
# Where it does: Binance bans for up to three days. "Retry-After: 0" is no invitation to hammer.
MIN_ASKED_MS, MAX_ASKED_MS = 1_000, 3 * 86_400_000
FORGET_MS = 600_000  # so long without a refusal, and the next one is a first one again


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Not now: how long until it may be worth another try, and why."""

    wait_ms: int
    why: Literal["blocked", "budget"]


def spend(adapter: Adapter, request: Request, *, now_ms: int) -> Wait | None:
    """Take the weight of a ticker request from its budget; None when it may be sent.

    Raises ValueError for a request that no budget of the adapter allows.
    """
    units = _units(adapter, request)
    return _spend(adapter, request, units=units, spare_units=None, now_ms=now_ms)


def spend_spare(adapter: Adapter, request: Request, *, now_ms: int) -> Wait | None:
    """The same for what can wait: all of a budget that tickers do not use, else what they leave."""
    units = spare = _units(adapter, request)
    tickers = adapter.tickers_request(())
    if request.budget == tickers.budget:
        needed = tickers.weight * adapter.BUDGETS[tickers.budget].window_ms / 1000
        spare -= math.ceil(max(needed, units * TICKERS_RATIO))
    return _spend(
        adapter, request, units=units, spare_units=max(spare, request.weight), now_ms=now_ms
    )


def _units(adapter: Adapter, request: Request) -> int:
    budget = adapter.BUDGETS.get(request.budget)
    if budget is None or request.weight > budget.units:
        raise ValueError(f"{adapter.NAME} has no budget for {request}")
    return budget.units


def _spend(
    adapter: Adapter, request: Request, *, units: int, spare_units: int | None, now_ms: int
) -> Wait | None:
    exchange, name = adapter.NAME, request.budget
    wait_ms, why = run_script(
        "budget_spend",
        [keys.budget(exchange, name), keys.blocked(exchange, name), keys.blocked(exchange)],
        [
            now_ms,
            request.weight,
            units,
            adapter.BUDGETS[name].window_ms,
            "" if spare_units is None else spare_units,
        ],
    )
    if not wait_ms:
        return None
    return Wait(wait_ms=int(wait_ms), why="blocked" if why == b"blocked" else "budget")


def observe(adapter: Adapter, usage: Usage, *, now_ms: int) -> int:
    """Believe the exchange when it counts more than we did; how much that added."""
    window_ms = adapter.BUDGETS[usage.budget].window_ms
    key = keys.budget(adapter.NAME, usage.budget)
    return int(run_script("budget_observe", [key], [now_ms, usage.used, window_ms]))


def block(
    exchange: str,
    *,
    code: ErrorCode,
    now_ms: int,
    asked_ms: int | None = None,
    budget: str | None = None,
) -> int:
    """Ask nothing more of a budget, or with none of the exchange; until when, in epoch ms.

    ``asked_ms`` is how long the exchange said to wait. Up to a tenth is added, so that those it
    refused together do not come back together. A block is never made shorter.
    """
    if asked_ms is not None:
        asked_ms = min(max(asked_ms, MIN_ASKED_MS), MAX_ASKED_MS)
    until_ms = run_script(
        "budget_block",
        [keys.blocked(exchange, budget)],
        [
            now_ms,
            code.value,
            "" if asked_ms is None else asked_ms,
            FIRST_WAIT_MS.get(code, DEFAULT_FIRST_WAIT_MS),
            CAP_WAIT_MS.get(code, DEFAULT_CAP_WAIT_MS),
            random.random(),
            FORGET_MS,
        ],
    )
    return int(until_ms)


def blocked_until(exchange: str, *, now_ms: int, budget: str | None = None) -> int | None:
    """Until when the exchange, or one of its budgets, is not to be asked; None: it may be."""
    names = {keys.blocked(exchange), keys.blocked(exchange, budget)}
    pipe = redis_client().pipeline(transaction=False)
    for name in names:
        pipe.hget(name, "until_ms")
    latest_ms = max(int(until_ms or 0) for until_ms in pipe.execute())
    return latest_ms if latest_ms > now_ms else None
