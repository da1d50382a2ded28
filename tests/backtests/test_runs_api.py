"""Runs over the API; and who may use any of it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from rest_framework.authtoken.models import Token

from backtests import job_orders, jobs, work
from backtests.handlers import HANDLERS
from backtests.job_orders import Order
from backtests.models import Job, Status
from oracle.jsontext import decode
from tests.backtests.asking import ADMIN, BASE, bearer, clerk, error, post, put
from tests.backtests.series import HOUR_MS
from tests.backtests.stored import START_S, hours, store, trending, tune_payload

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("artifacts_dir")]

SOME = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
GETS = (
    *(f"{BASE}/strategies", f"{BASE}/runs", f"{BASE}/runs/{SOME}", f"{BASE}/runs/{SOME}/events"),
    *(f"{BASE}/leaderboard", f"{ADMIN}/jobs", f"{ADMIN}/artifacts"),
    f"{ADMIN}/artifacts/1/download",
)
POSTS = (
    *(f"{BASE}/tune", f"{BASE}/wfo", f"{BASE}/runs/{SOME}/cancel"),
    f"{ADMIN}/jobs/{SOME}/retry",
)


@pytest.fixture
def staff() -> Client:
    return clerk()


# --- who may ---


@pytest.mark.parametrize("path", GETS)
def test_get_without_a_token_is_refused(client: Client, path: str):
    told = [error(each.get(path)) for each in (client, bearer("wrong"))]
    assert [(each["status"], each["code"]) for each in told] == [(401, "UNAUTHENTICATED")] * 2


@pytest.mark.parametrize("path", POSTS)
def test_post_without_a_token_is_refused(client: Client, path: str):
    told = [error(post(each, path, {})) for each in (client, bearer("wrong"))]
    assert [(each["status"], each["code"]) for each in told] == [(401, "UNAUTHENTICATED")] * 2
    assert not Job.objects.exists()


def test_no_staff_is_refused():
    token = Token.objects.create(user=User.objects.create_user("somebody"))
    assert error(bearer(token.key).get(f"{BASE}/runs"))["code"] == "FORBIDDEN"


def test_staff_session_posts_with_a_csrf_token_only():
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_user("clerk", is_staff=True))
    assert client.get(f"{BASE}/runs").status_code == 200
    assert error(post(client, f"{BASE}/tune", tune_payload()))["code"] == "FORBIDDEN"


def test_short_admin_names_are_the_api_not_the_login(staff: Client):
    assert decode(staff.get("/admin/jobs").content)["jobs"] == []
    assert decode(staff.get("/admin/artifacts").content)["artifacts"] == []


# --- runs ---


def test_runs_are_narrowed_down_and_paged(staff: Client):
    wfo = put(type="wfo", workspace_id="b")
    put(parent=wfo, workspace_id="b")
    put(type="data_fetch")
    tune = put(status="failed", error="because")

    def ids(**params: Any) -> list[str]:
        body = decode(staff.get(f"{BASE}/runs", params).content)
        return [row["run_id"] for row in body["runs"]]

    assert ids() == [str(tune.pk), str(wfo.pk)]
    assert ids(workspace_id="b") == ids(type="wfo") == ids(offset=1) == [str(wfo.pk)]
    assert ids(status="failed") == ids(limit=1) == [str(tune.pk)]
    assert len(ids(include_children="true")) == 3
    meta = decode(staff.get(f"{BASE}/runs").content)["meta"]
    assert meta == {"count": 2, "limit": 50, "offset": 0, "next": None}


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("runs?limit=0", "limit"),
        ("runs?limit=x", "limit"),
        ("runs?offset=-1", "offset"),
        ("runs?status=done", "status"),
        ("runs?type=data_fetch", "type"),
        ("runs?include_children=maybe", "include_children"),
        ("runs?workspace_id=%00", "workspace_id"),
        ("leaderboard?objective=luck", "objective"),
        ("leaderboard?limit=1001", "limit"),
    ],
)
def test_wrong_parameter_is_named(staff: Client, path: str, field: str):
    told = error(staff.get(f"{BASE}/{path}"))
    assert (told["status"], told["details"]["field"]) == (400, field)


@pytest.mark.parametrize(
    "path", ["jobs?parent_id=x", "artifacts?run_id=x", "jobs?status=x", "jobs?type=x"]
)
def test_wrong_admin_parameter_is_400(staff: Client, path: str):
    assert error(staff.get(f"{ADMIN}/{path}"))["code"] == "INVALID_PARAMETER"


def test_unknown_run_is_404_with_where_to_look(staff: Client):
    told = error(staff.get(f"{BASE}/runs/{uuid4()}"))
    assert (told["status"], told["code"]) == (404, "RUN_UNKNOWN")
    assert f"{BASE}/runs" in told["message"]


def test_run_of_data_is_no_run(staff: Client):
    assert error(staff.get(f"{BASE}/runs/{put(type='data_fetch').pk}"))["code"] == "RUN_UNKNOWN"


def test_run_that_is_no_uuid_is_404(staff: Client):
    assert error(staff.get(f"{BASE}/runs/1"))["status"] == 404


def test_events_come_in_their_order(staff: Client):
    job = put()
    jobs.note(job.pk, "info", "first", count=1)
    jobs.note(job.pk, "warn", "second")

    events = decode(staff.get(f"{BASE}/runs/{job.pk}/events").content)["events"]

    assert [(each["level"], each["message"]) for each in events] == [
        ("info", "first"),
        ("warn", "second"),
    ]
    assert events[0]["meta"] == {"count": 1}


def test_cancel_goes_down_and_says_how_many(staff: Client):
    wfo = put(type="wfo", status="running")
    put(parent=wfo)
    put(parent=wfo, status="succeeded")
    answer = post(staff, f"{BASE}/runs/{wfo.pk}/cancel")
    assert decode(answer.content) == {"status": "canceled", "children_canceled": 1}


def test_cancel_of_what_has_ended_changes_nothing(staff: Client):
    job = put(status="succeeded")
    answer = post(staff, f"{BASE}/runs/{job.pk}/cancel")
    assert decode(answer.content) == {"status": "succeeded", "children_canceled": 0}


def test_percent_of_a_walk_forward_is_that_of_its_folds(staff: Client):
    wfo = put(type="wfo", status="running", progress={"minutes_done": 99, "minutes_total": 100})
    put(parent=wfo, status="succeeded")
    put(parent=wfo)
    assert decode(staff.get(f"{BASE}/runs/{wfo.pk}").content)["percent"] == 50


@pytest.mark.parametrize(
    ("status", "done", "percent"),
    [("running", 90, 99), ("pending", 90, 99), ("failed", 90, 100), ("canceled", 45, 50)],
)
def test_percent_of_a_tune_is_all_of_it_only_where_it_has_ended(
    staff: Client, status: str, done: int, percent: int
):
    job = put(status=status, progress={"trials_done": done, "trials_total": 90})
    assert decode(staff.get(f"{BASE}/runs/{job.pk}").content)["percent"] == percent


# --- a run from end to end ---


@pytest.mark.django_db(transaction=True)
def test_tune_done_shows_result_files_and_drift(staff: Client):
    store(trending(600))
    run_id = decode(post(staff, f"{BASE}/tune", tune_payload()).content)["run_id"]
    work.work(HANDLERS, seconds=60)

    run = decode(staff.get(f"{BASE}/runs/{run_id}").content)

    assert (run["status"], run["error"], run["percent"]) == (Status.SUCCEEDED, "", 100)
    assert run["result"]["best"]["params"]
    assert {each["kind"] for each in run["artifacts"]} == {"tune", "trials", "equity", "trades"}
    assert run["data"] == {
        "exchange": "index",
        "symbol": "BTC/USDT",
        "timeframe": "1h",
        "start_ts": START_S,
        "end_ts": START_S + 600 * HOUR_MS // 1_000,
        "revision": run["result"]["data"]["revision"],
        "row_count": 600,
        "drift": {"changed": False, "message": "the candles are the same as then"},
    }

    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {hours()} SET volume = volume + 1 WHERE time = to_timestamp(%s)", [START_S]
        )
    drift = decode(staff.get(f"{BASE}/runs/{run_id}").content)["data"]["drift"]
    assert (drift["changed"], run["data"]["revision"] in drift["message"]) == (True, True)


def test_run_without_a_result_has_no_data(staff: Client):
    job = Job.objects.create(type="tune", status="succeeded", result={}, payload={})
    assert decode(staff.get(f"{BASE}/runs/{job.pk}").content)["data"] is None


def test_order_enqueued_elsewhere_is_shown_too(staff: Client):
    job, _ = job_orders.enqueue(Order(type="tune", payload={"odd": ["payload"]}))
    assert decode(staff.get(f"{BASE}/runs/{job.pk}").content)["payload"] == {"odd": ["payload"]}
