"""A walk-forward from its order to its files, on candles in the database."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from django.db import connection

from backtests import (
    artifacts,
    candidates,
    data,
    engines,
    job_orders,
    jobs,
    stats,
    tune,
    wfo_files,
    work,
)
from backtests.engine.candles import Candles
from backtests.handlers import HANDLERS
from backtests.job_orders import Order
from backtests.models import Artifact, Job, JobEvent, JobType, LeaderboardEntry, Status
from backtests.wfo_order import WfoOrder
from backtests.work import Done, Handler, JobError, Running, Wait
from market.candles import to_datetime
from tests.backtests.conftest import LeftAtFirstRow
from tests.backtests.series import HOUR_MS, START_MS
from tests.backtests.stored import hours, nobody, store, trending, tune_payload

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("artifacts_dir"),
]

DAYS = 25  # three folds: train 10, test 5
WINDOWS = {"train_days": 10, "test_days": 5}


@pytest.fixture
def stored() -> None:
    store(trending(DAYS * 24))


def payload(**config: Any) -> dict[str, Any]:
    return tune_payload(DAYS * 24, wfo_config=WINDOWS | config)


def run(given: dict[str, Any] | None = None, *, tunes: Handler = HANDLERS["tune"]) -> Job:
    job, _ = job_orders.enqueue(Order(type="wfo", payload=given or payload()))
    work.work(dict(HANDLERS) | {"tune": tunes}, seconds=60)
    job.refresh_from_db()
    return job


def but(number: int, do: Callable[[Running], None]) -> Handler:
    """Tunes as ever, but for one fold."""

    def handler(running: Running) -> Done | Wait:
        if running.claim.payload["fold"]["number"] == number:
            do(running)
        return HANDLERS["tune"](running)

    return handler


def fails(running: Running) -> None:
    raise JobError("no luck")


def result(job: Job) -> dict[str, Any]:
    assert (job.status, job.error) == (Status.SUCCEEDED, "")
    return job.result or {}


def read_csv(job: Job, path: str) -> list[dict[str, str]]:
    found = artifacts.locate(Artifact.objects.get(job=job, path__endswith=f"{job.pk}/{path}"))
    with found.open(newline="") as file:
        return list(csv.DictReader(file))


def stored_candles() -> Candles:
    order = WfoOrder.parse(payload()).tune
    return data.read(order.series, order.wanted, now_ms=START_MS * 2, running=nobody()).candles


def run_on(params: dict[str, Any], bars: tuple[int, int]) -> tune.Tested:
    order = WfoOrder.parse(payload()).tune
    kernel = engines.engine("kernel")
    return tune.run_on(order, stored_candles(), params, bars=bars, engine=kernel)


# --- what comes of it ---


def test_run_children_are_tunes_of_the_train_windows(stored: None):
    job = run()
    children = Job.objects.filter(parent=job).order_by("created_at")
    day, first = 86_400, START_MS // 1_000
    assert [
        (child.payload["data_config"]["start_ts"], child.payload["data_config"]["end_ts"])
        for child in sorted(children, key=lambda child: child.payload["fold"]["number"])
    ] == [(first + begin * day, first + (begin + 10) * day) for begin in (0, 5, 10)]
    assert {child.status for child in children} == {Status.SUCCEEDED}


def test_run_test_windows_are_run_and_not_only_trained_on(stored: None):
    for fold, start in zip(result(run())["folds"], (240, 360, 480), strict=True):
        found = run_on(fold["winner"], (start, start + 120))
        assert fold["out_of_sample"] == found.score
        assert fold["metrics"]["trade_count"] == found.result.metrics.trade_count


def test_run_scores_are_those_of_the_test_windows(stored: None):
    job = run()
    best = result(job)["best"]
    scores = [run_on(best["params"], (start, start + 120)).score for start in (240, 360, 480)]
    one = candidates.Candidate(
        params=best["params"],
        scores={number: score or 0.0 for number, score in enumerate(scores, 1)},
        fold_count=3,
    )
    assert (best["score"], best["fold_scores"]) == (
        one.score,
        {str(number): score for number, score in one.scores.items()},
    )
    rows = read_csv(job, "candidates.csv")
    assert float(rows[0]["score"]) == max(float(row["score"]) for row in rows)


def test_run_stitched_equity_is_that_of_who_followed_the_winners(stored: None):
    job = run()
    rows = read_csv(job, "equity_oos.csv")
    times: list[int] = []
    values: list[float] = []
    trades: list[Any] = []
    money = 10_000.0
    for fold, start in zip(result(job)["folds"], (240, 360, 480), strict=True):
        one = run_on(fold["winner"], (start, start + 120)).result
        times += one.time_ms.tolist()
        values += (one.equity * (money / 10_000)).tolist()
        trades += one.trades
        money = values[-1]
    assert [int(row["time_ms"]) for row in rows] == times
    assert times == [START_MS + bar * HOUR_MS for bar in range(240, 600)]
    assert [float(row["equity"]) for row in rows] == values
    measured = stats.measure(np.array(values), np.array(times), trades, HOUR_MS)
    assert result(job)["out_of_sample"]["metrics"]["sharpe"] == measured.sharpe
    assert len(read_csv(job, "trades_oos.csv")) == measured.trade_count


def test_run_windows_that_overlap_are_held_one_after_the_other(stored: None):
    job = run(payload(step_days=2))
    rows = read_csv(job, "equity_oos.csv")
    times = [int(row["time_ms"]) for row in rows]
    assert times == [START_MS + bar * HOUR_MS for bar in range(240, 240 + len(times))]
    assert [fold["number"] for fold in result(job)["folds"]] == [1, 2, 3, 4, 5, 6]


def test_run_leaves_its_files_and_leaders(stored: None):
    job = run(payload(leaderboard_top_k=4))
    paths = Artifact.objects.filter(job=job).values_list("path", flat=True)
    assert sorted(path.removeprefix(f"wfo/{job.pk}/") for path in paths) == [
        "candidates.csv",
        "equity_oos.csv",
        *(f"folds/{n}/{name}" for n in (1, 2, 3) for name in ("candidates.csv", "fold.json")),
        "trades_oos.csv",
        "wfo.json",
    ]
    leaders = result(job)["top"]
    entries = LeaderboardEntry.objects.order_by("rank")
    assert [(row.job_id, row.params, row.score) for row in entries] == [
        (job.pk, each["params"], each["score"]) for each in leaders
    ]
    assert 1 <= len(leaders) <= 4
    assert all(each["coverage"] >= 0.6 for each in leaders)


def test_run_again_from_its_own_file_comes_to_the_same_numbers(stored: None):
    first = run()
    row = Artifact.objects.get(job=first, kind="wfo")
    written = json.loads(artifacts.locate(row).read_text())
    again = result(run(written["config"]))
    for each in (*again["folds"], *result(first)["folds"]):
        del each["tune_id"]
    assert again == result(first)


def test_run_nobody_in_enough_folds_has_no_leader_and_says_so(
    stored: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(candidates, "MIN_COVERAGE", 1.01)
    job = run()
    found = result(job)
    assert (found["best"], found["top"], LeaderboardEntry.objects.count()) == (None, [], 0)
    assert len(read_csv(job, "candidates.csv")) == found["candidate_count"] == 9
    assert JobEvent.objects.filter(level="warn", message__contains="101% of the folds").exists()


def test_run_counts_its_folds_as_they_are_searched_and_again_as_they_are_tested(
    stored: None, monkeypatch: pytest.MonkeyPatch
):
    shown: list[tuple[Any, ...]] = []
    names = ("phase", "folds_done", "folds_total")

    def searched(running: Running) -> Done | Wait:
        parent_id = running.claim.parent_id
        assert parent_id is not None
        parent = Job.objects.get(pk=parent_id)
        shown.append(tuple(parent.progress[name] for name in names))
        return HANDLERS["tune"](running)

    report = Running.report

    def reported(running: Running, **facts: Any) -> None:
        report(running, **facts)
        if running.progress.get("phase") == "test":
            shown.append(tuple(running.progress[name] for name in names))

    monkeypatch.setattr(Running, "report", reported)
    job = run(tunes=searched)
    assert shown == [
        *(("search", count, 3) for count in range(3)),
        *(("test", count, 3) for count in range(4)),
    ]
    assert tuple(job.progress[name] for name in names) == ("test", 3, 3)


# --- what goes wrong ---


def test_run_failed_child_fails_it_and_says_which(stored: None):
    job = run(tunes=but(2, fails))
    assert (job.status, job.error) == (
        Status.FAILED,
        "1 of 3 folds have no tune: fold 2: failed: no luck",
    )
    told = {name: job.progress[name] for name in ("phase", "folds_done", "folds_total")}
    assert told == {"phase": "search", "folds_done": 2, "folds_total": 3}
    assert not Artifact.objects.filter(job=job).exists()


def test_run_partial_goes_on_without_it(stored: None):
    found = result(run(payload(allow_partial=True, min_folds=2), tunes=but(2, fails)))
    assert [fold["number"] for fold in found["folds"]] == [1, 3]
    assert found["left_out"] == {"2": "failed: no luck"}
    assert {len(each["fold_scores"]) / each["coverage"] for each in found["top"]} == {2.0}


def test_run_partial_with_too_few_left_fails(stored: None):
    job = run(payload(allow_partial=True), tunes=but(2, fails))
    assert job.error == "2 folds are left, and min_folds is 3: fold 2: failed: no luck"


def test_run_canceled_child_fails_it(stored: None):
    job = run(tunes=but(1, lambda running: void(jobs.cancel(running.claim.job_id))))
    assert job.error == "1 of 3 folds have no tune: fold 1: canceled"


def void(_: object) -> None: ...


def test_run_canceled_takes_its_tunes_with_it(stored: None):
    def cancel(running: Running) -> None:
        assert running.claim.parent_id is not None
        jobs.cancel(running.claim.parent_id)

    job = run(tunes=but(2, cancel))
    assert job.status == Status.CANCELED
    done = Job.objects.filter(parent=job, status=Status.SUCCEEDED).count()
    assert (job.progress["folds_done"], job.progress["folds_total"]) == (done, 3)
    assert done > 0
    assert not Job.objects.filter(status__in=("pending", "running")).exists()


def test_run_told_to_stop_runs_no_further_candidate(stored: None, left_at_first_run: list[bool]):
    job = run()
    assert (job.status, job.attempt, len(left_at_first_run)) == (Status.PENDING, 0, 1)


def test_run_told_to_stop_writes_no_further_row(stored: None, left_at_first_row: LeftAtFirstRow):
    written = left_at_first_row(wfo_files)
    job = run()
    assert (job.status, job.attempt, len(written)) == (Status.PENDING, 0, 1)


def test_run_retried_does_only_the_failed_fold_again(stored: None):
    job = run(tunes=but(2, fails))
    done = Job.objects.filter(parent=job, status=Status.SUCCEEDED).values_list("finished_at")
    before = sorted(done)
    jobs.retry(job.pk)
    work.work(HANDLERS, seconds=60)
    job.refresh_from_db()
    assert len(result(job)["folds"]) == 3
    assert len([time for time in before if time in set(done.all())]) == 2


def test_run_candles_that_change_between_the_phases_are_reported(stored: None):
    def change(running: Running) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                f"UPDATE {hours()} SET volume = volume + 1 WHERE time = %s",
                [to_datetime(START_MS + 500 * HOUR_MS)],
            )

    found = result(run(tunes=but(1, change)))
    assert found["drift"].startswith("data changed since it was pinned: ")
    assert found["drift"] in JobEvent.objects.filter(level="warn").values_list("message", flat=True)


def test_run_unchanged_candles_are_no_drift(stored: None):
    assert result(run())["drift"] is None


def test_run_range_that_has_not_ended_has_fewer_folds(stored: None, monkeypatch: Any):
    now_ms = START_MS + 20 * 86_400_000 + 120_000
    monkeypatch.setattr("backtests.handlers._now_ms", lambda: now_ms)
    job = run()
    assert job.error.startswith("[2023-11-15T00:00Z, 2023-12-05T00:00Z) holds 2 folds, and")
    assert not Job.objects.filter(type=JobType.TUNE).exists()


def test_run_hole_in_a_test_window_names_the_fold(stored: None):
    with connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM {hours()} WHERE time >= %s AND time < %s",
            [to_datetime(START_MS + bar * HOUR_MS) for bar in (370, 480)],
        )
    job = run()
    assert job.error == (
        "the test window of fold 2 has 10 candles, and 20 are needed; 110 of the range's 600 are "
        "missing: `python manage.py backfill BTC/USDT --from 2023-11-15T00:00 --to "
        "2023-12-10T00:00` fetches what exchanges have of them"
    )


def test_run_bad_payload_fails_with_its_reason(stored: None):
    job = run(payload() | {"strategy_id": "astrology"})
    assert job.error.startswith("bad payload: strategy_id: no strategy 'astrology'")
