"""What backtests keep: jobs with their events, what they wrote, and the best they found."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models.functions import Now


class JobType(models.TextChoices):
    DATA_SYNC = "data_sync"
    DATA_FETCH = "data_fetch"
    TUNE = "tune"
    WFO = "wfo", "walk-forward"


class Status(models.TextChoices):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


LIVE = (Status.PENDING, Status.RUNNING)
ENDED = (Status.SUCCEEDED, Status.FAILED, Status.CANCELED)

DEFAULT_PRIORITY = 100
MAX_ATTEMPTS = 3


class Job(models.Model):
    """A piece of work, and how it goes. This row is the truth; Celery only says that there is one.

    A parent that waits for its children is running with nobody's lock (``locked_by`` empty). All
    times that decide something are the database's: workers' clocks may differ.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # Free text, so that a type of another version can be failed with a reason, not refused.
    type = models.CharField(max_length=32, db_collation="C")
    status = models.CharField(max_length=9, choices=Status, default=Status.PENDING)
    priority = models.SmallIntegerField(default=DEFAULT_PRIORITY, help_text="Lower ones first.")
    payload = models.JSONField(default=dict)
    result = models.JSONField(null=True, blank=True)
    error = models.TextField(default="", blank=True)
    progress = models.JSONField(default=dict, blank=True)
    attempt = models.PositiveSmallIntegerField(default=0)
    max_attempts = models.PositiveSmallIntegerField(default=MAX_ATTEMPTS)
    run_after = models.DateTimeField(db_default=Now())
    locked_at = models.DateTimeField(null=True, blank=True)
    locked_by = models.CharField(max_length=96, default="", blank=True)
    parent = models.ForeignKey(
        "self", on_delete=models.CASCADE, null=True, blank=True, related_name="children"
    )
    workspace_id = models.CharField(max_length=64, default="default", db_collation="C")
    dedupe_key = models.CharField(max_length=200, null=True, blank=True, db_collation="C")
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    pinned = models.BooleanField(default=False, help_text="Kept, whatever its age.")

    class Meta:
        db_table = "job"
        ordering = ("-created_at", "id")
        constraints = (
            models.CheckConstraint(
                condition=models.Q(status__in=Status.values), name="job_status_known"
            ),
            models.UniqueConstraint(
                fields=("dedupe_key",),
                condition=models.Q(status__in=("pending", "running")),
                name="job_dedupe_live",
            ),
            models.CheckConstraint(
                condition=models.Q(max_attempts__gte=1), name="job_attempts_positive"
            ),
        )
        indexes = (
            models.Index(
                fields=("priority", "created_at"),
                condition=models.Q(status="pending"),
                name="job_pending",
            ),
            models.Index(
                fields=("locked_at",), condition=models.Q(status="running"), name="job_running"
            ),
            models.Index(fields=("workspace_id", "type", "-created_at"), name="job_of_workspace"),
            models.Index(fields=("-created_at", "id"), name="job_newest"),
        )

    def __str__(self) -> str:
        return f"{self.type} {str(self.id)[:8]}"


class JobEvent(models.Model):
    """Something that happened to a job."""

    class Level(models.TextChoices):
        INFO = "info"
        WARN = "warn"
        ERROR = "error"

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="events")
    ts = models.DateTimeField(db_default=Now())
    level = models.CharField(max_length=5, choices=Level, default=Level.INFO)
    message = models.TextField()
    meta = models.JSONField(default=dict, blank=True)

    class Meta:
        db_table = "job_event"
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.level}: {self.message[:60]}"


class IdempotencyKey(models.Model):
    """A POST that was answered: the same key is answered the same job."""

    workspace_id = models.CharField(max_length=64, db_collation="C")
    endpoint = models.CharField(max_length=64, db_collation="C")
    key = models.CharField(max_length=200, db_collation="C")
    digest = models.CharField(max_length=64, help_text="SHA-256 of the body it came with.")
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "idempotency_key"
        constraints = (
            models.UniqueConstraint(
                fields=("workspace_id", "endpoint", "key"), name="idempotency_key_unique"
            ),
        )

    def __str__(self) -> str:
        return f"{self.endpoint} {self.key}"


class Artifact(models.Model):
    """A file that a job wrote. ``path`` is relative to ARTIFACTS_DIR; no other is ever served."""

    workspace_id = models.CharField(max_length=64, db_collation="C")
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="artifacts")
    kind = models.CharField(max_length=32, db_collation="C")
    path = models.CharField(max_length=200, unique=True, db_collation="C")
    size_bytes = models.BigIntegerField()
    checksum = models.CharField(max_length=64, help_text="SHA-256, hexadecimal.")
    revision = models.CharField(max_length=16, help_text="Of the candles it was made from.")
    pinned = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "artifact"
        ordering = ("-id",)

    def __str__(self) -> str:
        return self.path


class LeaderboardEntry(models.Model):
    """A candidate that a finished run recommends. ``score``: higher is better."""

    workspace_id = models.CharField(max_length=64, db_collation="C")
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="leaders")
    rank = models.PositiveIntegerField()
    strategy_id = models.CharField(max_length=64, db_collation="C")
    objective = models.CharField(max_length=32, db_collation="C")
    exchange = models.CharField(max_length=32, db_collation="C")
    symbol = models.CharField(max_length=33, db_collation="C")
    timeframe = models.CharField(max_length=4, db_collation="C")
    params = models.JSONField()
    metrics = models.JSONField()
    score = models.FloatField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "leaderboard_entry"
        verbose_name_plural = "leaderboard"
        constraints = (
            models.UniqueConstraint(fields=("job", "rank"), name="leaderboard_rank_unique"),
        )
        indexes = (
            models.Index(
                fields=("workspace_id", "objective", "-score"), name="leaderboard_of_workspace"
            ),
        )

    def __str__(self) -> str:
        return f"{self.strategy_id} {self.score:.4f}"
