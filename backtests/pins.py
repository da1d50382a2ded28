"""Runs whose files are kept, whatever their age."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.db import models, transaction

from backtests.models import Artifact, Job


@transaction.atomic
def pin(job_ids: Iterable[UUID], *, pinned: bool) -> None:
    """Keep jobs with all that they and those below them wrote, or let it go with the others.

    What a job that goes on will write, and order, is kept as it is itself.
    """
    ids = list(job_ids)
    # Locked before those below are looked for, or one that is just being ordered would be missed;
    # and from the parent down, as everywhere: see `backtests.jobs`.
    rows = Job.objects.select_for_update().filter(pk__in=ids)
    list(rows.order_by(models.F("parent").asc(nulls_first=True), "pk").values_list("pk"))
    ids += Job.objects.filter(parent_id__in=ids).values_list("pk", flat=True)
    Job.objects.filter(pk__in=ids).update(pinned=pinned)
    Artifact.objects.filter(job_id__in=ids).update(pinned=pinned)
