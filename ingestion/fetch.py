"""One fetch of an exchange's tickers: may we, ask, read, store, and remember how it went.

Nothing here touches the database: what to ask for comes from the catalogue in Redis, what was
answered goes to `oracle.ticker_book`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal
from urllib.parse import urlsplit

import structlog
from django.conf import settings

from ingestion import breaker, budget, http, suspects
from ingestion.adapter import Adapter, Answer, Parsed, Refusal, Request, UnreadableError, Unresolved
from ingestion.registry import ADAPTERS
from oracle import catalog, locks, metrics, ticker_book
from oracle.values import ErrorCode, Ticker

EVERY_MS = 1_000
# Longer than a fetch lasts; after that, one whose worker died no longer stands in the way.
RUNNING_TTL_MS = 5_000
MAX_NAMED = 10  # rows named in a feed's error

Skip = Literal["disabled", "no_symbols", "claimed", "running", "breaker", "blocked", "budget"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a fetch went: skipped and why, or how many tickers it stored and what was wrong."""

    exchange: str
    stored_count: int = 0
    skipped: Skip | None = None
    code: ErrorCode | None = None
    detail: str = ""


def fetch_tickers(exchange: str, *, now_ms: int) -> Outcome:
    """Fetch and store the tickers of one exchange, once a second however often it is called."""
    wanted = catalog.current().exchange_symbols.get(exchange)
    adapter = ADAPTERS.get(exchange)
    if wanted is None or adapter is None:
        return Outcome(exchange=exchange, skipped="disabled")
    tick = locks.claim_tick(f"fetch:{exchange}", now_ms=now_ms, every_ms=EVERY_MS)
    if tick is None:
        return _skip(exchange, "claimed")
    with locks.hold(f"fetch:{exchange}:running", ttl_ms=RUNNING_TTL_MS) as running:
        if running is None:
            return _skip(exchange, "running")
        return _fetch(adapter, wanted, token=tick.token, now_ms=now_ms)


def base_url(adapter: Adapter) -> str:
    """Where the exchange's REST API is: simulated, as configured, or the exchange's own."""
    if settings.SIMULATOR_URL:
        path = urlsplit(adapter.REST_URL).path
        return f"{settings.SIMULATOR_URL.rstrip('/')}/{adapter.NAME}{path}"
    configured: str = settings.EXCHANGE_REST_URLS.get(adapter.NAME, "")
    return (configured or adapter.REST_URL).rstrip("/")


def _skip(exchange: str, why: Skip) -> Outcome:
    metrics.INGESTION_SKIPPED.labels(exchange, why).inc()
    return Outcome(exchange=exchange, skipped=why)


def _fetch(adapter: Adapter, wanted: Sequence[str], *, token: str, now_ms: int) -> Outcome:
    exchange = adapter.NAME
    plan = suspects.plan(wanted, suspects.load(exchange), now_ms=now_ms)
    if not plan.symbols:  # an adapter asked for none would ask for all
        return _skip(exchange, "no_symbols")
    request = adapter.tickers_request(plan.symbols)
    # Spent at the tick's own second: one a second fits a budget of one a second, however unevenly
    # the ticks arrive. Before the breaker, whose probe must not be given away and then not sent.
    wait = budget.spend(adapter, request, now_ms=now_ms // EVERY_MS * EVERY_MS)
    if wait is not None:
        return _skip(exchange, wait.why)
    if not breaker.allow(exchange, now_ms=now_ms):
        return _skip(exchange, "breaker")
    try:
        with metrics.INGESTION_DURATION.labels(exchange).time():
            answer = http.send(exchange, base_url(adapter), request, now_ms=now_ms)
        parsed = adapter.parse_tickers(answer, request.symbols)
    except (http.FetchError, UnreadableError) as error:
        return _failed(exchange, error.code, str(error), now_ms=now_ms)
    if parsed.usage is not None:
        budget.observe(adapter, parsed.usage, now_ms=now_ms)
    if parsed.refusal is not None:
        return _refused(adapter, request, plan, parsed.refusal, now_ms=now_ms)
    left = suspects.passed(plan)
    if left != plan.suspects:
        suspects.save(exchange, left)
    return _store(exchange, answer, parsed, token=token, now_ms=now_ms)


def _store(
    exchange: str, answer: Answer, parsed: Parsed[Ticker], *, token: str, now_ms: int
) -> Outcome:
    tickers, wrong = _check_clocks(parsed)
    for code, count in Counter(row.code for row in wrong).items():
        metrics.INGESTION_ERRORS.labels(exchange, code.value).inc(count)
    if not tickers:
        code = wrong[0].code if wrong else ErrorCode.UNREADABLE
        return _broken(exchange, code, _named(wrong) or "an empty answer", now_ms=now_ms)
    stored = ticker_book.store(
        exchange,
        tickers,
        digest=blake2b(answer.body, digest_size=8).hexdigest(),
        received_ms=answer.received_ms,
        token=token,
    )
    _answered(exchange)
    if not stored:
        return Outcome(exchange=exchange, detail="a later fetch has stored already")
    if not wrong:
        return Outcome(exchange=exchange, stored_count=len(tickers))
    code, detail = wrong[0].code, _named(wrong)
    ticker_book.record_failure(exchange, code=code, detail=detail, now_ms=now_ms)
    return Outcome(exchange=exchange, stored_count=len(tickers), code=code, detail=detail)


def _check_clocks(parsed: Parsed[Ticker]) -> tuple[list[Ticker], list[Unresolved]]:
    tickers, wrong = [], list(parsed.unresolved)
    for ticker in parsed.values:
        reason = ticker_book.check_clock(ticker)
        if reason is None:
            tickers.append(ticker)
        else:
            row = Unresolved(
                code=ErrorCode.BAD_TIME, detail=reason, exchange_symbol=ticker.exchange_symbol
            )
            wrong.append(row)
    return tickers, wrong


def _named(wrong: Sequence[Unresolved]) -> str:
    rows = [f"{row.exchange_symbol or '?'} {row.code}: {row.detail}" for row in wrong[:MAX_NAMED]]
    return "; ".join(rows)


def _refused(
    adapter: Adapter, request: Request, plan: suspects.Plan, refusal: Refusal, *, now_ms: int
) -> Outcome:
    """What follows from the exchange's refusal of the whole call.

    A wait it asks for is obeyed, and a ban is not probed before it ends: neither says that the
    exchange is broken, so the breaker is left alone. Neither does a symbol that it does not know.
    """
    exchange, code, detail = adapter.NAME, refusal.code, refusal.detail
    banned = code == ErrorCode.IP_BAN
    if banned or code == ErrorCode.RATE_LIMIT or refusal.retry_after_ms is not None:
        budget.block(
            exchange,
            code=code,
            asked_ms=refusal.retry_after_ms,
            budget=None if banned else request.budget,
            now_ms=now_ms,
        )
    if banned or code == ErrorCode.RATE_LIMIT:
        _answered(exchange)
        return _count(exchange, code, detail, now_ms=now_ms)
    if code in (ErrorCode.UNKNOWN_SYMBOL, ErrorCode.BAD_REQUEST) and _asks_by_name(
        adapter, request
    ):
        _answered(exchange)
        return _suspect(exchange, plan, refusal, now_ms=now_ms)
    return _failed(exchange, code, detail, now_ms=now_ms)


def _asks_by_name(adapter: Adapter, request: Request) -> bool:
    """Could a symbol be to blame? Not where the call asks for every symbol there is."""
    everything = adapter.tickers_request(())
    return (request.path, request.params) != (everything.path, everything.params)


def _suspect(exchange: str, plan: suspects.Plan, refusal: Refusal, *, now_ms: int) -> Outcome:
    left = suspects.failed(plan, now_ms=now_ms)
    suspects.save(exchange, left)
    found = sorted(left.unknown.keys() - plan.suspects.unknown.keys())
    if found:
        log.warning("symbol unknown", exchange=exchange, exchange_symbols=found)
        detail = f"left out, unknown to the exchange: {', '.join(sorted(left.unknown))}"
    else:
        detail = f"{refusal.detail}: one of {len(plan.trial or plan.cleared)} symbols"
    return _count(exchange, refusal.code, detail, now_ms=now_ms)


def _failed(exchange: str, code: ErrorCode, detail: str, *, now_ms: int) -> Outcome:
    metrics.INGESTION_ERRORS.labels(exchange, code.value).inc()
    return _broken(exchange, code, detail, now_ms=now_ms)


def _broken(exchange: str, code: ErrorCode, detail: str, *, now_ms: int) -> Outcome:
    ticker_book.record_failure(exchange, code=code, detail=detail, now_ms=now_ms)
    if breaker.record_failure(exchange, code=code, now_ms=now_ms):
        log.warning("breaker opened", exchange=exchange, code=code.value, detail=detail)
    return Outcome(exchange=exchange, code=code, detail=detail)


def _count(exchange: str, code: ErrorCode, detail: str, *, now_ms: int) -> Outcome:
    metrics.INGESTION_ERRORS.labels(exchange, code.value).inc()
    ticker_book.record_failure(exchange, code=code, detail=detail, now_ms=now_ms)
    return Outcome(exchange=exchange, code=code, detail=detail)


def _answered(exchange: str) -> None:
    if breaker.record_success(exchange):
        log.info("breaker closed", exchange=exchange)
