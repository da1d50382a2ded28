"""Real workers on the real database and broker, killed at random while they work."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest
from celery import current_app
from django.db import connection
from django.utils import timezone

from backtests import artifacts, job_orders, jobs
from backtests.job_orders import Order
from backtests.models import LIVE, Artifact, Job, JobEvent, Status
from tests.backtests.stored import store, trending, tune_payload

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).parents[2]
STALE_SECONDS = 4
TUNE_FILES = {"tune.json", "trials.csv", "equity_best.csv", "trades_best.csv"}
KILLED = "gave no sign of life"

BAD_TUNE = tune_payload(gates={"max_drawdown": 0.9, "min_trades": 500})
WFO = tune_payload(25 * 24, wfo_config={"train_days": 10, "test_days": 5})
# What is enqueued, how often of a hundred, and what may become of it when nobody cancels it.
KINDS: tuple[tuple[Order, int, str], ...] = (
    (Order(type="tune", payload=tune_payload(), max_attempts=99), 30, "succeeded"),
    (Order(type="wfo", payload=WFO, max_attempts=99), 5, "succeeded"),
    (Order(type="slow", max_attempts=99), 25, "succeeded"),
    (Order(type="flaky", max_attempts=99), 15, "succeeded"),
    (Order(type="slow", max_attempts=1), 5, "either"),
    (Order(type="tune", payload=BAD_TUNE, max_attempts=99), 10, "none of 9 trials passed"),
    (Order(type="broken", max_attempts=99), 10, "never"),
)


@dataclass
class Workers:
    """Processes that may be killed; another takes the place of each."""

    environment: Mapping[str, str]
    log: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    started: int = 0

    def start(self) -> None:
        self.started += 1
        command = [sys.executable, "-m", "tests.backtests.chaos_worker", f"w{self.started}"]
        with self.log.open("ab") as log:
            self.running.append(
                subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
            )

    def kill(self, random: Random) -> None:
        victim = self.running.pop(random.randrange(len(self.running)))
        victim.kill()
        victim.wait()
        self.start()


@contextmanager
def workers(count: int, *, environment: Mapping[str, str], log: Path) -> Iterator[Workers]:
    every = Workers(environment=environment, log=log)
    try:
        for _ in range(count):
            every.start()
        yield every
    finally:
        for process in every.running:
            process.kill()
            process.wait()


@pytest.fixture
def environment(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a worker of this test's database, broker and folder is told."""
    settings.ARTIFACTS_DIR = tmp_path / "artifacts"
    monkeypatch.setattr(jobs, "STALE_SECONDS", STALE_SECONDS)
    monkeypatch.setattr(jobs, "FIRST_RETRY_SECONDS", 0)
    params = connection.get_connection_params()
    query = "&".join(f"{name}={params[name]}" for name in ("host", "port") if params.get(name))
    url = f"postgresql://{params.get('user', '')}@/{params['dbname']}?{query}"
    told = {**os.environ, "DATABASE_URL": url, "REDIS_URL": settings.REDIS_URL}
    if params.get("password"):
        told["PGPASSWORD"] = params["password"]
    return told | {"ARTIFACTS_DIR": str(settings.ARTIFACTS_DIR), "LOG_LEVEL": "info"}


def enqueue(count: int, random: Random) -> dict[UUID, str]:
    """Jobs of mixed kinds, and what is to become of each."""
    weights = [weight for _, weight, _ in KINDS]
    drawn = random.choices(KINDS, weights, k=count)
    return {job_orders.enqueue(order)[0].pk: expected for order, _, expected in drawn}


def disturb(
    every: Workers, expected: dict[UUID, str], random: Random, *, kills: int, cancels: int
) -> set[UUID]:
    """Kill and cancel at random, and look after the queue as beat does; those canceled.

    Kills lie between the ends of jobs, not in time: there are as many however fast these are.
    """
    canceled: set[UUID] = set()
    to_cancel = random.sample(sorted(expected), cancels)
    deadline = time.monotonic() + 60 + 5 * len(expected)
    at_work = Job.objects.filter(status=Status.RUNNING).exclude(locked_by="")
    began, marks = False, sorted(random.sample(range(len(expected) * 4 // 5), kills))
    while Job.objects.filter(status__in=LIVE).exists():
        assert time.monotonic() < deadline, every.log.read_text()[-5_000:]
        assert all(one.poll() is None for one in every.running), every.log.read_text()[-5_000:]
        began = began or at_work.count() == len(every.running)
        ended = len(expected) - Job.objects.filter(pk__in=expected, status__in=LIVE).count()
        if marks and began and ended >= marks[0] and at_work.exists():
            every.kill(random)
            del marks[0]
        if to_cancel and random.random() < 0.2:
            job_id = to_cancel.pop()
            if jobs.cancel(job_id)[0] == Status.CANCELED:
                canceled.add(job_id)
        jobs.reap()
        job_orders.nudge(min(job_orders.due_count(), len(every.running)))
        time.sleep(0.1)
    assert not marks, "everything ended before the last kill: enqueue more"
    return canceled


def check(expected: dict[UUID, str], canceled: set[UUID]) -> None:
    """Each job is in the one right state, and its files are there exactly once."""
    wrong = []
    for job in Job.objects.filter(pk__in=expected):
        wanted = "canceled" if job.pk in canceled else expected[job.pk]
        right = {
            "canceled": job.status == Status.CANCELED,
            "succeeded": job.status == Status.SUCCEEDED and job.result is not None,
            "either": job.status == Status.SUCCEEDED or KILLED in job.error,
        }.get(wanted, job.status == Status.FAILED and wanted in job.error)
        if not right or job.locked_by or job.finished_at is None:
            wrong.append((job.type, wanted, job.status, job.error, job.attempt))
    assert wrong == []
    ends = JobEvent.objects.filter(message="succeeded").values_list("job_id", flat=True)
    done = Job.objects.filter(status=Status.SUCCEEDED)
    assert Counter(ends) == Counter(done.values_list("pk", flat=True))
    check_files(done)


def check_files(done: Any) -> None:
    # What a killed worker left half-written is nobody's, and gone a day later.
    artifacts.prune(now=timezone.now() + timedelta(days=2), keep_days=0)
    root = artifacts.root()
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    rows = list(Artifact.objects.values_list("path", flat=True))
    assert (len(rows), set(rows)) == (len(found), found)
    by_job: dict[UUID, set[str]] = {}
    for row in Artifact.objects.all():
        by_job.setdefault(row.job_id, set()).add(row.path.split("/", 2)[2])
        assert artifacts._checksum(artifacts.locate(row)) == row.checksum
    filing = set(done.filter(type__in=artifacts.FOLDERS).values_list("pk", flat=True))
    assert set(by_job) == filing
    tunes = done.filter(type="tune").values_list("pk", flat=True)
    assert {frozenset(by_job[pk]) for pk in tunes} == {frozenset(TUNE_FILES)}


def chaos(
    environment: Mapping[str, str], log: Path, *, count: int, at_once: int, kills: int, seed: int
) -> None:
    random = Random(seed)
    store(trending())
    current_app.control.purge()
    expected = enqueue(count, random)
    with workers(at_once, environment=environment, log=log) as every:
        canceled = disturb(every, expected, random, kills=kills, cancels=count // 10)
    check(expected, canceled)
    assert JobEvent.objects.filter(message__contains=KILLED).exists(), "nobody died at work"


def test_workers_killed_a_few_times(environment: dict[str, str], tmp_path: Path):
    chaos(environment, tmp_path / "log", count=20, at_once=2, kills=2, seed=1)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", [11, 12])
def test_workers_killed_at_random_during_200_jobs(
    environment: dict[str, str], tmp_path: Path, seed: int
):
    chaos(environment, tmp_path / "log", count=200, at_once=3, kills=20, seed=seed)
