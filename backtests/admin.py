"""The queue in the admin: follow jobs, cancel and retry them, keep what they wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from backtests import jobs, pins, shown, workspaces
from backtests.jobs import RetryError
from backtests.models import Artifact, Job, JobType, LeaderboardEntry, Status
from market.records import CappedPaginator, RecordAdmin

MAX_EVENTS = 200  # of a job, shown on its page: the latest
MAX_CHILDREN = 200


class WorkspaceFilter(admin.SimpleListFilter):
    """Django's own would read every row to find out which there are."""

    title = "workspace"
    parameter_name = "workspace"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in workspaces.names()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(workspace_id=self.value()) if self.value() else queryset


class TypeFilter(admin.SimpleListFilter):
    """A type is free text in the database, one of few in fact."""

    title = "type"
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(value), str(label)) for value, label in JobType.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(type=self.value()) if self.value() else queryset


@admin.register(Job)
class JobAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # no parameter at run time
    """None is edited: what runs is canceled, what failed is done again."""

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_display = (
        *("__str__", "page", "status", "bar", "workspace_id", "attempts"),
        *("created_at", "finished_at", "problem"),
    )
    list_filter = ("status", TypeFilter, WorkspaceFilter, "created_at", "pinned")
    list_select_related = False
    list_per_page = 50
    search_fields = ("=id", "=parent__id", "=workspace_id")
    search_help_text = "The id of a job, or of its parent, or the name of a workspace."
    actions = ("cancel", "retry", "pin", "unpin")
    fieldsets = (
        (None, {"fields": ("id", "type", "status", "bar", "page", "error", "workspace_id")}),
        (None, {"fields": ("parent_link", "child_list", "artifact_list", "event_list")}),
        ("What was asked, and what came of it", {"fields": ("asked", "outcome", "how_far")}),
        (
            "The queue",
            {
                "fields": (
                    *("priority", "attempts", "run_after", "locked_by", "locked_at"),
                    *("dedupe_key", "pinned", "created_at", "started_at", "finished_at"),
                )
            },
        ),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Of none of them; of all, as far as actions go."""
        return obj is None and super().has_change_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    # --- what is shown ---

    @admin.display(description="progress")
    def bar(self, row: Job) -> SafeString | str:
        percent = shown.percent(row)
        if percent is None:
            return "—"
        bar = '<progress value="{}" max="100"></progress> {}&nbsp;%'
        return format_html(bar, percent, percent)

    @admin.display(description="attempt")
    def attempts(self, row: Job) -> str:
        return f"{row.attempt} of {row.max_attempts}"

    @admin.display(description="error")
    def problem(self, row: Job) -> str:
        return row.error if len(row.error) <= 100 else f"{row.error[:99]}…"

    @admin.display(description="page")
    def page(self, row: Job) -> SafeString | str:
        url = shown.page(row)
        return format_html('<a href="{}">open</a>', url) if url else "—"

    @admin.display(description="parent")
    def parent_link(self, row: Job) -> SafeString | str:
        return _job_link(row.parent) if row.parent else "none"

    @admin.display(description="children")
    def child_list(self, row: Job) -> SafeString | str:
        found = Job.objects.filter(parent=row).order_by("created_at", "pk")[:MAX_CHILDREN]
        lines = [(_job_link(child), child.status, child.error[:100]) for child in found]
        return format_html_join("", "{} {} {}<br>", lines) or "none"

    @admin.display(description="artifacts")
    def artifact_list(self, row: Job) -> SafeString | str:
        lines = [
            (shown.artifact(each)["download"], each.path, f"{each.size_bytes:,}")
            for each in row.artifacts.order_by("path")
        ]
        return format_html_join("", '<a href="{}">{}</a> ({} bytes)<br>', lines) or "none"

    @admin.display(description="events")
    def event_list(self, row: Job) -> SafeString | str:
        latest = list(row.events.order_by("-pk")[:MAX_EVENTS])
        lines = [(f"{each.ts:%Y-%m-%d %H:%M:%S}", each.level, each.message) for each in latest]
        return format_html_join("", "{} {}: {}<br>", reversed(lines)) or "none"

    @admin.display(description="payload")
    def asked(self, row: Job) -> SafeString:
        return _json(row.payload)

    @admin.display(description="result")
    def outcome(self, row: Job) -> SafeString:
        return _json(row.result)

    @admin.display(description="progress")
    def how_far(self, row: Job) -> SafeString:
        return _json(row.progress)

    # --- what is done ---

    @admin.action(description="Cancel, with all below", permissions=["change"])
    def cancel(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        """End those that wait or run."""
        self._each(request, chosen, done="Canceled", do=_cancel)

    @admin.action(description="Retry", permissions=["change"])
    def retry(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        """Have those done again that failed or were canceled."""
        self._each(request, chosen, done="To be done again", do=_retry)

    @admin.action(description="Pin: keep what they wrote", permissions=["change"])
    def pin(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        """Keep the files of these, whatever their age."""
        self._pin(request, chosen, pinned=True)

    @admin.action(description="Unpin", permissions=["change"])
    def unpin(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        """Let the files of these go with the others."""
        self._pin(request, chosen, pinned=False)

    def _pin(self, request: HttpRequest, chosen: QuerySet[Job], *, pinned: bool) -> None:
        rows = list(chosen)
        pins.pin([row.pk for row in rows], pinned=pinned)
        word = "Pinned" if pinned else "Unpinned"
        for row in rows:
            self.log_change(request, row, f"{word}.")
        self.message_user(request, f"{word}: {len(rows)}.", messages.SUCCESS)

    def _each(
        self,
        request: HttpRequest,
        chosen: QuerySet[Job],
        *,
        done: str,
        do: Callable[[UUID], str | None],
    ) -> None:
        for row in chosen:
            problem = do(row.pk)
            if problem is None:
                self.log_change(request, row, f"{done}.")
                self.message_user(request, f"{done}: {row}.", messages.SUCCESS)
            else:
                self.message_user(request, f"{row}: {problem}.", messages.WARNING)


def _cancel(job_id: UUID) -> str | None:
    status, _ = jobs.cancel(job_id)
    return None if status == Status.CANCELED else f"it is {status}, and stays so"


def _retry(job_id: UUID) -> str | None:
    try:
        jobs.retry(job_id)
    except RetryError as error:
        return str(error)
    return None


def _job_link(row: Job) -> SafeString:
    return format_html(
        '<a href="{}">{}</a>', reverse("admin:backtests_job_change", args=[row.pk]), row
    )


def _json(value: Any) -> SafeString:
    return format_html("<pre>{}</pre>", json.dumps(value, indent=2, ensure_ascii=False))


@admin.register(Artifact)
class ArtifactAdmin(RecordAdmin):
    """Files that jobs wrote."""

    list_display = (
        *("path", "kind", "workspace_id", "size_bytes", "revision", "pinned"),
        *("created_at", "job_link", "download"),
    )
    list_filter = ("kind", "pinned", "created_at")
    list_select_related = ("job",)
    list_per_page = 50
    search_fields = ("=job__id", "path", "=workspace_id")

    @admin.display(description="job")
    def job_link(self, row: Artifact) -> SafeString:
        return _job_link(row.job)

    @admin.display(description="file")
    def download(self, row: Artifact) -> SafeString:
        return format_html('<a href="{}">download</a>', shown.artifact(row)["download"])


@admin.register(LeaderboardEntry)
class LeaderboardAdmin(RecordAdmin):
    """The candidates that finished runs recommend."""

    list_display = (
        *("strategy_id", "score", "objective", "exchange", "symbol", "timeframe"),
        *("shown_params", "workspace_id", "rank", "page"),
    )
    list_filter = ("objective", "strategy_id", "timeframe")
    list_select_related = ("job",)
    list_per_page = 50
    ordering = ("objective", "-score")
    search_fields = ("symbol", "=workspace_id", "=job__id")

    @admin.display(description="parameters")
    def shown_params(self, row: LeaderboardEntry) -> str:
        return ", ".join(f"{name} {value}" for name, value in row.params.items())

    @admin.display(description="run")
    def page(self, row: LeaderboardEntry) -> SafeString | str:
        url = shown.page(row.job)
        return format_html('<a href="{}">open</a>', url) if url else "—"
