"""How long rows are kept, and the removal of older ones where no policy of the server does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection
from psycopg import sql

from market.candles import to_datetime

DAY_MS = 86_400_000
ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeTable:
    """A table whose primary key is ``keys`` and then ``time``; kept for ever with 0 days."""

    table: str
    keys: tuple[str, ...]
    keep_days: int


def boundary_ms(*, keep_days: int, now_ms: int) -> int:
    """What is older may go: the start of a UTC day, so that no bucket is cut; 0 for nothing."""
    return (now_ms // DAY_MS - keep_days) * DAY_MS if keep_days else 0


def prune(rows: TimeTable, *, now_ms: int) -> int:
    """Remove what is past its time, batch by batch, each a transaction; how many rows."""
    before_ms = boundary_ms(keep_days=rows.keep_days, now_ms=now_ms)
    if not before_ms:
        return 0
    removed, key = 0, _key_after(rows, None)
    while key is not None:
        while count := _remove(rows, key, before_ms):
            removed += count
        key = _key_after(rows, key)
    return removed


def _key_after(rows: TimeTable, key: Sequence[str] | None) -> Sequence[str] | None:
    # From the primary key: `SELECT DISTINCT` would read all of a table of many millions.
    columns = sql.SQL(", ").join(map(sql.Identifier, rows.keys))
    statement = sql.SQL("SELECT {columns} FROM {table} {after} ORDER BY {columns} LIMIT 1").format(
        columns=columns,
        table=sql.Identifier(rows.table),
        after=sql.SQL("WHERE ({columns}) > ({values})").format(
            columns=columns, values=sql.SQL(", ").join(sql.Placeholder() * len(rows.keys))
        )
        if key
        else sql.SQL(""),
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, list(key or ()))
        found: tuple[str, ...] | None = cursor.fetchone()
    return found


def _remove(rows: TimeTable, key: Sequence[str], before_ms: int) -> int:
    statement = sql.SQL(
        "DELETE FROM {table} WHERE ctid = ANY(ARRAY("
        "SELECT ctid FROM {table} WHERE {keys} AND time < %s LIMIT {limit}))"
    ).format(
        table=sql.Identifier(rows.table),
        keys=sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(k)) for k in rows.keys),
        limit=sql.Literal(ROWS_AT_ONCE),
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [*key, to_datetime(before_ms)])
        removed: int = cursor.rowcount
    return removed
