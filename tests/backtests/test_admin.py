"""The queue in the admin."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from backtests import jobs, workspaces
from backtests.models import Artifact, Job, LeaderboardEntry

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("artifacts_dir")]

LIST = "admin:backtests_job_changelist"


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("boss"))
    return client


def put(**fields: Any) -> Job:
    return Job.objects.create(**{"type": "tune", **fields})


def page(client: Client, name: str, *args: Any, **params: Any) -> str:
    answer = client.get(reverse(name, args=args), params)
    assert answer.status_code == 200, answer.headers
    return str(answer.content.decode())


def do(client: Client, action: str, *rows: Job) -> list[str]:
    """Run an action on jobs; what was said."""
    chosen = {"action": action, "_selected_action": [str(row.pk) for row in rows]}
    answer = client.post(reverse(LIST), chosen)
    assert answer.status_code == 302
    return [str(message) for message in get_messages(answer.wsgi_request)]


def status(row: Job) -> str:
    return Job.objects.values_list("status", flat=True).get(pk=row.pk)


# --- the list ---


def test_list_is_narrowed_down(staff: Client):
    put(workspace_id="lab", type="wfo", status="failed", error="because of <b>this</b>")
    put(workspace_id="other")

    assert "2 jobs" in page(staff, LIST)
    for params in ({"workspace": "lab"}, {"type": "wfo"}, {"status__exact": "failed"}):
        found = page(staff, LIST, **params)
        assert "1 job" in found
        assert "because of &lt;b&gt;this&lt;/b&gt;" in found
    assert "0 jobs" in page(staff, LIST, created_at__gte="2099-01-01 00:00:00+00:00")


@pytest.mark.parametrize("text", ["nothing", "7c9e6679-7425-40de-944b-e07fc1f90ae7", "%", "'"])
def test_list_search_for_what_is_not_there_finds_nothing(staff: Client, text: str):
    put()
    assert "0 results" in page(staff, LIST, q=text)


def test_list_search_finds_a_job_by_its_id_and_its_parents(staff: Client):
    parent = put(type="wfo")
    put(parent=parent)
    assert "2 results" in page(staff, LIST, q=str(parent.pk))


def test_list_counts_no_further_than_it_shows_and_reads_no_row_twice(staff: Client):
    for number in range(20):
        put(workspace_id=f"w{number}", status="running", progress={"trials_done": number})

    with CaptureQueriesContext(
        connection,
    ) as seen:
        page(staff, LIST)

    asked = [query["sql"] for query in seen if '"job"' in query["sql"] or " job " in query["sql"]]
    assert not [sql for sql in asked if "COUNT(" in sql and "LIMIT" not in sql]
    assert len(asked) <= 4


def test_list_shows_progress(staff: Client):
    put(status="running", progress={"trials_done": 30, "trials_total": 120})
    assert '<progress value="25" max="100">' in page(staff, LIST)


def test_workspaces_are_each_named_once():
    for name in ("b", "a", "b", "c", "a"):
        put(workspace_id=name)
    assert workspaces.names() == ["a", "b", "c"]


def test_workspaces_of_no_jobs_are_none():
    assert workspaces.names() == []


# --- one job ---


def test_job_shows_events_children_files_and_links(staff: Client):
    parent = put(type="wfo", status="running")
    child = put(parent=parent, payload={"note": "<script>"})
    jobs.note(child.pk, "warn", "attempt 1 failed: <i>x</i>")
    file = Artifact.objects.create(
        workspace_id="default",
        job=child,
        kind="trials",
        path="tunes/x/trials.csv",
        size_bytes=1234,
        checksum="0" * 64,
        revision="0" * 16,
    )

    shown = page(staff, "admin:backtests_job_change", child.pk)

    assert "warn: attempt 1 failed: &lt;i&gt;x&lt;/i&gt;" in shown
    assert "<script>&quot;" not in shown
    assert "&lt;script&gt;" in shown
    assert reverse("backtests-admin:artifact", args=[file.pk]) in shown
    assert reverse("runs:one", args=[child.pk]) in shown
    assert reverse("admin:backtests_job_change", args=[parent.pk]) in shown
    assert str(child) in page(staff, "admin:backtests_job_change", parent.pk)


def test_job_cannot_be_edited_added_or_deleted(staff: Client):
    job = put(status="failed")
    change = reverse("admin:backtests_job_change", args=[job.pk])

    assert staff.post(change, {"status": "succeeded"}).status_code == 403
    assert staff.get(reverse("admin:backtests_job_add")).status_code == 403
    assert staff.post(reverse("admin:backtests_job_delete", args=[job.pk])).status_code == 403
    assert status(job) == "failed"


# --- actions ---


def test_cancel_ends_a_job_with_its_children(staff: Client):
    parent = put(type="wfo", status="running")
    child, done = put(parent=parent), put(status="succeeded")

    said = do(staff, "cancel", parent, done)

    assert [status(row) for row in (parent, child, done)] == ["canceled", "canceled", "succeeded"]
    assert sorted(said) == sorted(
        [f"Canceled: {parent}.", f"{done}: it is succeeded, and stays so."]
    )


def test_retry_says_why_not(staff: Client):
    parent = put(type="wfo", status="failed")
    child, live = put(parent=parent, status="failed"), put()
    twin = put(status="failed", dedupe_key="same")
    put(dedupe_key="same")
    failed = put(status="failed")

    said = " ".join(do(staff, "retry", child, live, twin, failed))

    assert (
        f"{child}: it is part of job {parent.pk}, which has ended or goes on without it: "
        "retry that one." in said
    )
    assert f"{live}: it is pending: only one that failed or was canceled can be retried." in said
    assert f"{twin}: another job that does the same is under way." in said
    assert f"To be done again: {failed}." in said
    assert status(failed) == "pending"


def test_pin_and_unpin(staff: Client):
    job = put()
    do(staff, "pin", job)
    job.refresh_from_db()
    assert job.pinned
    do(staff, "unpin", job)
    job.refresh_from_db()
    assert not job.pinned


def test_actions_are_not_for_who_may_only_look(client: Client):
    from django.contrib.auth.models import Permission

    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_job"))
    client.force_login(viewer)
    job = put()

    client.post(reverse(LIST), {"action": "cancel", "_selected_action": [str(job.pk)]})

    assert status(job) == "pending"


# --- artifacts and the leaderboard ---


def test_artifacts_and_leaderboard_are_only_looked_at(staff: Client):
    job = put(status="succeeded")
    file = Artifact.objects.create(
        workspace_id="default",
        job=job,
        kind="trials",
        path="tunes/x/trials.csv",
        size_bytes=1,
        checksum="0" * 64,
        revision="0" * 16,
    )
    LeaderboardEntry.objects.create(
        workspace_id="default",
        job=job,
        rank=1,
        strategy_id="sma_cross",
        objective="sharpe",
        exchange="index",
        symbol="BTC/USDT",
        timeframe="1h",
        params={"fast": 5, "slow": 20},
        metrics={},
        score=1.5,
    )

    files = page(staff, "admin:backtests_artifact_changelist")
    best = page(staff, "admin:backtests_leaderboardentry_changelist")

    assert reverse("backtests-admin:artifact", args=[file.pk]) in files
    assert "fast 5, slow 20" in best
    assert reverse("runs:one", args=[job.pk]) in best
    for name in ("artifact", "leaderboardentry"):
        assert staff.get(reverse(f"admin:backtests_{name}_add")).status_code == 403
