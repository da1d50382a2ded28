"""What a database stores its history with: for `manage.py timescale`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.db import connection

from market import aggregates, timescale
from market.retention import TimeTable
from market.rollup_levels import LEVELS

_POLICIES = """
    SELECT job.proc_name, job.schedule_interval::text, job.config,
        stats.last_run_status,
        CASE WHEN isfinite(stats.last_successful_finish) THEN stats.last_successful_finish END,
        CASE WHEN isfinite(stats.next_start) THEN stats.next_start END,
        CASE WHEN stats.last_run_status = 'Failed' THEN (
            SELECT err_message FROM timescaledb_information.job_errors AS error
            WHERE error.job_id = job.job_id ORDER BY start_time DESC LIMIT 1
        ) END
    FROM timescaledb_information.jobs AS job
    LEFT JOIN timescaledb_information.continuous_aggregates AS made
        ON made.materialization_hypertable_schema = job.hypertable_schema
        AND made.materialization_hypertable_name = job.hypertable_name
    LEFT JOIN timescaledb_information.job_stats AS stats ON stats.job_id = job.job_id
    WHERE COALESCE(made.view_name, job.hypertable_name) = %s
        AND COALESCE(made.view_schema, job.hypertable_schema) = current_schema
    ORDER BY job.proc_name
"""
INTERVALS = ("drop_after", "compress_after", "start_offset", "end_offset")
_CHUNKS = """
    SELECT count(*), count(*) FILTER (WHERE is_compressed), min(range_start), max(range_end)
    FROM timescaledb_information.chunks
    WHERE hypertable_schema = current_schema AND hypertable_name = %s
"""


def report(tables: Iterable[TimeTable]) -> dict[str, Any]:
    """The offer, what is on, and each table: ``kind``, bytes, and on TimescaleDB its chunks."""
    found = timescale.offer()
    return {
        "setting": settings.TIMESCALEDB,
        "offer": {**asdict(found), "lacks": found.lacks},
        "rollups": "continuous aggregates" if aggregates.in_use() else "tables",
        "tables": {rows.table: _table(rows, found.edition) for rows in tables},
        "aggregates": {level.table: _aggregate(level.table) for level in LEVELS},
    }


def _table(rows: TimeTable, edition: str | None) -> dict[str, Any]:
    if not timescale.is_hypertable(rows.table):
        size = _one("SELECT pg_total_relation_size(%s::regclass)", rows.table)[0]
        return {"kind": "table", "bytes": size, "keep_days": rows.keep_days}
    count, compressed, first, last = _one(_CHUNKS, rows.table)
    return {
        "kind": "hypertable",
        "bytes": _one("SELECT hypertable_size(%s::regclass)", rows.table)[0],
        "keep_days": rows.keep_days,
        "chunks": count,
        "compressed_chunks": compressed,
        "from": first,
        "to": last,
        "compression": _compression(rows.table) if edition == "timescale" else None,
        "policies": _policies(rows.table),
    }


def _aggregate(table: str) -> dict[str, Any]:
    if not aggregates.in_use():
        size = _one("SELECT pg_total_relation_size(%s::regclass)", table)[0]
        return {"kind": "table", "bytes": size}
    size = _one("SELECT hypertable_size(%s::regclass)", table)[0]
    return {"kind": "continuous aggregate", "bytes": size, "policies": _policies(table)}


def _compression(table: str) -> dict[str, Any]:
    before, after = _one(
        "SELECT sum(before_compression_total_bytes), sum(after_compression_total_bytes) "
        "FROM chunk_compression_stats(%s::regclass)",
        table,
    )
    return {
        "bytes_before": None if before is None else int(before),
        "bytes_after": None if after is None else int(after),
    }


def _policies(table: str) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(_POLICIES, [table])
        rows = cursor.fetchall()
    return [
        {
            "policy": name.removeprefix("policy_"),
            "every": every,
            "last_run": last_run,
            "last_success": last_success,
            "next_run": next_run,
            "error": error,
            **{key: text for key, text in json.loads(config).items() if key in INTERVALS},
        }
        for name, every, config, last_run, last_success, next_run, error in rows
    ]


def _one(statement: str, table: str) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(statement, [table])
        found: tuple[Any, ...] = cursor.fetchone()
    return found
