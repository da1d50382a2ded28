"""Rows of the history as the admin API shows them: ranges in unix seconds, moments in ISO 8601."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ingestion.data_status import IndexStatus, SeriesStatus
from ingestion.models import Backfill
from market.candles import epoch_ms, to_datetime
from market.models import Listing
from market.ranges import TimeRange

MAX_GAPS = 20  # named ones; the count is of all


def core_symbol(row: Listing) -> dict[str, Any]:
    """A core symbol."""
    return {
        "exchange_id": row.exchange.name,
        "symbol": row.symbol.name,
        "exchange_symbol": row.exchange_symbol,
        "timeframes": list(row.timeframes),
        "enabled": row.synced,
        "added_by": row.added_by,
        "created_at": _moment(row.created_at),
    }


def series(status: SeriesStatus) -> dict[str, Any]:
    """A timeframe of a core symbol."""
    last = status.last
    return {
        "timeframe": status.series.timeframe,
        **_range(status.whole),
        "rows": status.rows,
        "rows_exact": status.exact,
        "gap_count": len(status.gaps),
        "gaps": [_range(gap) for gap in status.gaps[:MAX_GAPS]],
        "last_sync": None if last is None or last.done_ms is None else _at(last.done_ms),
        "last_fetch": None if last is None else {"time": _at(last.at_ms), "outcome": last.outcome},
        "last_error": last.error if last else None,
    }


def index_status(status: IndexStatus) -> dict[str, Any]:
    """A symbol of the index."""
    return {
        "symbol": status.symbol,
        **_range(status.whole),
        "rows": status.rows,
        "rows_exact": status.exact,
        "missing_minutes": sum(gap.minute_count for gap in status.gaps if not gap.empty),
        "empty_minutes": sum(gap.minute_count for gap in status.gaps if gap.empty),
        "gap_count": len(status.gaps),
        "gaps": [{**_range(gap.whole), "empty": gap.empty} for gap in status.gaps[:MAX_GAPS]],
    }


def backfill(row: Backfill) -> dict[str, Any]:
    """A backfill and how it goes."""
    return {
        "id": row.pk,
        "symbol": row.symbol,
        "from": epoch_ms(row.start) // 1_000,
        "to": epoch_ms(row.end) // 1_000,
        "overwrite": row.overwrite,
        "status": row.status,
        "progress": {
            "minutes_total": row.minutes_total,
            "minutes_done": row.minutes_done,
            "percent": percent(row),
            "candles_written": row.candles_written,
        },
        "errors": list(row.errors),
        "attempt": row.attempt,
        "created_by": row.created_by,
        "created_at": _moment(row.created_at),
        "started_at": _moment(row.started_at),
        "finished_at": _moment(row.finished_at),
    }


def percent(row: Backfill) -> int:
    """How much of a backfill is done, in whole percent: 100 only when all of it is."""
    return row.minutes_done * 100 // row.minutes_total if row.minutes_total else 0


def _range(whole: TimeRange | None) -> dict[str, int | None]:
    if whole is None:
        return {"from": None, "to": None}
    return {"from": whole.start_ms // 1_000, "to": whole.end_ms // 1_000}


def _at(ms: int) -> str | None:
    return _moment(to_datetime(ms))


def _moment(time: datetime | None) -> str | None:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ") if time else None
