"""One HTTP call by the rules every caller keeps: within the budget, obeying what is refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ingestion import budget, http
from ingestion.adapter import Adapter, Answer, Parsed, Refusal, Request
from ingestion.fetch import base_url
from oracle.values import ErrorCode

T = TypeVar("T")


class Refused(Exception):
    """The exchange does not answer this now, or our own budget forbids to ask.

    ``wait_ms``: how long until it may be worth another try. ``retryable`` False: never.
    ``sent`` False: it was not asked at all.
    """

    def __init__(
        self, detail: str, *, wait_ms: int, retryable: bool = True, sent: bool = True
    ) -> None:
        super().__init__(detail)
        self.wait_ms = wait_ms
        self.retryable = retryable
        self.sent = sent


def call(
    adapter: Adapter, request: Request, parse: Callable[[Answer], Parsed[T]], *, spare: bool
) -> Parsed[T]:
    """Send and read a request; blocking.

    ``spare``: it may only use what tickers leave. Raises `Refused`, `http.FetchError`,
    `UnreadableError`.
    """
    now_ms = time.time_ns() // 1_000_000
    spend = budget.spend_spare if spare else budget.spend
    wait = spend(adapter, request, now_ms=now_ms)
    if wait is not None:
        raise Refused(f"not now: {wait.why}", wait_ms=wait.wait_ms, sent=False)
    answer = http.send(adapter.NAME, base_url(adapter), request, now_ms=now_ms)
    parsed = parse(answer)
    if parsed.usage is not None:
        budget.observe(adapter, parsed.usage, now_ms=answer.received_ms)
    if parsed.refusal is not None:
        _obey(adapter, request, parsed.refusal, now_ms=answer.received_ms)
    return parsed


def _obey(adapter: Adapter, request: Request, refusal: Refusal, *, now_ms: int) -> None:
    code = refusal.code
    banned = code == ErrorCode.IP_BAN
    wait_ms = 1_000
    if banned or code == ErrorCode.RATE_LIMIT or refusal.retry_after_ms is not None:
        until_ms = budget.block(
            adapter.NAME,
            code=code,
            asked_ms=refusal.retry_after_ms,
            budget=None if banned else request.budget,
            now_ms=now_ms,
        )
        wait_ms = until_ms - now_ms
    retryable = code not in (ErrorCode.UNKNOWN_SYMBOL, ErrorCode.BAD_REQUEST, ErrorCode.BLOCKED)
    raise Refused(f"{code}: {refusal.detail}", wait_ms=wait_ms, retryable=retryable)
