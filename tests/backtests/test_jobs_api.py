"""The queue and the files over the API."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from backtests.models import Artifact
from oracle.jsontext import decode
from tests.backtests.asking import ADMIN, artifact, clerk, error, post, put

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("artifacts_dir")]


@pytest.fixture
def staff() -> Client:
    return clerk()


# --- the queue ---


def test_jobs_of_every_type_are_narrowed_down(staff: Client):
    parent = put(type="data_sync")
    child = put(type="data_fetch", parent=parent, status="running")

    def ids(**params: Any) -> list[str]:
        return [row["id"] for row in decode(staff.get(f"{ADMIN}/jobs", params).content)["jobs"]]

    assert ids() == [str(child.pk), str(parent.pk)]
    assert ids(parent_id=str(parent.pk)) == ids(status="running") == [str(child.pk)]
    assert ids(type="data_sync") == [str(parent.pk)]


def test_retry_of_a_failed_job(staff: Client):
    job = put(status="failed", error="because", attempt=3)
    answer = post(staff, f"{ADMIN}/jobs/{job.pk}/retry")
    assert (answer.status_code, decode(answer.content)["status"]) == (202, "pending")


def test_retry_of_what_cannot_be_is_409(staff: Client):
    parent = put(type="wfo", status="failed")
    child, live = put(parent=parent, status="failed"), put(status="running")
    ended = put(status="failed", dedupe_key="same")
    put(dedupe_key="same")

    told = [error(post(staff, f"{ADMIN}/jobs/{job.pk}/retry")) for job in (child, live, ended)]

    assert [each["status"] for each in told] == [409, 409, 409]
    assert str(parent.pk) in told[0]["message"]
    assert "running" in told[1]["message"]
    assert told[2]["code"] == "ALREADY_UNDER_WAY"
    assert error(post(staff, f"{ADMIN}/jobs/{uuid4()}/retry"))["code"] == "JOB_UNKNOWN"


def test_pin_keeps_a_run_with_its_children(staff: Client, artifacts_dir: Path):
    wfo = put(type="wfo", status="succeeded")
    child = put(parent=wfo, status="succeeded")
    kept = artifact(artifacts_dir, child)

    def pin(body: Any) -> Any:
        path = f"{ADMIN}/runs/{wfo.pk}/pin"
        return staff.patch(path, json.dumps(body), content_type="application/json")

    assert decode(pin({"pinned": True}).content) == {"run_id": str(wfo.pk), "pinned": True}
    for row in (wfo, child, kept):
        row.refresh_from_db()
        assert row.pinned
    assert error(pin({"pinned": "yes"}))["details"]["field"] == "pinned"
    assert error(pin({}))["status"] == 400


# --- artifacts ---


def test_download_is_the_file_with_its_checksum(staff: Client, artifacts_dir: Path):
    job = put(status="succeeded")
    row = artifact(artifacts_dir, job)

    listed = decode(staff.get(f"{ADMIN}/artifacts", {"run_id": str(job.pk)}).content)["artifacts"]
    answer = staff.get(listed[0]["download"], headers={"Accept": "text/csv"})

    assert b"".join(answer) == b"rank\n1\n"
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["X-Checksum-SHA256"] == row.checksum == sha256(b"rank\n1\n").hexdigest()
    name = f"{str(job.pk)[:8]}-trials.csv"
    assert answer["Content-Disposition"] == f'attachment; filename="{name}"'


@pytest.mark.parametrize("path", ["../secret.csv", "tunes/../../secret.csv"])
def test_download_that_leaves_the_folder_is_refused(staff: Client, artifacts_dir: Path, path: str):
    row = artifact(artifacts_dir, put())
    (artifacts_dir.parent / "secret.csv").write_text("secret")
    Artifact.objects.filter(pk=row.pk).update(path=path)
    told = error(staff.get(f"{ADMIN}/artifacts/{row.pk}/download"))
    assert (told["status"], "secret" in told["message"]) == (404, False)


def test_download_through_a_link_that_leaves_the_folder_is_refused(
    staff: Client, artifacts_dir: Path
):
    row = artifact(artifacts_dir, put())
    (artifacts_dir.parent / "secret.csv").write_text("secret")
    (artifacts_dir / "link.csv").symlink_to(artifacts_dir.parent / "secret.csv")
    Artifact.objects.filter(pk=row.pk).update(path="link.csv")
    assert error(staff.get(f"{ADMIN}/artifacts/{row.pk}/download"))["status"] == 404


def test_download_of_what_is_gone_is_404(staff: Client, artifacts_dir: Path):
    row = artifact(artifacts_dir, put())
    (artifacts_dir / row.path).unlink()
    for number in (row.pk, row.pk + 1, 10**30):
        assert error(staff.get(f"{ADMIN}/artifacts/{number}/download"))["status"] == 404
