"""The files that runs leave behind: all of them or none."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone
from structlog.testing import capture_logs

from backtests import artifacts, job_orders, jobs, pins
from backtests.artifacts import ArtifactError, Staged
from backtests.job_orders import Order
from backtests.jobs import Claim, LostError
from backtests.models import Artifact, Job
from backtests.work import StoppedError

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _folder(artifacts_dir: Path) -> None: ...


def take(**changes: Any) -> Claim:
    job_orders.enqueue(Order(**{"type": "tune"} | changes))
    held = jobs.claim("worker")
    assert held is not None
    return held


def write(held: Claim, *, text: str = "one") -> Staged:
    with artifacts.staged(held) as files:
        files.json("tune.json", {"text": text}, kind="tune")
        files.csv("folds/1/trials.csv", ("a", "b"), [(1, 2.5), (None, "x,y")], kind="trials")
    return files


def finished(*, days: int = 0, **changes: Any) -> Job:
    """A job that ended so many days before NOW, with its files."""
    held = take()
    jobs.finish(held, {}, keep=write(held).keeper(revision="abc"))
    Job.objects.filter(pk=held.job_id).update(finished_at=NOW - timedelta(days=days), **changes)
    return Job.objects.get(pk=held.job_id)


def files() -> list[str]:
    """Every file below the root, staging too."""
    root = artifacts.root()
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_finish_files_them_and_says_what_they_are():
    job = finished()
    folder = f"tunes/{job.pk}"
    assert files() == [f"{folder}/folds/1/trials.csv", f"{folder}/tune.json"]
    row = Artifact.objects.get(kind="trials")
    body = b'a,b\n1,2.5\n,"x,y"\n'
    assert artifacts.locate(row).read_bytes() == body
    assert (row.path, row.size_bytes, row.checksum, row.revision, row.workspace_id) == (
        f"{folder}/folds/1/trials.csv",
        len(body),
        hashlib.sha256(body).hexdigest(),
        "abc",
        "default",
    )


def test_staged_told_to_stop_writes_no_further_row():
    written = []

    def rows() -> Iterator[tuple[int]]:
        for number in range(10):
            written.append(number)
            yield (number,)

    def look() -> None:
        if len(written) == 3:
            raise StoppedError

    with pytest.raises(StoppedError), artifacts.staged(take(), look=look) as one:
        one.csv("trials.csv", ("a",), rows(), kind="trials")
    assert (len(written), files()) == (3, [])


def test_staged_that_fails_leaves_nothing():
    held = take()
    with pytest.raises(RuntimeError), artifacts.staged(held) as files_of:
        files_of.json("tune.json", {}, kind="tune")
        raise RuntimeError
    assert files() == []


def test_staged_json_refuses_a_number_that_is_none():
    with pytest.raises(ValueError, match="not JSON compliant"), artifacts.staged(take()) as one:
        one.json("tune.json", {"score": float("nan")}, kind="tune")


def test_finish_of_what_was_pinned_while_it_ran_keeps_its_files():
    held = take()
    pins.pin([held.job_id], pinned=True)
    jobs.finish(held, {}, keep=write(held).keeper(revision="abc"))
    assert set(Artifact.objects.values_list("pinned", flat=True)) == {True}


def test_finish_all_is_on_the_disk_before_the_row_is(monkeypatch: pytest.MonkeyPatch):
    synced: list[Path] = []
    monkeypatch.setattr(artifacts, "_sync", synced.append)
    held = take()
    written = write(held)
    place, root = written.folder, artifacts.root()
    named = ("", "tune.json", "folds", "folds/1", "folds/1/trials.csv")
    assert set(synced) == {place / name for name in named}
    synced.clear()
    jobs.finish(held, {}, keep=written.keeper(revision="abc"))
    assert set(synced) == {root, root / "tunes"}


def test_finish_too_late_files_nothing():
    held = take()
    written = write(held)
    jobs.cancel(held.job_id)
    with pytest.raises(LostError):
        jobs.finish(held, {}, keep=written.keeper(revision="abc"))
    assert not Artifact.objects.exists()
    assert not (artifacts.root() / "tunes").exists()


@pytest.mark.django_db(transaction=True)
def test_finish_after_a_commit_that_failed_replaces_what_it_left():
    held = take()
    keep = write(held, text="first").keeper(revision="abc")

    def broken() -> None:
        keep()
        raise OSError("the database went away")

    with pytest.raises(OSError, match="went away"):
        jobs.finish(held, {}, keep=broken)
    assert not Artifact.objects.exists()
    jobs.finish(held, {}, keep=write(held, text="second").keeper(revision="abc"))
    found = json.loads(artifacts.locate(Artifact.objects.get(kind="tune")).read_text())
    assert found == {"text": "second"}


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "tunes/../../secret"])
def test_locate_outside_the_folder_is_refused(path: str, tmp_path: Path):
    (tmp_path / "secret").write_text("x")
    row = Artifact(path=path, job=finished())
    with pytest.raises(ArtifactError, match="does not lie"):
        artifacts.locate(row)


def test_locate_by_way_of_a_link_is_refused(tmp_path: Path):
    job = finished()
    (tmp_path / "secret").write_text("x")
    row = Artifact.objects.get(job=job, kind="tune")
    artifacts.locate(row).unlink()
    (artifacts.root() / row.path).symlink_to(tmp_path / "secret")
    with pytest.raises(ArtifactError, match="does not lie"):
        artifacts.locate(row)


def test_locate_what_is_gone_says_so():
    finished()
    row = Artifact.objects.get(kind="tune")
    artifacts.locate(row).unlink()
    with pytest.raises(ArtifactError, match="is gone"):
        artifacts.locate(row)


def test_prune_removes_what_is_older_and_not_pinned():
    old, young, pinned = finished(days=91), finished(days=89), finished(days=91, pinned=True)
    half = finished(days=91)
    Artifact.objects.filter(job=half, kind="tune").update(pinned=True)
    assert artifacts.prune(now=NOW, keep_days=90) == 2
    kept = {path.split("/")[1] for path in files()}
    assert kept == {str(job.pk) for job in (young, pinned, half)}
    assert not Artifact.objects.filter(job=old).exists()
    assert Job.objects.filter(pk=old.pk).exists()


def test_prune_what_is_pinned_at_that_moment_is_kept(monkeypatch: pytest.MonkeyPatch):
    job = finished(days=91)
    forget = artifacts._forget

    def pinned_before(job_id: UUID) -> int:
        pins.pin([job_id], pinned=True)
        return forget(job_id)

    monkeypatch.setattr(artifacts, "_forget", pinned_before)
    assert artifacts.prune(now=NOW, keep_days=90) == 0
    assert len(files()) == Artifact.objects.filter(job=job, pinned=True).count() == 2


def test_prune_folder_that_cannot_be_removed_is_told_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
):
    jobs_of_two = [finished(days=91), finished(days=91)]

    def stuck(place: Path) -> None:
        raise PermissionError(f"not allowed: {place}")

    monkeypatch.setattr(shutil, "rmtree", stuck)
    with capture_logs() as told:
        assert artifacts.prune(now=NOW, keep_days=90) == 4
    assert {each["path"] for each in told if each["event"] == "artifacts.not_removed"} == {
        str(artifacts.root() / "tunes" / str(job.pk)) for job in jobs_of_two
    }


def test_prune_zero_days_keeps_for_ever():
    finished(days=10_000)
    assert (artifacts.prune(now=NOW, keep_days=0), len(files())) == (0, 2)


def test_prune_removes_what_workers_that_died_left():
    finished()
    write(take())
    orphan = artifacts.root() / "tunes" / "of-nobody"
    orphan.mkdir()
    artifacts.prune(now=timezone.now(), keep_days=0)
    assert (len(files()), orphan.exists()) == (4, True)  # somebody may be at it
    artifacts.prune(now=timezone.now() + timedelta(days=2), keep_days=0)
    assert (len(files()), orphan.exists()) == (2, False)


def test_prune_before_anything_was_written():
    assert artifacts.prune(now=NOW, keep_days=90) == 0
