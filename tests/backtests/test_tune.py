"""A tune from its order to its files, on candles in the database."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from django.db import connection

from backtests import artifacts, data, engines, job_orders, jobs, search, tune, tune_files, work
from backtests.data import Dataset
from backtests.engine.candles import Candles
from backtests.engine.config import EngineConfig
from backtests.engine.protocol import Engine
from backtests.engine.protocol import StoppedError as EngineStoppedError
from backtests.engine.results import Result, SweepResult
from backtests.handlers import HANDLERS
from backtests.job_orders import Order
from backtests.models import Artifact, Job, LeaderboardEntry, Status
from backtests.strategies.sma_cross import STRATEGY
from backtests.tune_order import TuneOrder
from backtests.work import JobError, StoppedError
from market.candles import to_datetime
from tests.backtests.conftest import LeftAtFirstRow
from tests.backtests.series import HOUR_MS, START_MS
from tests.backtests.stored import hours, nobody, store, trending, tune_payload

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("artifacts_dir"),
]

BARS = 600
SPLIT = 420


@pytest.fixture
def stored() -> None:
    store(trending(BARS))


def run(**changes: Any) -> Job:
    job, _ = job_orders.enqueue(Order(type="tune", payload=tune_payload(**changes)))
    work.work(HANDLERS, seconds=60)
    job.refresh_from_db()
    return job


def read_csv(job: Job, kind: str) -> list[dict[str, str]]:
    path = artifacts.locate(Artifact.objects.get(job=job, kind=kind))
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_json(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        artifacts.locate(Artifact.objects.get(job=job, kind="tune")).read_text()
    )
    return found


def numbers(job: Job) -> Any:
    """What must not depend on how it was run."""
    assert (job.status, job.error) == (Status.SUCCEEDED, "")
    return job.result, [read_csv(job, kind) for kind in ("trials", "equity", "trades")]


# --- what comes of it ---


def test_run_result_is_the_engines_on_both_parts(stored: None):
    job = run()
    candles = stored_candles()
    kernel, config = engines.engine("kernel"), EngineConfig(strategy_id="sma_cross", timeframe="1h")
    best = (job.result or {})["best"]
    history = STRATEGY.warm_up_bars(best["params"])
    inside = kernel.run_single(config, candles.part(0, SPLIT), best["params"])
    outside = kernel.run_single(
        config, candles.part(SPLIT, BARS, history_bars=history), best["params"]
    )
    scores = [best[part]["score"] for part in ("in_sample", "out_of_sample")]
    assert scores == [inside.metrics.sharpe, outside.metrics.sharpe]
    assert (job.result or {})["overfit_gap"] == scores[0] - scores[1]
    assert (job.result or {})["bars"] == {"in_sample": SPLIT, "out_of_sample": BARS - SPLIT}
    assert best["in_sample"]["score"] == max(each["score"] for each in (job.result or {})["top"])


def stored_candles() -> Candles:
    series = tune.parsed(tune_payload()).series
    return data.read(
        series, tune.parsed(tune_payload()).wanted, now_ms=START_MS * 2, running=nobody()
    ).candles


def test_run_files_hold_every_trial_and_both_parts(stored: None):
    job = run()
    trials, equity = read_csv(job, "trials"), read_csv(job, "equity")
    assert sorted({(row["param_fast"], row["param_slow"]) for row in trials}) == [
        (fast, slow) for fast in "358" for slow in ("15", "20", "30")
    ]
    scores = [float(row["score"]) for row in trials]
    assert scores == sorted(scores, reverse=True)
    split = [row["part"] for row in equity].index("out_of_sample")
    assert [row["part"] for row in equity] == ["in_sample"] * split + ["out_of_sample"] * 180
    times = [int(row["time_ms"]) for row in equity]
    assert times == [START_MS + bar * HOUR_MS for bar in range(BARS)]  # each bar in one half
    assert {row["part"] for row in read_csv(job, "trades")} == {"in_sample", "out_of_sample"}


def test_run_enters_the_leaderboard_by_what_came_out_of_sample(stored: None):
    job = run()
    rows = list(LeaderboardEntry.objects.filter(job=job).order_by("rank"))
    assert [row.rank for row in rows] == [1, 2, 3, 4, 5]
    best = (job.result or {})["best"]
    assert (rows[0].params, rows[0].score) == (best["params"], best["out_of_sample"]["score"])
    assert rows[0].metrics["in_sample"] == best["in_sample"]["metrics"]


def test_run_from_its_own_file_comes_to_the_same_numbers(stored: None):
    first = run(seed=7, max_trials=5, engine_config={"sides": "both"})
    written = read_json(first)
    again, _ = job_orders.enqueue(Order(type="tune", payload=written["config"]))
    work.work(HANDLERS, seconds=60)
    again.refresh_from_db()
    assert numbers(again) == numbers(first)
    assert read_json(again)["data"] == written["data"]
    assert written["ids"] == {
        "job_id": str(first.pk),
        "parent_id": None,
        "workspace_id": "default",
        "type": "tune",
    }
    assert (written["schema_version"], written["engine"]["id"]) == (1, "kernel")
    assert written["code"]["git_sha"] and written["outputs"] == first.result


def test_run_same_seed_same_result_on_any_number_of_threads(stored: None, settings: Any):
    space = {
        "fast": {"min": 2, "max": 12, "step": 1},
        "slow": {"min": 15, "max": 60, "step": 5},
    }
    found = []
    for threads in (1, 2, 5):
        settings.BACKTEST_THREADS = threads
        found.append(numbers(run(param_space=space, max_trials=40, seed=3)))
    assert found[0] == found[1] == found[2]
    assert found[0][0]["trials"]["method"] == "latin_hypercube"
    assert found[0] != numbers(run(param_space=space, max_trials=40, seed=4))


def test_run_on_the_other_engine_says_so(stored: None):
    job = run(engine_id="backtesting.py", param_space={"fast": [3], "slow": [20]})
    assert read_json(job)["engine"]["id"] == "backtesting.py"
    other = run(param_space={"fast": [3], "slow": [20]})
    scores = [(each.result or {})["best"]["out_of_sample"]["score"] for each in (job, other)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-9)


def test_run_shows_how_far_it_is_and_the_best_so_far(stored: None):
    job = run()
    assert (job.progress["trials_done"], job.progress["trials_total"]) == (9, 9)
    best = (job.result or {})["best"]
    assert job.progress["best"] == {
        "params": best["params"],
        "score": best["in_sample"]["score"],
    }


# --- the out-of-sample part ---


class Spy:
    """An engine, and what is done while it searches."""

    id, version = "spy", "0"

    def __init__(self, engine: Engine, during: Callable[[Candles], None]) -> None:
        self._engine, self._during = engine, during
        self.searching = False

    def run_single(self, config: EngineConfig, candles: Candles, params: Any) -> Result:
        return self._engine.run_single(config, candles, params)

    def run_sweep(
        self, config: EngineConfig, candles: Candles, param_grid: Sequence[Any], **options: Any
    ) -> list[SweepResult]:
        self._during(candles)
        return self._engine.run_sweep(config, candles, param_grid, **options)


def test_run_search_cannot_read_the_out_of_sample_part(
    stored: None, monkeypatch: pytest.MonkeyPatch
):
    """It is poison while the search runs, and not cut out before the search is over."""
    clean = run()
    held: list[Dataset] = []
    cuts: list[tuple[int, int]] = []
    prepare, part, select = data.prepare, Candles.part, search.select

    def prepared(*args: Any, **options: Any) -> Dataset:
        held.append(prepare(*args, **options))
        return held[0]

    def recorded(self: Candles, start: int, stop: int, **options: Any) -> Candles:
        cuts.append((start, stop))
        return part(self, start, stop, **options)

    def poison(given: Candles) -> None:
        whole = held[0].candles
        assert (len(given), given.first_bar, cuts) == (SPLIT, 0, [(0, SPLIT)])
        for name in ("time_ms", "open", "high", "low", "close", "volume"):
            assert not np.shares_memory(getattr(given, name), getattr(whole, name))
        saved.append(whole.close[SPLIT:].copy())
        whole.close[SPLIT:] = np.nan

    def chosen(results: Sequence[SweepResult], *args: Any) -> Any:
        found = select(results, *args)
        if len(results) == 9 and saved:
            held[0].candles.close[SPLIT:] = saved.pop()
        return found

    saved: list[Any] = []
    monkeypatch.setattr(data, "prepare", prepared)
    monkeypatch.setattr(Candles, "part", recorded)
    monkeypatch.setattr(search, "select", chosen)
    kernel = engines.engine("kernel")
    monkeypatch.setattr(engines, "engine", lambda _: Spy(kernel, poison))
    assert numbers(run()) == numbers(clean)


def test_run_other_candles_out_of_sample_choose_no_other_winner(stored: None):
    first = run()
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {hours()} SET open = 1000 / open, high = 1000 / low, low = 1000 / high, "
            "close = 1000 / close WHERE time >= %s",
            [to_datetime(START_MS + SPLIT * HOUR_MS)],
        )
    second = run()
    one, other = (numbers(job)[0] for job in (first, second))
    assert one["top"] == other["top"]
    assert one["best"]["in_sample"] == other["best"]["in_sample"]
    assert one["best"]["out_of_sample"] != other["best"]["out_of_sample"]
    assert read_csv(first, "trials") == read_csv(second, "trials")


@pytest.mark.parametrize(
    ("count", "ratio", "split"), [(600, 0.3, 420), (333, 0.3, 233), (300, 1 / 3, 200)]
)
def test_split_bar_is_the_first_out_of_sample(count: int, ratio: float, split: int):
    assert tune.split_bar(count, ratio) == split


@pytest.mark.parametrize(
    ("count", "ratio", "says"),
    [(299, 0.34, "197 in sample and 102"), (400, 0.2, "320 in sample and 80 out of sample")],
)
def test_split_bar_too_few_names_the_numbers(count: int, ratio: float, says: str):
    with pytest.raises(JobError, match=says):
        tune.split_bar(count, ratio)


# --- what cannot be done ---


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"strategy_id": "astrology"}, "bad payload: strategy_id: no strategy 'astrology'"),
        ({"param_space": {"fats": [1]}}, "bad payload: param_space: sma_cross has no parameter"),
        ({"param_space": {"fast": []}}, "bad payload: param_space: fast must have 1 to"),
        (
            {"param_space": {"fast": [50], "slow": [20]}},
            "param_space: no combination of these values keeps the constraints of sma_cross",
        ),
        ({"gates": {"min_trades": 500}}, "none of 9 trials passed the gates (max_drawdown: "),
        ({"bars": 250}, "250 candles are too few: oos_ratio 0.3 leaves 175 in sample and 75"),
        ({"bars": 0}, "bad payload: data_config.start_ts: must be before end_ts"),
        (
            {
                "data_config": tune_payload()["data_config"]
                | {"start_ts": "2022-01-01", "end_ts": "2022-02-01"}
            },
            "no candles: index BTC/USDT 1h [2022-01-01T00:00Z, 2022-02-01T00:00Z) is empty",
        ),
    ],
)
def test_run_that_cannot_be_done_fails_with_its_reason(
    stored: None, changes: dict[str, Any], says: str, artifacts_dir: Path
):
    job = run(**changes)
    assert (job.status, job.attempt) == (Status.FAILED, 1)
    assert job.error.startswith(says), job.error
    assert not Artifact.objects.exists()
    assert [path for path in artifacts_dir.rglob("*") if path.is_file()] == []


def test_run_too_few_candles_says_how_many_are_missing_and_what_brings_them(stored: None):
    with connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM {hours()} WHERE time >= %s", [to_datetime(START_MS + 24 * HOUR_MS)]
        )
    missing = (
        "and 200 and 100 are needed; 576 of the range's 600 are missing: `python manage.py "
        "backfill BTC/USDT --from 2023-11-15T00:00 --to 2023-12-10T00:00` fetches what exchanges "
        "have of them"
    )
    assert run().error.endswith(missing)
    fold, _ = job_orders.enqueue(
        Order(type="tune", payload=tune_payload() | {"fold": {"number": 1, "top_count": 2}})
    )
    work.work(HANDLERS, seconds=60)
    fold.refresh_from_db()
    assert fold.error.startswith(
        "24 candles are too few to search: 200 are needed; 576 of the range's 600 are missing: "
    )


def test_run_short_range_without_holes_misses_nothing(stored: None):
    assert run(bars=250).error.endswith("200 and 100 are needed")


def test_run_no_trial_passes_says_which_gate_stopped_how_many(stored: None):
    job = run(gates={"max_drawdown": 0.9, "min_trades": 500})
    assert job.error == "none of 9 trials passed the gates (trades: 9)"


def test_run_canceled_stops_within_a_second(stored: None, monkeypatch: pytest.MonkeyPatch):
    kernel = engines.engine("kernel")
    began = []

    class Endless(Spy):
        def run_sweep(self, *args: Any, **options: Any) -> list[SweepResult]:
            began.append(time.monotonic())
            while not options["should_stop"]():
                time.sleep(0.01)
            raise EngineStoppedError(0)

    monkeypatch.setattr(engines, "engine", lambda _: Endless(kernel, lambda _: None))
    job, _ = job_orders.enqueue(Order(type="tune", payload=tune_payload()))

    def do() -> None:
        try:
            work.work(HANDLERS, seconds=60)
        finally:
            connection.close()

    doing = Thread(target=do)
    doing.start()
    while not began:
        time.sleep(0.01)
    canceled = time.monotonic()
    jobs.cancel(job.pk)
    doing.join()
    assert time.monotonic() - canceled < 1
    job.refresh_from_db()
    assert (job.status, Artifact.objects.count()) == (Status.CANCELED, 0)


def test_find_told_to_stop_looks_for_no_further_combination():
    space = {
        "fast": {"min": 1_000, "max": 2_000, "step": 1},
        "slow": {"min": 2, "max": 1_000, "step": 1},
    }
    order, one = TuneOrder.parse(tune_payload(param_space=space)), nobody()
    one.stop.set()
    with pytest.raises(StoppedError):
        tune.find(order, trending(BARS), engine=engines.engine("kernel"), running=one)


def test_run_told_to_stop_tests_no_further_leader(stored: None, left_at_first_run: list[bool]):
    job = run()
    assert (job.status, job.attempt, len(left_at_first_run)) == (Status.PENDING, 0, 1)


def test_run_told_to_stop_writes_no_further_row(stored: None, left_at_first_row: LeftAtFirstRow):
    written = left_at_first_row(tune_files)
    job = run()
    assert (job.status, job.attempt, len(written)) == (Status.PENDING, 0, 1)


def test_run_of_a_fold_has_no_out_of_sample_part(stored: None):
    payload = tune_payload() | {"fold": {"number": 1, "top_count": 2}}
    job, _ = job_orders.enqueue(Order(type="tune", payload=payload))
    work.work(HANDLERS, seconds=60)
    job.refresh_from_db()
    result = numbers(job)[0]
    assert (result["best"]["out_of_sample"], result["overfit_gap"]) == (None, None)
    assert (len(result["top"]), result["bars"]["in_sample"]) == (2, BARS)
    assert not LeaderboardEntry.objects.exists()
