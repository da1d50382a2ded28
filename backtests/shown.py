"""Rows of backtests as the API and the pages show them; moments in ISO 8601."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import models
from django.urls import reverse

from backtests.asked import RUN_TYPES, TUNE, WFO
from backtests.models import ENDED, LIVE, Artifact, Job, JobEvent, LeaderboardEntry, Status
from backtests.strategies.strategy import Strategy

MAX_CHILDREN = 1_000


def run(row: Job) -> dict[str, Any]:
    """A run in a list."""
    return {
        "run_id": str(row.pk),
        "type": row.type,
        "status": row.status,
        "workspace_id": row.workspace_id,
        "parent_id": _id(row.parent_id),
        "progress": row.progress,
        "percent": percent(row),
        "error": row.error,
        "pinned": row.pinned,
        **_moments(row),
        "page": page(row),
    }


def job(row: Job) -> dict[str, Any]:
    """A job of any type, as its operator wants it."""
    return {
        "id": str(row.pk),
        "type": row.type,
        "status": row.status,
        "workspace_id": row.workspace_id,
        "parent_id": _id(row.parent_id),
        "priority": row.priority,
        "attempt": row.attempt,
        "max_attempts": row.max_attempts,
        "run_after": moment(row.run_after),
        "locked_by": row.locked_by,
        "locked_at": moment(row.locked_at),
        "dedupe_key": row.dedupe_key,
        "payload": row.payload,
        "progress": row.progress,
        "percent": percent(row),
        "error": row.error,
        "pinned": row.pinned,
        **_moments(row),
        "page": page(row),
    }


def children(row: Job) -> list[dict[str, Any]]:
    """The jobs that a job waits for, the first made first."""
    found = Job.objects.filter(parent=row).defer("payload", "result").order_by("created_at", "pk")
    return [
        {
            "run_id": str(child.pk),
            "type": child.type,
            "status": child.status,
            "progress": child.progress,
            "percent": percent(child),
            "error": child.error,
            "page": page(child),
        }
        for child in found[:MAX_CHILDREN]
    ]


def artifact(row: Artifact) -> dict[str, Any]:
    """A file that a job wrote."""
    return {
        "id": row.pk,
        "run_id": str(row.job_id),
        "workspace_id": row.workspace_id,
        "kind": row.kind,
        "path": row.path,
        "size_bytes": row.size_bytes,
        "checksum": row.checksum,
        "revision": row.revision,
        "pinned": row.pinned,
        "created_at": moment(row.created_at),
        "download": reverse("backtests-admin:artifact", args=[row.pk]),
    }


def event(row: JobEvent) -> dict[str, Any]:
    """Something that happened to a job."""
    return {
        "id": row.pk,
        "ts": moment(row.ts),
        "level": row.level,
        "message": row.message,
        "meta": row.meta,
    }


def leader(row: LeaderboardEntry) -> dict[str, Any]:
    """A candidate of the leaderboard."""
    return {
        "score": row.score,
        "objective": row.objective,
        "type": row.job.type,
        "strategy_id": row.strategy_id,
        "exchange": row.exchange,
        "symbol": row.symbol,
        "timeframe": row.timeframe,
        "params": row.params,
        "metrics": row.metrics,
        "workspace_id": row.workspace_id,
        "run_id": str(row.job_id),
        "rank_in_run": row.rank,
        "created_at": moment(row.created_at),
    }


def strategy(one: Strategy) -> dict[str, Any]:
    """A strategy as it declares itself."""
    return {
        "id": one.id,
        "title": one.title,
        "parameters": [
            {
                "name": each.name,
                "type": each.kind.__name__,
                "min": each.low,
                "max": each.high,
                "step": each.step,
                "default": each.default,
            }
            for each in one.parameters
        ],
        "constraints": [each.text for each in one.constraints],
    }


def percent(row: Job) -> int | None:
    """How much of a job is done, in whole percent; None where nobody can say."""
    if row.status == Status.SUCCEEDED:
        return 100
    if row.type == WFO:
        return _percent_of_children(row) if row.status == Status.RUNNING else None
    # Fetching comes before a tune's search, and says nothing of how long that takes.
    done, total = ("trials_done", "trials_total")
    if row.type != TUNE:
        done, total = ("minutes_done", "minutes_total")
    whole, part = row.progress.get(total), row.progress.get(done)
    if not isinstance(whole, int) or not isinstance(part, int) or whole <= 0:
        return None
    # Its files are still to be written; of one that has failed since, nothing is.
    most = 99 if row.status in LIVE else 100
    return int(min(most, part * 100 // whole))


def _percent_of_children(row: Job) -> int | None:
    ended = models.Q(status__in=ENDED)
    counts = Job.objects.filter(parent=row).aggregate(
        whole=models.Count("pk"), part=models.Count("pk", filter=ended)
    )
    return min(99, counts["part"] * 100 // counts["whole"]) if counts["whole"] else None


def page(row: Job) -> str | None:
    """Where a person looks at a run."""
    return reverse("runs:one", args=[row.pk]) if row.type in RUN_TYPES else None


def moment(time: datetime | None) -> str | None:
    """A moment in UTC, to the millisecond."""
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1_000:03d}Z" if time else None


def _moments(row: Job) -> dict[str, Any]:
    return {
        "created_at": moment(row.created_at),
        "started_at": moment(row.started_at),
        "finished_at": moment(row.finished_at),
    }


def _id(value: Any) -> str | None:
    return None if value is None else str(value)
