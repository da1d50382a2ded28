"""What made a result: enough to run it again, and to know when it would not be the same."""

from __future__ import annotations

import subprocess
from typing import Any

from django.conf import settings

from backtests.data import Dataset
from backtests.engine.protocol import Engine
from backtests.jobs import Claim

SCHEMA_VERSION = 1  # of tune.json and wfo.json; another one for any field that changes its meaning
GIT_SECONDS = 5


def of_run(claim: Claim, dataset: Dataset, engine: Engine) -> dict[str, Any]:
    """The head of a run's JSON file: ids, code, engine, and the lineage of the data."""
    return {
        "schema_version": SCHEMA_VERSION,
        "ids": {
            "job_id": str(claim.job_id),
            "parent_id": str(claim.parent_id) if claim.parent_id else None,
            "workspace_id": claim.workspace_id,
            "type": claim.type,
        },
        "code": {"version": settings.VERSION, "git_sha": git_sha()},
        "engine": {"id": engine.id, "version": engine.version},
        "data": dataset.lineage,
    }


def git_sha() -> str | None:
    """The commit that runs, ``-dirty`` behind it where files differ; None where nobody knows."""
    if settings.GIT_SHA:
        return str(settings.GIT_SHA)
    command = ["git", "-C", str(settings.BASE_DIR), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(
            [*command, "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
