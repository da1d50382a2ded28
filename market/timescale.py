"""TimescaleDB: what the server offers of it, what of that is used, and its policies by settings."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection, transaction
from django.db.utils import DatabaseError
from psycopg import sql

from market import aggregates, retention
from market.candles import to_datetime
from market.retention import TimeTable
from market.rollup_levels import LEVELS, Level

OLDEST = (2, 13)  # where `by_range` is
# The policies' own pace: what lies above the watermark is read live, and that is to stay little.
REFRESH_EVERY = timedelta(minutes=15)
REFRESH_BEHIND = timedelta(hours=1)


class TimescaleError(CommandError):
    """TIMESCALEDB asks for what this database cannot have; the message says what to do."""

    retryable = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What the server has: versions are None where there is none.

    ``loaded``: the library is, without which the extension cannot be created. ``edition`` is
    ``timescale`` or ``apache``; None until the extension is there to say it.
    """

    available: str | None
    installed: str | None
    loaded: bool
    edition: str | None

    @property
    def lacks(self) -> str | None:
        """Why hypertables cannot be had; None when they can."""
        version = self.installed or self.available
        if version is None:
            return "the server does not have the extension timescaledb"
        if tuple(int(part) for part in version.split("-")[0].split(".")[:2]) < OLDEST:
            return f"TimescaleDB {version} is too old: {OLDEST[0]}.{OLDEST[1]} or newer is needed"
        if not self.loaded:
            return "timescaledb is not among the server's shared_preload_libraries"
        return None

    @property
    def aggregates(self) -> bool:
        """Continuous aggregates, compression and policies too?"""
        return self.lacks is None and self.edition == "timescale"


def offer() -> Offer:
    """Ask the server."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT default_version, installed_version FROM pg_available_extensions "
            "WHERE name = 'timescaledb'"
        )
        available, installed = cursor.fetchone() or (None, None)
        # A setting of the preloaded part: shared_preload_libraries itself is not for everyone.
        cursor.execute(
            "SELECT current_setting('timescaledb.max_background_workers', true) IS NOT NULL, "
            "current_setting('timescaledb.license', true)"
        )
        loaded, edition = cursor.fetchone()
    return Offer(
        available=available,
        installed=installed,
        loaded=loaded,
        edition=edition if installed else None,
    )


def prepare() -> Offer | None:
    """Have the extension where TIMESCALEDB wants it; None where it is not to be used.

    Raises TimescaleError where it is wanted and cannot be had.
    """
    if settings.TIMESCALEDB == "off":
        return None
    found = offer()
    problem = found.lacks
    if problem is None and found.installed is None:
        problem = _create_extension()
        found = offer()
    if problem is None:
        return found
    if settings.TIMESCALEDB == "on":
        raise TimescaleError(f"TIMESCALEDB=on, but {problem}")
    return None


def _create_extension() -> str | None:
    """Why it could not be; None when it was."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    except DatabaseError as error:
        return f"the extension could not be created: {str(error).strip().splitlines()[0]}"
    return None


def is_hypertable(table: str) -> bool:
    """Is this table of the current schema one?"""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('timescaledb_information.hypertables') IS NOT NULL")
        if not cursor.fetchone()[0]:
            return False
        cursor.execute(
            "SELECT count(*) FROM timescaledb_information.hypertables "
            "WHERE hypertable_schema = current_schema AND hypertable_name = %s",
            [table],
        )
        return bool(cursor.fetchone()[0])


def make_hypertable(table: str) -> None:
    """Make a table one, with the rows that it has; its primary key serves every read.

    The server's limit on how much one statement may decompress is lifted: a late candle belongs
    into its chunk, compressed or not.
    """
    values: list[Any] = [table, timedelta(days=settings.CHUNK_DAYS)]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT create_hypertable(%s::regclass, by_range('time', %s::interval), "
            "create_default_indexes => false, if_not_exists => true, migrate_data => true)",
            values,
        )
        cursor.execute("SELECT current_database()")
        cursor.execute(
            sql.SQL(
                "ALTER DATABASE {} SET timescaledb.max_tuples_decompressed_per_dml_transaction = 0"
            ).format(sql.Identifier(cursor.fetchone()[0]))
        )


def apply(tables: Iterable[TimeTable]) -> None:
    """Bring chunks, compression, retention and refreshes of hypertables up to the settings.

    Safe to repeat; does nothing on tables that are none. Raises TimescaleError where TIMESCALEDB
    asks for another storage than this database was made with.
    """
    held = [rows for rows in tables if is_hypertable(rows.table)]
    if settings.TIMESCALEDB == "off" and held:
        raise TimescaleError(
            f"TIMESCALEDB=off, but {held[0].table} is a hypertable of TimescaleDB: "
            "there is no way back but a new database"
        )
    if settings.TIMESCALEDB == "on" and not held:
        prepare()
        raise TimescaleError(
            "TIMESCALEDB=on, but this database was made without it: "
            "`manage.py timescale --convert` moves its rows"
        )
    everything = held and offer().aggregates
    for rows in held:
        _set_chunks(rows.table)
        if everything:
            _set_compression(rows)
            _set_policy(
                "retention",
                rows.table,
                {"drop_after": timedelta(days=rows.keep_days)} if rows.keep_days else None,
            )
    if everything and aggregates.in_use():
        for level in LEVELS:
            _set_refresh(level)


def prune(rows: TimeTable, *, now_ms: int) -> int:
    """Remove what is past its time, unless a policy does: how many rows, or chunks of them."""
    if not is_hypertable(rows.table):
        return retention.prune(rows, now_ms=now_ms)
    before_ms = retention.boundary_ms(keep_days=rows.keep_days, now_ms=now_ms)
    if not before_ms or offer().aggregates:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM drop_chunks(%s::regclass, older_than => %s)",
            [rows.table, to_datetime(before_ms)],
        )
        dropped: int = cursor.fetchone()[0]
    return dropped


def _set_chunks(table: str) -> None:
    values: list[Any] = [table, timedelta(days=settings.CHUNK_DAYS)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_chunk_time_interval(%s::regclass, %s::interval)", values)


def _set_compression(rows: TimeTable) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT compression_enabled FROM timescaledb_information.hypertables "
            "WHERE hypertable_schema = current_schema AND hypertable_name = %s",
            [rows.table],
        )
        if not cursor.fetchone()[0]:
            cursor.execute(
                sql.SQL(
                    "ALTER TABLE {} SET (timescaledb.compress, timescaledb.compress_orderby = "
                    "'time', timescaledb.compress_segmentby = {})"
                ).format(sql.Identifier(rows.table), sql.Literal(", ".join(rows.keys)))
            )
    days = settings.COMPRESS_AFTER_DAYS
    _set_policy(
        "compression", rows.table, {"compress_after": timedelta(days=days)} if days else None
    )


def _set_refresh(level: Level) -> None:
    """Refresh what changed, but nothing whose 1m candles may be gone: that would remove it."""
    days = settings.RETENTION_DAYS
    _set_policy(
        "continuous_aggregate",
        level.table,
        {
            "start_offset": timedelta(days=days - 1) if days else None,
            "end_offset": max(REFRESH_BEHIND, timedelta(milliseconds=level.width_ms)),
            "schedule_interval": REFRESH_EVERY,
        },
    )


# Of TimescaleDB's functions add_…_policy and remove_…_policy, and the job that they make.
JOBS = {
    "retention": "policy_retention",
    "compression": "policy_compression",
    "continuous_aggregate": "policy_refresh_continuous_aggregate",
}


def _set_policy(kind: str, table: str, wanted: dict[str, timedelta | None] | None) -> None:
    """Have this policy and no other; an equal one is left alone, or its job would start anew."""
    if _policy(kind, table, wanted or {}) == wanted:
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SELECT remove_{kind}_policy(%s::regclass, if_exists => true)", [table])
        if wanted is not None:
            arguments = ", ".join(f"{name} => %s::interval" for name in wanted)
            values: list[Any] = [table, *wanted.values()]
            cursor.execute(f"SELECT add_{kind}_policy(%s::regclass, {arguments})", values)


def _policy(kind: str, table: str, wanted: dict[str, Any]) -> dict[str, timedelta | None] | None:
    """What the server has of the arguments of a policy; None when it has no such policy."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT job.config, job.schedule_interval FROM timescaledb_information.jobs AS job "
            "LEFT JOIN timescaledb_information.continuous_aggregates AS made "
            "ON made.materialization_hypertable_schema = job.hypertable_schema "
            "AND made.materialization_hypertable_name = job.hypertable_name "
            "WHERE job.proc_name = %s AND COALESCE(made.view_name, job.hypertable_name) = %s "
            "AND COALESCE(made.view_schema, job.hypertable_schema) = current_schema",
            [JOBS[kind], table],
        )
        job = cursor.fetchone()
        if job is None:
            return None
        config, every = json.loads(job[0]), job[1]  # Django leaves JSON to its fields
        held: dict[str, timedelta | None] = {}
        for name in wanted:
            if name == "schedule_interval":
                held[name] = every
                continue
            cursor.execute("SELECT %s::interval", [config.get(name)])
            held[name] = cursor.fetchone()[0]
        return held
