"""Is the oracle well? Judged by what was last written, not by what was tried."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config import schema
from config.state import Check, Facts, State, read_state, recent_state
from config.uptime import uptime_seconds
from config.version import VERSION
from market.schema import errors
from oracle.ticker_book import Feed

LATE_FLUSH_MS = 180_000
TRADES_SILENT_MS = 15_000
TRADES_LATE_MS = 60_000
NOT_KNOWN = Check(up=False, message="not known while Redis is away")


class Health(APIView):
    """How everything is: 200 when `ok` or `degraded`, 503 when `down`."""

    authentication_classes = ()
    throttle_scope = "health"

    @extend_schema(
        tags=["health"],
        operation_id="health",
        responses={200: schema.HealthAnswer, 503: schema.HealthAnswer, **errors()},
    )
    def get(self, request: Request) -> Response:
        body = health_body(read_state(), uptime_seconds=uptime_seconds())
        return Response(body, status=503 if body["status"] == "down" else 200)


class Live(APIView):
    """This process answers. Nothing else is asked: a restart brings no store back."""

    authentication_classes = ()
    throttle_scope = None

    @extend_schema(tags=["health"], operation_id="live", responses=schema.LiveAnswer)
    def get(self, request: Request) -> Response:
        return Response({"status": "ok"})


class Ready(APIView):
    """Can it be sent requests? Database, Redis and current prices are there; 503 otherwise.

    Probes have no limit, so the stores are asked once a second however often this is.
    """

    authentication_classes = ()
    throttle_scope = None

    @extend_schema(
        tags=["health"],
        operation_id="ready",
        responses={200: schema.ReadyAnswer, 503: schema.ReadyAnswer},
    )
    def get(self, request: Request) -> Response:
        body = ready_body(recent_state())
        return Response(body, status=200 if body["status"] == "ok" else 503)


def health_body(state: State, *, uptime_seconds: int) -> dict[str, Any]:
    """The health answer to a state."""
    facts = state.facts
    exchanges = _exchanges(facts) if facts else {}
    checks = _checks(state, exchanges)
    return {
        "status": _status(facts, checks),
        "timestamp": time.time_ns() // 1_000_000,
        "version": VERSION,
        "uptime": uptime_seconds,
        "simulated": settings.SIMULATED,
        "leader": facts is not None and all(facts.leaders.values()),
        "services": {"redis": _word(state.redis.up), "database": _word(state.database.up)},
        "checks": _bodies(checks),
        "exchanges": exchanges,
    }


def ready_body(state: State) -> dict[str, Any]:
    """The readiness answer to a state."""
    current = _current_prices(state.facts)
    checks = {"redis": state.redis, "database": state.database, "prices": current}
    ready = all(check.up for check in checks.values())
    return {"status": "ok" if ready else "not_ready", "checks": _bodies(checks)}


def is_up(feed: Feed, *, now_ms: int) -> bool:
    """Is the newest of the exchange's tickers young enough for a price?"""
    return feed.as_of_ms is not None and now_ms - feed.as_of_ms <= settings.TICKER_MAX_AGE_MS


def _status(facts: Facts | None, checks: Mapping[str, Check]) -> str:
    if not _current_prices(facts).up:
        return "down"
    return "ok" if all(check.up for check in checks.values()) else "degraded"


def _checks(state: State, exchanges: Mapping[str, Mapping[str, Any]]) -> dict[str, Check]:
    checks = {"redis": state.redis, "database": state.database}
    facts = state.facts
    if facts is None:
        return checks | dict.fromkeys(
            ("index", "prices", "exchanges", "trades", "flush", "candles"), NOT_KNOWN
        )
    return checks | {
        "index": _index(facts),
        "prices": _prices(facts),
        "exchanges": _all_exchanges(facts, exchanges),
        "trades": _trades(facts),
        "flush": _flush(facts),
        "candles": Check(up=True, message=f"{facts.candles_waiting} in Redis, not stored yet"),
    }


def _current_prices(facts: Facts | None) -> Check:
    """Is there any price that is not stale? Without one there is nothing to serve."""
    if facts is None:
        return NOT_KNOWN
    count = sum(price is not None and price.status != "stale" for price in facts.prices.values())
    return Check(up=count > 0, message=f"{count} of {len(facts.prices)} symbols have a current one")


def _index(facts: Facts) -> Check:
    at_ms = facts.beats.get("index", {}).get("at_ms")
    if at_ms is None:
        return Check(up=False, message="has not run yet")
    age_ms = max(0, facts.now_ms - int(at_ms))
    up = age_ms <= settings.TICKER_MAX_AGE_MS
    return Check(up=up, latency_ms=age_ms, message=f"last ran {age_ms} ms ago")


def _prices(facts: Facts) -> Check:
    count = Counter(price.status if price else "missing" for price in facts.prices.values())
    words = ", ".join(
        f"{count[status]} {status}"
        for status in ("fresh", "degraded", "stale", "missing")
        if count[status]
    )
    return Check(up=count["fresh"] == count.total() > 0, message=words or "no symbols")


def _exchanges(facts: Facts) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "status": _word(is_up(feed, now_ms=facts.now_ms)),
            "last_ticker_age_ms": (
                None if feed.as_of_ms is None else max(0, facts.now_ms - feed.as_of_ms)
            ),
            "last_trade_age_ms": _trade_age_ms(facts, name),
            "circuit": facts.circuits[name].state.value,
        }
        for name, feed in facts.feeds.items()
    }


def _trade_age_ms(facts: Facts, exchange: str) -> int | None:
    event_ms = facts.trade_beats.get(f"collect:{exchange}", {}).get("event_ms")
    return None if event_ms is None else max(0, facts.now_ms - int(event_ms))


def _trades(facts: Facts) -> Check:
    """Does somebody listen to each exchange, and are the trades added up?"""
    silent = [
        name
        for name in facts.feeds
        if not (beat := facts.trade_beats.get(f"collect:{name}"))
        or facts.now_ms - int(beat["at_ms"]) > TRADES_SILENT_MS
        or not beat.get("sockets_up")
    ]
    if silent:
        return Check(up=False, message=f"nobody listens to {', '.join(silent)}")
    lag_ms = max(facts.trade_lags_ms.values(), default=0)
    return Check(up=lag_ms <= TRADES_LATE_MS, message=f"added up to {lag_ms} ms ago")


def _all_exchanges(facts: Facts, exchanges: Mapping[str, Mapping[str, Any]]) -> Check:
    down = [
        f"{name} ({facts.feeds[name].error or 'no new tickers'})"
        for name, exchange in exchanges.items()
        if exchange["status"] == "down"
    ]
    if not exchanges:
        return Check(up=False, message="none is enabled")
    return Check(up=not down, message=f"down: {', '.join(down)}" if down else "all up")


def _flush(facts: Facts) -> Check:
    """Late when a candle has waited too long for a flush, or no flush has come to its end."""
    at_ms = facts.beats.get("flush", {}).get("at_ms")
    age_ms = None if at_ms is None else max(0, facts.now_ms - int(at_ms))
    late = facts.flush_lag_ms > LATE_FLUSH_MS or (age_ms is not None and age_ms > LATE_FLUSH_MS)
    ended = "no flush yet" if age_ms is None else f"last flush {age_ms} ms ago"
    return Check(
        up=not late,
        latency_ms=age_ms,
        message=f"{ended}, oldest candle waits for {facts.flush_lag_ms} ms",
    )


def _bodies(checks: Mapping[str, Check]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "status": _word(check.up),
            "latency_ms": check.latency_ms,
            "message": check.message,
        }
        for name, check in checks.items()
    }


def _word(up: bool) -> str:
    return "up" if up else "down"
