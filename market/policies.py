"""The policies of TimescaleDB, which its own scheduler runs; and those that it does not.

Where the scheduler fails nothing is compressed, nothing removed, and what continuous aggregates
hold stands still: every read folds more minutes live. It does so as a whole with releases older
than 2.27.3, 2.28.4 or 2.31.2 on PostgreSQL 15.20, 16.16, 17.12 or 18.7 and newer ("cannot drop
portal"): https://github.com/timescale/timescaledb/pull/11015. Run by a client, a policy works.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection

from market import candles, timescale

# More than a busy server lets its jobs wait for a worker.
OVERDUE_AFTER = timedelta(minutes=15)
_NAMES = {name: kind for kind, name in timescale.JOBS.items()}
# Refreshes first: a retention that came before one would remove minutes that are in no rollup yet.
# Times that TimescaleDB does not know are -infinity. A job without statistics was never started.
_OVERDUE = """
    SELECT job.job_id, job.proc_name, COALESCE(made.view_name, job.hypertable_name),
        CASE WHEN stats.last_run_status = 'Failed' THEN (
            SELECT err_message FROM timescaledb_information.job_errors AS error
            WHERE error.job_id = job.job_id ORDER BY start_time DESC LIMIT 1
        ) ELSE 'not run when it was due' END
    FROM timescaledb_information.jobs AS job
    LEFT JOIN timescaledb_information.job_stats AS stats ON stats.job_id = job.job_id
    LEFT JOIN timescaledb_information.continuous_aggregates AS made
        ON made.materialization_hypertable_schema = job.hypertable_schema
        AND made.materialization_hypertable_name = job.hypertable_name
    WHERE COALESCE(made.view_schema, job.hypertable_schema) = current_schema
        AND job.proc_name = ANY(%s) AND job.scheduled
        AND stats.job_status IS DISTINCT FROM 'Running'
        AND (stats.job_id IS NULL OR stats.last_run_status = 'Failed'
            OR stats.next_start < now() - %s::interval)
    ORDER BY job.proc_name <> 'policy_refresh_continuous_aggregate', job.job_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """A policy that the server did not carry out when it was due, and why if it says so."""

    job_id: int
    kind: str
    table: str
    error: str


def overdue() -> list[Overdue]:
    """Those of our tables whose last run failed, or that were not run; none without TimescaleDB."""
    if not timescale.offer().aggregates:
        return []
    values: list[Any] = [list(_NAMES), OVERDUE_AFTER]
    with connection.cursor() as cursor:
        cursor.execute(_OVERDUE, values)
        rows = cursor.fetchall()
    return [
        Overdue(job_id=job_id, kind=_NAMES[name], table=table, error=error or "no reason given")
        for job_id, name, table, error in rows
    ]


def run(policy: Overdue, *, seconds: float) -> None:
    """Carry a policy out here and now, outside a transaction. Raises the database's errors.

    Safe beside the server's own run of it. What it had done after ``seconds`` stays done, a
    chunk or a refresh at a time: the next run goes on from there.
    """
    with candles.statements_end_after(seconds), connection.cursor() as cursor:
        cursor.execute("CALL run_job(%s)", [policy.job_id])
