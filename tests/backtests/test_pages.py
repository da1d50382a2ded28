"""The pages of runs, and what they draw."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from backtests import job_orders, jobs, work
from backtests.handlers import HANDLERS
from backtests.job_orders import Order
from backtests.models import Artifact, Job
from oracle.jsontext import decode
from tests.backtests.series import HOUR_MS, START_MS
from tests.backtests.stored import store, trending, tune_payload

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("artifacts_dir")]

NASTY = "</script><script>alert(1)</script>"


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create_user("clerk", is_staff=True))
    return client


def put(**fields: Any) -> Job:
    return Job.objects.create(**{"type": "tune", "payload": tune_payload(), **fields})


def page(client: Client, job: Job) -> str:
    answer = client.get(reverse("runs:one", args=[job.pk]))
    assert answer.status_code == 200
    return str(answer.content.decode())


def asked(client: Client, name: str, job: Job, **params: Any) -> Any:
    answer = client.get(reverse(f"runs:{name}", args=[job.pk]), params)
    assert answer.status_code == 200, answer.content
    return decode(answer.content)


def done(type: str = "tune", *, bars: int = 600, **changes: Any) -> Job:
    """A run that has really been run."""
    store(trending(bars))
    job, _ = job_orders.enqueue(Order(type=type, payload=tune_payload(bars, **changes)))
    work.work(HANDLERS, seconds=60)
    job.refresh_from_db()
    assert (job.status, job.error) == ("succeeded", "")
    return job


# --- who may look ---


def test_run_without_a_session_sends_to_the_login(client: Client):
    answer = client.get(reverse("runs:one", args=[put().pk]))
    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/?next=/backtests/runs/")


@pytest.mark.parametrize("name", ["state", "drift", "equity", "candles", "heat"])
def test_pictures_without_a_session_are_refused(client: Client, name: str):
    assert client.get(reverse(f"runs:{name}", args=[put().pk])).status_code == 401


def test_list_sends_to_the_login_and_who_is_no_staff_too(client: Client):
    assert client.get("/backtests/runs/").status_code == 302
    client.force_login(User.objects.create_user("somebody"))
    assert client.get("/backtests/runs/").status_code == 302


def test_buttons_need_the_csrf_token():
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_user("clerk", is_staff=True))
    job = put()
    assert client.post(reverse("runs:cancel", args=[job.pk])).status_code == 403
    assert client.get(reverse("runs:cancel", args=[job.pk])).status_code == 405
    job.refresh_from_db()
    assert job.status == "pending"


# --- the list ---


def test_list_shows_runs_and_is_narrowed_down(staff: Client):
    put(status="failed", workspace_id="lab")
    wfo = put(type="wfo")
    child = put(type="tune", parent=wfo)

    everything = staff.get("/backtests/runs/").content.decode()
    failed = staff.get("/backtests/runs/?status=failed&workspace_id=lab").content.decode()

    assert everything.count("SMA cross") == 2
    assert str(child.pk) not in everything
    assert failed.count("SMA cross") == 1
    assert staff.get("/backtests/runs/?status=nope").status_code == 400


def test_list_of_many_has_pages(staff: Client):
    for _ in range(51):
        put()
    first = staff.get("/backtests/runs/?type=tune").content.decode()
    assert 'href="?type=tune&amp;offset=50"' in first
    assert staff.get("/backtests/runs/?offset=50").content.decode().count("SMA cross") == 1


def test_list_says_where_to_begin(staff: Client):
    assert "No runs" in staff.get("/backtests/runs/").content.decode()


def test_list_is_linked_from_every_page(client: Client):
    assert '<a href="/backtests/runs/">Backtests</a>' in client.get("/none").content.decode()


# --- a run that goes on, or went wrong ---


def test_live_run_has_a_bar_and_a_cancel_button(staff: Client):
    job = put(status="running", progress={"trials_done": 1, "trials_total": 4})

    text = page(staff, job)
    state = asked(staff, "state", job)

    assert '<progress id="bar" max="100" value="25">' in text
    assert reverse("runs:cancel", args=[job.pk]) in text
    assert "echarts" not in text
    assert (state["status"], state["percent"], state["events"]) == ("running", 25, [])


def test_cancel_button_cancels(staff: Client):
    job = put(status="running")
    answer = staff.post(reverse("runs:cancel", args=[job.pk]))
    job.refresh_from_db()
    assert (answer.status_code, job.status) == (302, "canceled")


def test_retry_button_retries(staff: Client):
    job, fold = put(status="failed"), put(status="failed", parent=put(type="wfo", status="failed"))

    for row in (job, fold):
        assert reverse("runs:retry", args=[row.pk]) in page(staff, row)
        staff.post(reverse("runs:retry", args=[row.pk]))
        row.refresh_from_db()

    assert (job.status, fold.status) == ("pending", "failed")
    assert "It cannot be retried" in page(staff, fold)


def test_pin_button_pins(staff: Client):
    job = put(status="succeeded")
    staff.post(reverse("runs:pin", args=[job.pk]), {"pinned": "true"})
    job.refresh_from_db()
    assert job.pinned


def test_failed_run_says_why(staff: Client):
    job = put(status="failed", error="no candle <b>has closed</b>")
    jobs.note(job.pk, "error", "no candle")
    text = page(staff, job)
    assert "no candle &lt;b&gt;has closed&lt;/b&gt;" in text
    assert '<li class="error">' in text
    assert 'id="live"' not in text


def test_state_tells_of_the_children(staff: Client):
    wfo = put(type="wfo", status="running")
    child = put(parent=wfo, status="failed", error="because")
    (told,) = asked(staff, "state", wfo)["children"]
    assert (told["run_id"], told["status"], told["error"]) == (str(child.pk), "failed", "because")


@pytest.mark.parametrize(
    "payload", [{}, {"strategy_id": NASTY, "data_config": NASTY}, {"data_config": {"symbol": 1}}]
)
def test_payload_that_nobody_understands_is_shown_all_the_same(
    staff: Client, payload: dict[str, Any]
):
    job = put(payload=payload, workspace_id=NASTY, status="failed", error=NASTY)
    jobs.note(job.pk, "info", NASTY)
    for text in (page(staff, job), staff.get("/backtests/runs/").content.decode()):
        assert "<script>alert" not in text


def test_unknown_run_is_a_page_of_404(staff: Client):
    assert staff.get(f"/backtests/runs/{put(type='data_fetch').pk}/").status_code == 404
    assert staff.get("/backtests/runs/1/").status_code == 404


def test_page_obeys_the_security_policy(staff: Client):
    job = put(status="running")
    answer = staff.get(reverse("runs:one", args=[job.pk]))
    text = answer.content.decode()
    assert "script-src 'self'" in answer["Content-Security-Policy"]
    assert text.count("<script") == text.count("<script src=") + text.count(
        '<script id="told" type="application/json">'
    )
    assert "<style" not in text
    assert " style=" not in text


def test_chart_library_is_served_from_here_with_its_licence(client: Client):
    vendor = django_settings.BASE_DIR / "backtests/static/backtests/vendor"
    assert {each.name for each in vendor.iterdir()} == {
        *("README.md", "echarts.LICENSE", "echarts.LICENSE-d3", "echarts.NOTICE"),
        *("echarts.build.js", "echarts.min.js"),
    }
    answer = client.get("/static/backtests/vendor/echarts.min.js")
    assert answer.status_code == 200
    assert "javascript" in answer["Content-Type"]
    assert b"6.1.0" in b"".join(answer)


# --- a run that went well ---


@pytest.mark.django_db(transaction=True)
def test_tune_page_shows_what_came_of_it(staff: Client):
    job = done()
    text = page(staff, job)
    for words in ("Winner", "Overfit gap", "Out of sample", "Best trials", "Two parameters"):
        assert words in text
    assert (job.result or {})["data"]["revision"] in text
    assert "echarts.min.js" in text

    (inside, outside) = asked(staff, "equity", job)["parts"]
    assert (inside["part"], outside["part"]) == ("in_sample", "out_of_sample")
    assert float(inside["first"]) == float(outside["first"]) == 10_000
    assert outside["start_ms"] == inside["end_ms"] + HOUR_MS

    window = asked(staff, "candles", job)
    assert (len(window["candles"]), window["step_ms"]) == (600, HOUR_MS)
    assert window["total"] == window["inside"] == len(window["trades"]) > 0

    heat = asked(staff, "heat", job, x="fast", y="slow")
    assert (heat["x"]["labels"], heat["y"]["labels"]) == (["3", "5", "8"], ["15", "20", "30"])
    assert len(heat["cells"]) == 9
    best = (job.result or {})["best"]["params"]
    column, line = heat["best"]
    assert [heat["x"]["labels"][column], heat["y"]["labels"][line]] == [
        str(best["fast"]),
        str(best["slow"]),
    ]
    assert asked(staff, "drift", job)["drift"]["changed"] is False


@pytest.mark.django_db(transaction=True)
def test_wfo_page_shows_folds_and_candidates(staff: Client):
    job = done("wfo", wfo_config={"train_days": 10, "test_days": 5})
    text = page(staff, job)
    for words in ("Folds", "Candidates", "Tunes of the folds"):
        assert words in text
    told = json.loads(text.split('id="told" type="application/json">')[1].split("</script>")[0])
    assert [fold["number"] for fold in told["folds"]] == [1, 2, 3]
    (stitched,) = asked(staff, "equity", job)["parts"]
    assert stitched["part"] == "out_of_sample"
    assert asked(staff, "candles", job)["candles"]
    child = Job.objects.filter(parent=job).first()
    assert child is not None
    assert "In sample: the train window" in page(staff, child)


@pytest.mark.django_db(transaction=True)
def test_run_whose_files_were_removed_still_has_its_page(staff: Client):
    job = done()
    Artifact.objects.filter(job=job).delete()
    text = page(staff, job)
    assert "Winner" in text
    assert "Its files were removed" in text
    for name in ("equity", "candles", "heat"):
        answer = staff.get(reverse(f"runs:{name}", args=[job.pk]), {"x": "fast"})
        assert (answer.status_code, decode(answer.content)["error"]["code"]) == (
            404,
            "ARTIFACT_UNKNOWN",
        )


@pytest.mark.django_db(transaction=True)
def test_pictures_of_what_makes_no_sense_are_400(staff: Client):
    job = done()
    for name, params in (
        ("heat", {"x": "nope"}),
        ("heat", {"x": "fast", "y": "nope"}),
        ("heat", {"x": "fast", "metric": "nope"}),
        ("heat", {"x": "fast", "others": "nope"}),
        ("candles", {"from_ms": "x"}),
        ("candles", {"from_ms": START_MS, "to_ms": START_MS}),
    ):
        answer = staff.get(reverse(f"runs:{name}", args=[job.pk]), params)
        assert answer.status_code == 400, (name, params)
