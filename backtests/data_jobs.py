"""The jobs that keep core symbols' candles up to date: a sync orders a fetch of each series."""

from __future__ import annotations

from typing import cast

from backtests import data_range, job_orders
from backtests.fields import OrderError, choice, known, refuse
from backtests.job_orders import Order
from backtests.models import Job, JobType
from backtests.work import Done, JobError, Running, StoppedError
from ingestion import data_sync
from ingestion.data_sync import SCHEDULES, Which
from ingestion.exchange_candles import Progress
from market.coverage import INDEX
from market.ranges import TimeRange

# Behind what somebody waits for.
PRIORITY = 200


def order_sync(which: str, exchange: str | None = None) -> tuple[Job, bool]:
    """Have a schedule's ranges fetched: the job, and whether there was none yet."""
    payload = {"which": which} | ({"exchange": exchange} if exchange else {})
    return job_orders.enqueue(
        Order(
            type=JobType.DATA_SYNC,
            payload=payload,
            priority=PRIORITY,
            dedupe_key=f"data_sync:{which}:{exchange or 'all'}"[:200],
        )
    )


def sync(running: Running, *, now_ms: int) -> Done:
    """Order the fetches of a schedule; of a series that is still being fetched, no second one."""
    payload = running.claim.payload
    try:
        known(payload, ("which", "exchange"))
        which = cast(Which, choice(payload, "which", tuple(SCHEDULES), default=""))
        exchange = payload.get("exchange")
        if exchange is not None and type(exchange) is not str:
            raise refuse("exchange", exchange, "an exchange's name")
    except OrderError as error:
        raise JobError(f"bad payload: {error}") from error
    made = 0
    found = data_sync.orders(which, now_ms=now_ms, exchange=exchange)
    for order in found:
        running.check()
        made += job_orders.enqueue(_fetch_of(order, which))[1]
    return Done(result={"ordered": made, "already_ordered": len(found) - made})


def _fetch_of(order: data_sync.Order, which: Which) -> Order:
    series = order.series
    wanted = TimeRange(start_ms=order.start_ms, end_ms=order.end_ms)
    return Order(
        type=JobType.DATA_FETCH,
        payload=data_range.payload(series, wanted),
        priority=PRIORITY,
        # Its range is the last days, whenever that was: the next one has what this one lacks.
        dedupe_key=f"data_fetch:{which}:{series.exchange}:{series.symbol}:{series.timeframe}",
    )


def fetch(running: Running, *, now_ms: int) -> Done:
    """Fetch what a range lacks. Raises JobError at the first page that does not come."""
    try:
        series, wanted = data_range.read(running.claim.payload)
        if series.exchange == INDEX:
            raise OrderError("exchange", "of our own index there is nothing to fetch")
    except OrderError as error:
        raise JobError(f"bad payload: {error}") from error

    def show(progress: Progress) -> None:
        running.report(
            minutes_done=progress.done_ms // 60_000, minutes_total=progress.total_ms // 60_000
        )

    order = data_sync.Order(series=series, start_ms=wanted.start_ms, end_ms=wanted.end_ms)
    found = data_sync.fetch(order, now_ms=now_ms, stop=running.stop, on_progress=show)
    if found.outcome == "stopped":
        raise StoppedError
    if found.outcome == "failed":
        raise JobError(str(found.error), retryable=found.retryable)
    if found.error:
        running.note("warn", found.error)
    return Done(result={"outcome": found.outcome, "written_count": found.written_count})
