"""Which candles a run read, and whether they are still the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from django.db import InterfaceError, OperationalError
from psycopg.errors import QueryCanceled

from backtests.data import drifted
from backtests.models import Job
from market import revisions
from market.coverage import Series
from market.ranges import TimeRange
from market.revisions import StaleRollupError

log = structlog.get_logger(__name__)


def data(row: Job) -> Mapping[str, Any] | None:
    """What a run's result says of its candles; None while it has none."""
    found = row.result.get("data") if isinstance(row.result, Mapping) else None
    return found if isinstance(found, Mapping) else None


def series(found: Mapping[str, Any]) -> Series:
    """Whose candles they are."""
    return Series(exchange=found["exchange"], symbol=found["symbol"], timeframe=found["timeframe"])


def whole(found: Mapping[str, Any]) -> TimeRange:
    """The range they are of."""
    return TimeRange(start_ms=found["start_ms"], end_ms=found["end_ms"])


def of(row: Job, *, now_ms: int) -> dict[str, Any] | None:
    """The candles of a run with their revision and drift; None while it has none.

    Reads all of them to tell, which takes a second for a million.
    """
    found = data(row)
    if found is None:
        return None
    return {
        "exchange": found["exchange"],
        "symbol": found["symbol"],
        "timeframe": found["timeframe"],
        "start_ts": found["start_ms"] // 1_000,
        "end_ts": found["end_ms"] // 1_000,
        "revision": found["revision"],
        "row_count": found["row_count"],
        "drift": _drift(found, now_ms=now_ms),
    }


def _drift(found: Mapping[str, Any], *, now_ms: int) -> dict[str, Any]:
    try:
        now = revisions.compute(series(found), whole(found), now_ms=now_ms)
    except StaleRollupError as error:
        return {"changed": None, "message": f"unknown for the moment: {error}"}
    except (OperationalError, InterfaceError) as error:
        return {"changed": None, "message": f"unknown: {_unread(error)}"}
    message = drifted(found, now)
    return {"changed": bool(message), "message": message or "the candles are the same as then"}


def _unread(error: Exception) -> str:
    """Why the candles were not read: of many, that a request's time was over is to be expected."""
    if isinstance(error.__cause__, QueryCanceled):
        return "reading the candles again took too long"
    log.warning("run.drift_unknown", error=str(error))
    return "the candles could not be read again"
