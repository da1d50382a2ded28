"""Core symbols kept up to date: which ranges are due, and fetching one of them.

The jobs that do it are of the queue (`backtests.data_jobs`). What a range still lacks is known from
coverage, so any of this may run twice, be lost, or stop in the middle: the next one goes on. How
each series did last is kept in Redis for the status.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any, Literal

import structlog
from celery import current_app
from django.db import DatabaseError, InterfaceError
from redis.exceptions import RedisError

from ingestion import core_symbols, exchange_candles
from ingestion.candle_sources import CandleError
from ingestion.exchange_candles import Progress, UnavailableError
from market.coverage import Series
from oracle import jsontext, keys, metrics
from oracle.connection import redis_client

DAY_MS = 86_400_000
SYNC_TASK = "backtests.data_sync"  # by name: the queue is a layer above
KEEP_SECONDS = 30 * 86_400

Which = Literal["hourly", "daily"]
Outcome = Literal["done", "stopped", "unavailable", "failed"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Which timeframes are due together, how far back, and when an order is worth nothing more."""

    timeframes: tuple[str, ...]
    back_ms: int
    expires_seconds: int


SCHEDULES: Mapping[Which, Schedule] = {
    "hourly": Schedule(timeframes=("1m", "5m"), back_ms=3 * DAY_MS, expires_seconds=3_300),
    "daily": Schedule(
        timeframes=("15m", "1h", "4h", "1d"), back_ms=14 * DAY_MS, expires_seconds=12 * 3_600
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Candles to have: those that open in ``[start_ms, end_ms)``."""

    series: Series
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """How a fetch went. ``retryable``: a later try may go better."""

    outcome: Outcome
    written_count: int = 0
    error: str | None = None
    retryable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Last:
    """How the last fetch of a series went, and when one last went well."""

    at_ms: int
    outcome: Outcome
    error: str | None = None
    done_ms: int | None = None


def orders(which: Which, *, now_ms: int, exchange: str | None = None) -> list[Order]:
    """What a schedule wants of each core symbol."""
    schedule = SCHEDULES[which]
    return [
        Order(
            series=Series(exchange=row.exchange.name, symbol=row.symbol.name, timeframe=timeframe),
            start_ms=now_ms - schedule.back_ms,
            end_ms=now_ms,
        )
        for row in core_symbols.listed(exchange=exchange)
        for timeframe in row.timeframes
        if timeframe in schedule.timeframes
    ]


def send(which: Which, *, exchange: str | None = None) -> None:
    """Have a schedule's orders done now. Raises kombu's OperationalError: the broker is away."""
    current_app.send_task(
        SYNC_TASK,
        args=[which, exchange],
        expires=SCHEDULES[which].expires_seconds,
        ignore_result=True,
        retry=False,
    )


def fetch(
    order: Order,
    *,
    now_ms: int,
    stop: Event,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Fetched:
    """Fetch what an order still lacks, until ``stop``; how that went is noted.

    Where Redis is away it is not, and the status shows the fetch before: what came is stored.
    """
    series = order.series
    found = _fetch(order, now_ms=now_ms, stop=stop, on_progress=on_progress)
    metrics.DATA_FETCHES.labels(found.outcome).inc()
    try:
        _note(series, found.outcome, error=found.error, now_ms=now_ms)
    except RedisError as error:
        log.warning(
            "data_fetch.not_noted",
            series=_field(series),
            outcome=found.outcome,
            error=str(error),
        )
    if found.outcome == "failed":
        log.warning("data_fetch.failed", series=_field(series), error=found.error)
    return found


def _fetch(
    order: Order, *, now_ms: int, stop: Event, on_progress: Callable[[Progress], None]
) -> Fetched:
    series = order.series
    try:
        done = exchange_candles.ensure_range(
            series.exchange,
            series.symbol,
            series.timeframe,
            start_ms=order.start_ms,
            end_ms=order.end_ms,
            now_ms=now_ms,
            stop=stop,
            on_progress=on_progress,
        )
    except UnavailableError as error:
        return Fetched(outcome="unavailable", error=str(error))
    except CandleError as error:
        return Fetched(outcome="failed", error=str(error), retryable=error.retryable)
    except (DatabaseError, InterfaceError) as error:
        return Fetched(outcome="failed", error=str(error), retryable=True)
    except ValueError as error:
        return Fetched(outcome="failed", error=str(error))
    return Fetched(outcome="stopped" if done.stopped else "done", written_count=done.written_count)


def last(wanted: Iterable[Series]) -> dict[Series, Last]:
    """How the last fetch of each series went; none of those never fetched."""
    every = list(wanted)
    held: dict[str, Mapping[bytes, bytes]] = {}
    for exchange in {series.exchange for series in every}:
        found: Any = redis_client().hgetall(keys.data_fetches(exchange))
        held[exchange] = found
    texts = {series: held[series.exchange].get(_field(series).encode()) for series in every}
    return {series: Last(**jsontext.decode(text)) for series, text in texts.items() if text}


def _note(series: Series, outcome: Outcome, *, error: str | None, now_ms: int) -> None:
    before = last([series]).get(series)
    # What the exchange keeps no longer will not come: all there is is there.
    well = outcome in ("done", "unavailable")
    facts = {
        "at_ms": now_ms,
        "outcome": outcome,
        "error": error,
        "done_ms": now_ms if well else before and before.done_ms,
    }
    key = keys.data_fetches(series.exchange)
    redis_client().hset(key, _field(series), jsontext.encode(facts))
    redis_client().expire(key, KEEP_SECONDS)


def _field(series: Series) -> str:
    return f"{series.exchange}|{series.symbol}|{series.timeframe}"
