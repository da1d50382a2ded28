"""Candles of 5m to 1d, kept up to what changed below them.

Who writes 1m candles notes which minutes, in the same transaction; whoever comes next makes their
buckets anew and forgets the note. What dies in between is done again, to the same rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import connection, transaction

from market import aggregates, candles, retention, rollup_tables
from market.candles import epoch_ms, to_datetime
from market.ranges import TimeRange, join, widen
from market.rollup_levels import LEVELS

TABLES: Mapping[str, str] = {level.resolution: level.table for level in LEVELS}

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
# One transaction's worth of tables, in candles of 1m: about a second. Others wait for it.
CANDLES_PER_SLICE = 50_000
# One refresh of continuous aggregates: it is of all symbols.
DAYS_PER_REFRESH = 7
NOTES_AT_ONCE = 1_000
STATEMENT_SECONDS = 60
# A level of such a week, of many symbols: what never ends in time would be due for ever.
REFRESH_SECONDS = 600
# One refresh at a time: a slower one would write buckets as they were before a faster one's.
_LOCK = 0x726F6C6C7570  # "rollup"
# The newest first: who reads the last hours does not wait for a year's backfill.
_NEWEST = 'SELECT id, symbol, start, "end" FROM rollup_due ORDER BY "end" DESC, id LIMIT %s'


@dataclass(frozen=True, slots=True, kw_only=True)
class _Due:
    """A note: this range of a symbol, or of all, was touched."""

    id: int
    symbol: str | None
    whole: TimeRange


def note_touched(minutes: Iterable[tuple[str | None, TimeRange]]) -> None:
    """Note minutes of a symbol (None: of all) as changed, in the transaction that changes them."""
    touched: dict[str | None, list[TimeRange]] = {}
    for symbol, each in minutes:
        touched.setdefault(symbol, []).append(widen(each, step_ms=MINUTE_MS))
    rows = [
        (symbol, to_datetime(each.start_ms), to_datetime(each.end_ms))
        for symbol, ranges in touched.items()
        for each in join(ranges)
    ]
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            'INSERT INTO rollup_due (symbol, start, "end") '
            "SELECT * FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[])",
            [list(column) for column in zip(*rows, strict=True)],
        )


def due_from(symbol: str, *, from_ms: int, to_ms: int) -> int | None:
    """Where what is not rolled up yet begins, in ``[from_ms, to_ms)``; it may begin before that."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT min(start) FROM rollup_due WHERE (symbol = %s OR symbol IS NULL) "
            'AND start < %s AND "end" > %s',
            [symbol, to_datetime(to_ms), to_datetime(from_ms)],
        )
        (start,) = cursor.fetchone()
    return None if start is None else epoch_ms(start)


def due(symbol: str, whole: TimeRange, *, now_ms: int) -> list[TimeRange]:
    """The minutes of ``whole`` that are not rolled up yet, oldest first.

    Not those that never will be: of which the 1m candles may be gone.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT start, "end" FROM rollup_due WHERE (symbol = %s OR symbol IS NULL) '
            'AND start < %s AND "end" > %s',
            [symbol, to_datetime(whole.end_ms), to_datetime(whole.start_ms)],
        )
        rows = cursor.fetchall()
    from_ms = max(whole.start_ms, kept_from_ms(now_ms))
    ranges = [
        (max(epoch_ms(start), from_ms), min(epoch_ms(end), whole.end_ms)) for start, end in rows
    ]
    return join(TimeRange(start_ms=start, end_ms=end) for start, end in ranges if start < end)


def refresh_due(*, now_ms: int, seconds: float | None = None) -> int:
    """Roll up what is noted, newest first; how many notes are done with.

    After ``seconds`` no further slice is begun: what is left stays noted. What lies before the
    kept 1m candles is only forgotten: made anew of what is left of them, it would lose the rest.
    Outside a transaction where continuous aggregates are in use. Raises the database's errors.
    """
    started = time.monotonic()
    step = _refresh_aggregates if aggregates.in_use() else _refresh_tables
    kept_ms = kept_from_ms(now_ms)
    done = 0
    while (count := step(kept_ms)) is not None:
        done += count
        if seconds is not None and time.monotonic() - started > seconds:
            break
    return done


def _refresh_tables(kept_ms: int) -> int | None:
    """One slice, in one transaction: how many notes it finished; None when there was none."""
    if not _notes(limit=1):
        return None
    with transaction.atomic():
        candles.limit_statements(seconds=STATEMENT_SECONDS)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        due = _notes(limit=NOTES_AT_ONCE)
        everyone = rollup_tables.symbols() if any(note.symbol is None for note in due) else []
        touched: dict[str, list[TimeRange]] = {}
        finished, left = [], CANDLES_PER_SLICE
        for note in due:
            whole = _kept(note.whole, kept_ms)
            if whole is None:
                finished.append(note.id)
                continue
            symbols = everyone if note.symbol is None else [note.symbol]
            part = _slice(whole, candles=left, symbols=len(symbols))
            for symbol in symbols:
                touched.setdefault(symbol, []).append(part)
            left -= part.length_ms // MINUTE_MS * len(symbols)
            if part.end_ms < whole.end_ms:
                _shrink(note, part.end_ms)
                break
            finished.append(note.id)
            if left <= 0:
                break
        rollup_tables.refresh(touched)
        _forget(finished)
    return len(finished)


def _refresh_aggregates(kept_ms: int) -> int | None:
    """One slice of the newest notes that touch each other; forgotten once it is refreshed."""
    due = _notes(limit=NOTES_AT_ONCE)
    if not due:
        return None
    # Of all symbols anyway: what several noted of the same time is refreshed once.
    newest = join(note.whole for note in due)[-1]
    whole = _kept(newest, kept_ms)
    end_ms = newest.end_ms
    if whole is not None:
        end_ms = min(end_ms, (whole.start_ms // DAY_MS + DAYS_PER_REFRESH) * DAY_MS)
        with candles.statements_end_after(REFRESH_SECONDS):
            aggregates.refresh(TimeRange(start_ms=whole.start_ms, end_ms=end_ms))
    inside = [note for note in due if newest.start_ms <= note.whole.start_ms < end_ms]
    for note in inside:
        if note.whole.end_ms > end_ms:
            _shrink(note, end_ms)
    finished = [note.id for note in inside if note.whole.end_ms <= end_ms]
    _forget(finished)
    return len(finished)


def _notes(*, limit: int) -> Sequence[_Due]:
    with connection.cursor() as cursor:
        cursor.execute(_NEWEST, [limit])
        return [_note(*row) for row in cursor.fetchall()]


def _note(id: int, symbol: str | None, start: datetime, end: datetime) -> _Due:
    return _Due(
        id=id, symbol=symbol, whole=TimeRange(start_ms=epoch_ms(start), end_ms=epoch_ms(end))
    )


def kept_from_ms(now_ms: int) -> int:
    """Below this 1m candles may be gone, or about to go while this runs; 0 when none ever are."""
    days = settings.RETENTION_DAYS
    return retention.boundary_ms(keep_days=days - 1, now_ms=now_ms) if days else 0


def _kept(whole: TimeRange, kept_ms: int) -> TimeRange | None:
    """What of a range is still kept; None when nothing is."""
    if whole.end_ms <= kept_ms:
        return None
    return TimeRange(start_ms=max(whole.start_ms, kept_ms), end_ms=whole.end_ms)


def _slice(whole: TimeRange, *, candles: int, symbols: int) -> TimeRange:
    """The first part of a range that is about so many candles: whole days where it can be."""
    limit_ms = max(candles // max(symbols, 1) * MINUTE_MS, HOUR_MS)
    end_ms = whole.start_ms + limit_ms
    if end_ms >= whole.end_ms:
        return whole
    step_ms = DAY_MS if limit_ms > DAY_MS else HOUR_MS
    end_ms = max(end_ms // step_ms * step_ms, whole.start_ms + MINUTE_MS)
    return TimeRange(start_ms=whole.start_ms, end_ms=end_ms)


def _shrink(note: _Due, start_ms: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE rollup_due SET start = %s WHERE id = %s", [to_datetime(start_ms), note.id]
        )


def _forget(ids: Sequence[int]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM rollup_due WHERE id = ANY(%s)", [list(ids)])
