"""Backfills: ordered, claimed and run in slices, canceled, tried again.

A row of `Backfill` is worked window by window, the newest first. Whoever runs it holds it by
``locked_by``, and every change asks for that: a worker that was paused, or whose backfill was
canceled, changes nothing any more. What is done is known from coverage; a run that died goes on
where it stopped.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import structlog
from celery import current_app
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Case, F, Q, QuerySet, When
from kombu.exceptions import OperationalError

from ingestion import window
from ingestion.exchange_candles import SETTLE_MS
from ingestion.models import Backfill
from ingestion.window import WINDOW_MS, NotListedError, Plan
from market import coverage, gaps, rollups
from market.candles import epoch_ms, to_datetime
from market.models import Symbol
from market.ranges import TimeRange, cut, subtract, widen
from oracle.candle_book import MINUTE_MS

FIRST_MS = 1_262_304_000_000  # 2010-01-01: no exchange has candles that old
STALE_SECONDS = 120  # without a sign of life: longer than the longest window takes to write
RESUME_SECONDS = 60  # how often what nobody works on is sent for
RUN_TASK = "ingestion.run_backfill"

log = structlog.get_logger(__name__)


class BackfillError(ValueError):
    """An order that cannot be carried out; the text says why."""

    retryable = False


def order(
    symbol: str,
    *,
    start_ms: int,
    end_ms: int,
    overwrite: bool,
    created_by: str,
    now_ms: int,
    rates: bool = True,
) -> Backfill:
    """Note an order of the minutes in ``[start_ms, end_ms)``; a worker is sent for it on commit.

    Its end is brought forward to the last minute that is closed for good. With ``rates``, what is
    missing of the rates that its prices are converted with is ordered before it: most exchanges
    would be left out without. Raises BackfillError.
    """
    rows = note(
        symbol,
        start_ms=start_ms,
        end_ms=end_ms,
        overwrite=overwrite,
        created_by=created_by,
        now_ms=now_ms,
        rates=rates,
    )
    for row in rows:
        transaction.on_commit(partial(send, row.pk))
    return rows[-1]


def note(
    symbol: str,
    *,
    start_ms: int,
    end_ms: int,
    overwrite: bool,
    created_by: str,
    now_ms: int,
    rates: bool = True,
) -> list[Backfill]:
    """The same without sending for a worker, for who runs them himself: the symbol's own last."""
    if start_ms >= end_ms:
        raise BackfillError(f"from ({_said(start_ms)}) must be before to ({_said(end_ms)})")
    if end_ms > now_ms:
        raise BackfillError(f"to ({_said(end_ms)}) lies in the future: leave it out to mean now")
    if start_ms < FIRST_MS:
        raise BackfillError(f"from ({_said(start_ms)}) is before {_said(FIRST_MS)}: begin later")
    kept_ms = rollups.kept_from_ms(now_ms)
    if start_ms < kept_ms:
        raise BackfillError(
            f"from ({_said(start_ms)}) is before {_said(kept_ms)}: RETENTION_DAYS is "
            f"{settings.RETENTION_DAYS}, and what is older is removed; begin later, or keep more"
        )
    try:
        plan = window.make_plan(symbol)
    except NotListedError as error:
        raise BackfillError(str(error)) from error
    # An exchange may be behind: a minute asked for too soon would be taken for an empty one.
    settled_ms = (now_ms - max(settings.FLUSH_GRACE_MS, SETTLE_MS)) // MINUTE_MS * MINUTE_MS
    start_ms, end_ms = start_ms // MINUTE_MS * MINUTE_MS, -(-end_ms // MINUTE_MS) * MINUTE_MS
    end_ms = min(end_ms, settled_ms)
    if start_ms >= end_ms:
        raise BackfillError(f"no minute since {_said(start_ms)} has been over for long enough yet")
    whole = TimeRange(start_ms=start_ms, end_ms=end_ms)
    before = _note_rates(plan, whole, created_by=created_by, now_ms=now_ms) if rates else []
    return [*before, _create(symbol, whole, overwrite=overwrite, created_by=created_by)]


def _note_rates(plan: Plan, whole: TimeRange, *, created_by: str, now_ms: int) -> list[Backfill]:
    """Order what a range misses of each rate of a plan, unless that is on its way."""
    rows = []
    settled_ms = gaps.settled_ms(now_ms=now_ms)
    found = gaps.find(plan.rates, from_ms=whole.start_ms, to_ms=whole.end_ms, now_ms=now_ms)
    for rate in sorted(plan.rates):
        missing = [gap.whole for gap in found if gap.symbol == rate and not gap.empty]
        if not missing:
            continue
        # Where nothing collects them live, what is not settled yet is missing too.
        end_ms = whole.end_ms if missing[-1].end_ms == settled_ms else missing[-1].end_ms
        span = TimeRange(start_ms=missing[0].start_ms, end_ms=end_ms)
        live = Backfill.objects.filter(symbol=rate, status__in=Backfill.LIVE)
        if any(not subtract(span, [range_of(row)]) for row in live):
            continue
        try:
            window.make_plan(rate)
        except NotListedError:
            continue
        rows.append(_create(rate, span, overwrite=False, created_by=created_by))
    return rows


def _create(symbol: str, whole: TimeRange, *, overwrite: bool, created_by: str) -> Backfill:
    return Backfill.objects.create(
        symbol=symbol,
        start=to_datetime(whole.start_ms),
        end=to_datetime(whole.end_ms),
        overwrite=overwrite,
        created_by=created_by,
        minutes_total=whole.length_ms // MINUTE_MS,
    )


def _said(ms: int) -> str:
    return f"{to_datetime(ms):%Y-%m-%dT%H:%M:%SZ}"


def send(backfill_id: int, *, expires: int | None = None) -> None:
    """Send for a worker; where the broker is away, `resume` does so later.

    ``expires``: seconds after which it is not worth while any more.
    """
    try:
        current_app.send_task(RUN_TASK, args=[backfill_id], ignore_result=True, expires=expires)
    except OperationalError as error:
        log.warning("backfill.not_sent", backfill=backfill_id, error=str(error))


def resume(*, now_ms: int) -> list[int]:
    """Send for each backfill that waits, or whose worker died; which they are, the oldest first."""
    waiting = Backfill.objects.filter(Q(status=Backfill.PENDING) | _stale(now_ms))
    found = list(waiting.order_by("id").values_list("id", flat=True))
    for backfill_id in found:
        send(backfill_id, expires=RESUME_SECONDS)
    return found


def send_waiting(backfill_id: int) -> None:
    """Send for what may have waited for the end of a backfill: `claim` knows whether it did."""
    symbol = Backfill.objects.values_list("symbol", flat=True).get(pk=backfill_id)
    waiting = Backfill.objects.filter(status=Backfill.PENDING)
    if not Symbol.objects.filter(name=symbol, is_rate=True).exists():
        waiting = waiting.filter(symbol=symbol)
    for each in waiting.order_by("id").values_list("id", flat=True):
        send(each, expires=RESUME_SECONDS)


def cancel(backfill_id: int, *, now_ms: int) -> bool:
    """End a live backfill; False when it was over already. What it has written stays."""
    live = Backfill.objects.filter(pk=backfill_id, status__in=Backfill.LIVE)
    return bool(
        live.update(status=Backfill.CANCELED, finished_at=to_datetime(now_ms), locked_by="")
    )


def retry(backfill_id: int) -> bool:
    """Order again what a backfill that failed or was canceled left; False for any other."""
    if not reopen(backfill_id):
        return False
    transaction.on_commit(lambda: send(backfill_id))
    return True


def reopen(backfill_id: int) -> bool:
    """The same without sending for a worker: for who runs it himself."""
    over = Backfill.objects.filter(pk=backfill_id, status__in=(Backfill.FAILED, Backfill.CANCELED))
    # One that was never begun has its first attempt before it.
    attempt = Case(When(started_at=None, then=F("attempt")), default=F("attempt") + 1)
    return bool(
        over.update(
            status=Backfill.PENDING, attempt=attempt, errors=[], finished_at=None, locked_by=""
        )
    )


def _stale(now_ms: int) -> Q:
    since = to_datetime(now_ms) - timedelta(seconds=STALE_SECONDS)
    return Q(status=Backfill.RUNNING, locked_at__lt=since)


def held(row: Backfill) -> QuerySet[Backfill]:
    """The backfill, if it is still held as it was when ``row`` was claimed."""
    return Backfill.objects.filter(pk=row.pk, status=Backfill.RUNNING, locked_by=row.locked_by)


@transaction.atomic
def claim(backfill_id: int, *, now_ms: int) -> tuple[Backfill, Plan] | None:
    """Take a backfill that waits, or whose worker died; None when it is not to be run now.

    Not while another one of the same symbol runs, nor before older ones of the rates that its
    prices are converted with; and never where the symbol is no longer listed: it has failed.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('backfill claim', 0))")
    free = Backfill.objects.filter(Q(status=Backfill.PENDING) | _stale(now_ms))
    # Locked, or a cancel that comes while this decides would be overwritten.
    row = free.select_for_update().filter(pk=backfill_id).first()
    if row is None:
        return None
    now = to_datetime(now_ms)
    row.locked_by, row.locked_at = secrets.token_hex(8), now
    try:
        plan = window.make_plan(row.symbol)
    except NotListedError as error:
        row.status, row.finished_at, row.locked_by = Backfill.FAILED, now, ""
        row.errors = [{"error": str(error)}]
        row.save(update_fields=["status", "finished_at", "locked_by", "locked_at", "errors"])
        return None
    if _in_the_way(row, plan, now_ms=now_ms) is not None:
        return None
    if row.started_at is None or row.status == Backfill.RUNNING:
        row.attempt += 1
    if row.started_at is None:
        row.started_at = now
        if row.overwrite:
            # From here on covered means overwritten, so that this too can go on where it stopped.
            coverage.forget(plan.series, range_of(row))
    row.status = Backfill.RUNNING
    left = sum(part.length_ms for part in coverage.missing(plan.series, range_of(row)))
    row.minutes_done = row.minutes_total - left // MINUTE_MS
    row.save(
        update_fields=[
            *("status", "attempt", "started_at", "locked_by", "locked_at", "minutes_done")
        ]
    )
    return row, plan


def why_waiting(row: Backfill, *, now_ms: int) -> str:
    """Why a live backfill is not to be run now, for who watches it; empty once it is."""
    if row.status == Backfill.RUNNING:
        return "another process runs it, or has just died"
    try:
        other = _in_the_way(row, window.make_plan(row.symbol), now_ms=now_ms)
    except NotListedError:
        other = None
    return f"waits for backfill {other.pk} of {other.symbol}" if other else ""


def _in_the_way(row: Backfill, plan: Plan, *, now_ms: int) -> Backfill | None:
    since = to_datetime(now_ms) - timedelta(seconds=STALE_SECONDS)
    same = Q(symbol=row.symbol, status=Backfill.RUNNING, locked_at__gte=since)
    rates = Q(
        symbol__in=plan.rates,
        status__in=Backfill.LIVE,
        pk__lt=row.pk,
        start__lt=row.end,
        end__gt=row.start,
    )
    others = Backfill.objects.filter(same | rates).exclude(pk=row.pk).order_by("id")
    return next((each for each in others if each.symbol == row.symbol or _lacks(each, row)), None)


def _lacks(rate: Backfill, row: Backfill) -> bool:
    """Is there anything of the range of ``row`` that ``rate`` is still to bring?

    Windows come newest first: the last day need not wait for a year of its rates.
    """
    theirs, ours = range_of(rate), range_of(row)
    both = TimeRange(
        start_ms=max(theirs.start_ms, ours.start_ms), end_ms=min(theirs.end_ms, ours.end_ms)
    )
    to_be_forgotten = rate.overwrite and rate.started_at is None
    return to_be_forgotten or bool(coverage.missing(window.series_of(rate.symbol), both))


def range_of(row: Backfill) -> TimeRange:
    """The range of a backfill."""
    return TimeRange(start_ms=epoch_ms(row.start), end_ms=epoch_ms(row.end))


def windows(row: Backfill, plan: Plan) -> Iterator[TimeRange]:
    """The windows that are left, the newest first: not covered, and not failed in this attempt."""
    whole = range_of(row)
    failed = {
        index
        for error in row.errors
        if "start_ms" in error
        for index in range(error["start_ms"] // WINDOW_MS, -(-error["end_ms"] // WINDOW_MS))
    }
    found: dict[int, None] = {}
    for part in reversed(coverage.missing(plan.series, whole)):
        for each in cut(widen(part, step_ms=WINDOW_MS), length_ms=WINDOW_MS, newest_first=True):
            found[each.start_ms // WINDOW_MS] = None
    for index in found:
        if index not in failed:
            yield TimeRange(
                start_ms=max(whole.start_ms, index * WINDOW_MS),
                end_ms=min(whole.end_ms, (index + 1) * WINDOW_MS),
            )


def finish(row: Backfill, *, now_ms: int) -> str:
    """Record the end of a backfill whose windows are all done; its status."""
    failed = any("note" not in error for error in row.errors)
    status = Backfill.FAILED if failed else Backfill.SUCCEEDED
    ended = held(row).update(
        status=status,
        finished_at=to_datetime(now_ms),
        locked_by="",
        # Of windows that lacked nothing there is no write that could have told.
        minutes_done=row.minutes_done,
    )
    return status if ended else Backfill.CANCELED


def release(row: Backfill) -> None:
    """Give a backfill back, unfinished, for whoever is free."""
    held(row).update(status=Backfill.PENDING, locked_by="", locked_at=None)
