"""Which workspaces there are."""

from __future__ import annotations

from django.db import connection

from backtests.models import Job

MAX_NAMES = 100

# One look into the index for each name: DISTINCT would read every job there has ever been.
_NAMES = f"""
WITH RECURSIVE found AS (
    (SELECT workspace_id FROM {Job._meta.db_table} ORDER BY workspace_id LIMIT 1)
    UNION ALL
    SELECT (SELECT next.workspace_id FROM {Job._meta.db_table} AS next
            WHERE next.workspace_id > found.workspace_id ORDER BY next.workspace_id LIMIT 1)
    FROM found WHERE found.workspace_id IS NOT NULL
)
SELECT workspace_id FROM found WHERE workspace_id IS NOT NULL LIMIT {MAX_NAMES}
"""


def names() -> list[str]:
    """The workspaces that have jobs, in alphabetical order."""
    with connection.cursor() as cursor:
        cursor.execute(_NAMES)
        return [name for (name,) in cursor.fetchall()]
