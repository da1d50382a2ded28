"""The pages of runs, for staff: the list, and one with its pictures."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.contrib.admin.views.decorators import staff_member_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from backtests import asked, jobs, pins, run_page, shown, workspaces
from backtests.jobs import RetryError
from backtests.models import Job, Status
from market.query import ApiError

PER_PAGE = 50
Page = Callable[..., HttpResponse]
_staff: Callable[[Page], Page] = staff_member_required(login_url="admin:login")


@require_safe
@_staff
def runs(request: HttpRequest) -> HttpResponse:
    """Tunes and walk-forwards, the newest first."""
    params = {name: value for name, value in request.GET.items() if isinstance(value, str)}
    try:
        found = asked.jobs(params, types=asked.RUN_TYPES).filter(parent=None)
        rows, meta = asked.paged(found, {**params, "limit": str(PER_PAGE)})
    except ApiError as error:
        page = {"title": "Backtests", "message": error.message}
        return render(request, "oracle/error.html", page, status=error.status_code)
    chosen = {name: params.get(name, "") for name in ("workspace_id", "type", "status")}
    asked_for = {name: value for name, value in chosen.items() if value}
    offset = meta["offset"]
    shown_page = {
        "rows": [{**shown.run(row), "what": run_page.what(row), "row": row} for row in rows],
        "chosen": chosen,
        "workspaces": workspaces.names(),
        "types": asked.RUN_TYPES,
        "statuses": Status.values,
        "newer": urlencode({**asked_for, "offset": max(0, offset - PER_PAGE)}) if offset else "",
        "older": urlencode({**asked_for, "offset": meta["next"]}) if meta["next"] else "",
    }
    return render(request, "backtests/runs.html", shown_page)


@require_safe
@_staff
def run(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """One run: how it goes, or what came of it."""
    return render(request, "backtests/run.html", run_page.shown_run(_run(run_id)))


@require_POST
@_staff
def cancel(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """The button of a run that waits or runs."""
    status, _ = jobs.cancel(_run(run_id).pk)
    if status != Status.CANCELED:
        messages.warning(request, f"It is {status} already.")
    return redirect("runs:one", run_id)


@require_POST
@_staff
def retry(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """The button of a run that failed or was canceled."""
    try:
        jobs.retry(_run(run_id).pk)
    except RetryError as error:
        messages.warning(request, f"It cannot be retried: {error}.")
    return redirect("runs:one", run_id)


@require_POST
@_staff
def pin(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """The button that keeps a run's files, or lets them go."""
    pins.pin([_run(run_id).pk], pinned=request.POST.get("pinned") == "true")
    return redirect("runs:one", run_id)


def _run(run_id: UUID) -> Job:
    try:
        return asked.run(run_id)
    except ApiError as error:
        raise Http404(error.message) from error
