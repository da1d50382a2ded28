"""Runs whose files are kept, whatever their age."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.db import transaction

from backtests.models import Artifact, Job


@transaction.atomic
def pin(job_ids: Iterable[UUID], *, pinned: bool) -> None:
    """Keep jobs with all that they and those below them wrote, or let it go with the others."""
    ids = list(job_ids)
    ids += Job.objects.filter(parent_id__in=ids).values_list("pk", flat=True)
    Job.objects.filter(pk__in=ids).update(pinned=pinned)
    Artifact.objects.filter(job_id__in=ids).update(pinned=pinned)
