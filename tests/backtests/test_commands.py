"""`manage.py tune` and `walkforward` as a person types them."""

from __future__ import annotations

import logging
import os
import signal
import sys
from io import StringIO
from threading import Event, Thread
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from backtests import (
    artifacts,
    engines,
    following,
    job_orders,
    jobs,
    run_options,
    run_report,
    work,
)
from backtests.engine.protocol import StoppedError
from backtests.folds import DAY_MS
from backtests.following import Seen, follow, seen
from backtests.handlers import HANDLERS
from backtests.job_orders import Order
from backtests.models import Job, Status
from ingestion import exchange_candles
from market import timeframes
from market.ranges import TimeRange
from oracle.values import RESOLUTIONS
from tests.backtests.stored import START_S, SYMBOL, store, trending, tune_payload

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("artifacts_dir"),
]

TUNE = (
    *("--strategy", "sma_cross", "--symbol", SYMBOL, "--timeframe", "1h"),
    *("--from", str(START_S), "--to", str(START_S + 600 * 3_600)),
    *("--param", "fast=3:9:3", "--param", "slow=15,20,30"),
    *("--gate", "max_drawdown=0.9", "--gate", "min_trades=1"),
)


def tune(*more: str) -> None:
    call_command("tune", *TUNE, *more)


def walk(*more: str) -> None:
    call_command("walkforward", *TUNE, "--train-days", "10", "--test-days", "5", *more)


def test_tune_prints_the_best_and_where_its_files_lie(capsys: pytest.CaptureFixture[str]):
    store(trending())
    tune("--taker-ratio", "0.002", "--seed", "3")
    job, printed = Job.objects.get(), capsys.readouterr().out
    best = (job.result or {})["best"]
    assert "sma_cross by sharpe, in sample: 9 of 9 trials passed the gates" in printed
    assert f"{best['in_sample']['score']:.3f}" in printed
    assert f"{best['out_of_sample']['score']:.3f}" in printed
    assert str(artifacts.root() / "tunes" / str(job.pk)) in printed
    assert "600 of 600 candles from 2023-11" in printed
    assert (job.payload["engine_config"]["taker_ratio"], job.payload["seed"]) == (0.002, 3)
    assert job.payload["param_space"] == {
        "fast": {"min": 3, "max": 9, "step": 3},
        "slow": [15, 20, 30],
    }


def test_walkforward_prints_folds_candidates_and_where(capsys: pytest.CaptureFixture[str]):
    store(trending())
    walk()
    job, printed = Job.objects.get(type="wfo"), capsys.readouterr().out
    assert job.status == Status.SUCCEEDED
    assert "candidates were among the best of enough folds" in printed
    assert "2023-11-25" in printed
    assert "who followed it: return" in printed
    assert str(artifacts.root() / "wfo" / str(job.pk)) in printed


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--strategy", "astrology"), "--strategy: no strategy 'astrology'; there are sma_cross"),
        (("--param", "fats=3"), "--param: sma_cross has no parameter 'fats'"),
        (("--param", "fast=3"), "--param: fast stands there twice"),
        (("--gate", "min_trades=3"), "--gate: min_trades stands there twice"),
        (("--param", "fast"), "--param: write it as NAME=VALUE, got 'fast'"),
        (("--param", "fast=1:9"), "--param: a range is MIN:MAX:STEP, got '1:9'"),
        (("--param", "fast=1,x"), "--param: 'x' is no number, in '1,x'"),
        (("--gate", "luck=1"), "--gate: luck: unknown"),
        (("--from", "yesterday"), "--from: 'yesterday' is no point in time: write an ISO date"),
        (("--to", "2020-01-01"), "--from: must be before --to, got"),
        (("--exchange", "nasdaq"), "--exchange: unknown exchange 'nasdaq'"),
        (("--oos-ratio", "2"), "--oos-ratio: must be a number above 0 and below 1"),
        (("--sides", "up"), "--sides must be long, short or both"),
        (("--taker-ratio", "2"), "--taker-ratio must be at most 0.1, got 2.0"),
        (("--stop-loss-ratio", "2"), "--stop-loss-ratio must be below 1, got 2.0"),
        (("--gate", "min_trade_count=3"), "--gate: one of them stands there twice"),
        (("--objective", "luck"), "--objective: must be one of sharpe, "),
        (("--engine", "abacus"), "--engine: must be one of kernel, "),
        (("--max-trials", "0"), "--max-trials: must be a whole number from 1 to"),
        (("--seed", "-1"), "--seed: must be a whole number from 0 to"),
        (("--workspace", "a b"), "--workspace: must be 1 to 64 letters"),
        (("--timeframe", "1y"), "--timeframe: "),
        (("--symbol", "BTC"), "--symbol: "),
        (("--from", "1990-01-01"), "--from: must be unix seconds such as"),
        (("--timeframe", "1m", "--from", "2010-01-01"), "--from and --to: the range has 7"),
    ],
)
def test_tune_wrong_input_teaches_and_enqueues_nothing(more: tuple[str, ...], says: str):
    with pytest.raises(CommandError) as caught:
        tune(*more)
    assert (str(caught.value).startswith(says), Job.objects.count()) == (True, 0), caught.value


@pytest.mark.parametrize("timeframe", ["1m", "1hour", "1d"])
def test_walkforward_of_the_last_days_has_all_folds_that_fit(timeframe: str):
    length = RESOLUTIONS[timeframes.normalise(timeframe)]
    clock_ms = (START_S + 12_345) * 1_000
    now_ms = run_options.settled_now_ms(timeframe, clock_ms=clock_ms)
    typed = {"start": "-5d", "end": "now", "param": [], "gate": [], "timeframe": timeframe}
    others = ("workspace", "strategy", "objective", "exchange", "symbol", "engine", "seed")
    options = dict.fromkeys((*others, "max_trials", *run_options._ENGINE)) | typed
    asked = run_options.payload(options, now_ms=now_ms)["data_config"]
    wanted = TimeRange(start_ms=asked["start_ts"] * 1_000, end_ms=asked["end_ts"] * 1_000)
    assert wanted.length_ms == 5 * DAY_MS
    assert exchange_candles.settled(wanted, timeframes.normalise(timeframe), now_ms=clock_ms) == (
        wanted
    )
    assert clock_ms - wanted.end_ms < length + exchange_candles.SETTLE_MS


def test_walkforward_too_few_folds_says_what_would_do():
    with pytest.raises(
        CommandError, match="holds 1 fold, and --min-folds is 3: 35 days would do"
    ) as it:
        walk("--train-days", "20")
    assert str(it.value).startswith("[2023-11-15T00:00Z, ")
    assert str(it.value).endswith("fewer --train-days, --test-days or --step-days")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--top", "0"), "--top: must be a whole number from 1 to 1000, got 0"),
        (("--min-folds", "1"), "--min-folds: must be a whole number from 2 to"),
        (("--train-days", "0"), "--train-days: must be a whole number from 1 to"),
        (("--step-days", "0"), "--step-days: must be a whole number from 1 to"),
        (("--train-days", "1"), "--train-days: 1 days have 24 candles of 1h, and 200 are needed"),
        (
            ("--folds-from", "2020-01-01"),
            "--folds-from and --folds-to must lie in those of --from and --to",
        ),
        (("--folds-to", "2020-01-01"), "--folds-from: must be before --folds-to, got"),
        (("--folds-to", "1990-01-01"), "--folds-to: must be unix seconds"),
    ],
)
def test_walkforward_wrong_input_names_the_option(more: tuple[str, ...], says: str):
    with pytest.raises(CommandError) as caught:
        walk(*more)
    assert (str(caught.value).startswith(says), Job.objects.count()) == (True, 0), caught.value


def test_tune_without_a_parameter_says_which_there_are():
    with pytest.raises(CommandError) as caught:
        call_command("tune", *TUNE[: TUNE.index("--param")])
    assert str(caught.value) == "--param: is empty: name at least one of fast, slow"


@pytest.mark.parametrize("command", ["tune", "walkforward"])
def test_help_tells_what_there_is_and_the_defaults(
    command: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        call_command(command, "--help")
    said = " ".join(capsys.readouterr().out.split())
    objectives = "sharpe, sharpe_dd_penalty, return, return_dd_penalty, calmar; default: sharpe"
    for text in (
        objectives,
        "kernel, backtesting.py; default: kernel",
        "long, short or both; default: long",
        "commission at market, 0.001 is 0.1 %; default: 0.001",
        "money at the start; default: 10000",
        "distance from the entry, 0.05 is 5 %; default: none",
    ):
        assert text in said


@pytest.mark.parametrize("command", [tune, walk])
def test_database_away_is_one_line(command: Any, monkeypatch: pytest.MonkeyPatch):
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("connection refused\n\tIs the server running?")

    monkeypatch.setattr(job_orders, "insert", away)
    with pytest.raises(CommandError) as caught:
        command()
    assert str(caught.value) == "The database: connection refused"


def test_database_that_goes_away_meanwhile_is_one_line(monkeypatch: pytest.MonkeyPatch):
    def away(*_: Any, **__: Any) -> int:
        raise OperationalError("the connection is lost\nLINE 1")

    monkeypatch.setattr(work, "work", away)
    with pytest.raises(CommandError) as caught:
        tune()
    assert str(caught.value) == "The database: the connection is lost"


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_log_lines_stand_above_the_bar(monkeypatch: pytest.MonkeyPatch):
    terminal = Terminal()
    handler = logging.StreamHandler(terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    with run_report._bar() as show:
        show(Seen(what="trials", done=1, total=2))
        before = len(terminal.getvalue())
        logging.getLogger("backtests.work").error("the first words")
        written = terminal.getvalue()[before:]
    assert handler.stream is terminal
    # The bar's line is cleared before, and drawn again after.
    cleared, _, after = written.partition("the first words")
    assert cleared.endswith("\r\x1b[2K")
    assert after.startswith("\n") and "━" in after


def test_tune_that_fails_says_why():
    with pytest.raises(CommandError, match=r"failed: no candles: index BTC/USDT 1h"):
        tune()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_tune_ctrl_c_cancels_it(number: int, monkeypatch: pytest.MonkeyPatch):
    store(trending())
    kernel = engines.engine("kernel")

    class Endless:
        id, version = "kernel", "1"
        run_single = kernel.run_single

        def run_sweep(self, *_: Any, should_stop: Any, **__: Any) -> Any:
            os.kill(os.getpid(), number)
            while not should_stop():
                Event().wait(0.01)
            raise StoppedError(0)

    monkeypatch.setattr(engines, "engine", lambda _: Endless())
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(CommandError, match="Canceled"):
        tune()
    assert Job.objects.get().status == Status.CANCELED
    assert signal.getsignal(signal.SIGINT) is before


def test_tune_queue_leaves_it_to_a_worker(capsys: pytest.CaptureFixture[str]):
    store(trending())
    over = Event()

    def worker() -> None:
        try:
            while not over.is_set():
                over.wait(0.05)
                work.work(HANDLERS, seconds=60)
        finally:
            connection.close()

    working = Thread(target=worker)
    working.start()
    try:
        tune("--queue")
    finally:
        over.set()
        working.join()
    assert "out of sample" in capsys.readouterr().out


def test_follow_does_what_the_run_orders_and_nothing_else():
    store(trending())
    other, _ = job_orders.enqueue(Order(type="tune", payload=tune_payload(), priority=1))
    job, _ = job_orders.enqueue(
        Order(
            type="wfo",
            payload=tune_payload(wfo_config={"train_days": 10, "test_days": 5}),
        )
    )
    shown: list[Seen] = []
    done = follow(job.pk, here=True, stop=Event(), show=shown.append)
    other.refresh_from_db()
    assert (done.status, other.status) == (Status.SUCCEEDED, Status.PENDING)
    assert (shown[-1].what, shown[-1].done, shown[-1].total) == ("folds 3 of 3", 3, 3)


def test_follow_says_so_when_the_work_breaks_off(monkeypatch: pytest.MonkeyPatch):
    def away(*_: Any, **__: Any) -> int:
        raise OperationalError("the database is away")

    monkeypatch.setattr(work, "work", away)
    job, _ = job_orders.enqueue(Order(type="tune", payload=tune_payload()))
    with pytest.raises(OperationalError, match="is away"):
        follow(job.pk, here=True, stop=Event())


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        ({}, Seen(what="pending", done=0, total=0)),
        (
            {"minutes_done": 5, "minutes_total": 60},
            Seen(what="candles", done=5, total=60),
        ),
        (
            {"trials_done": 5, "trials_total": 9, "best": {"score": 1.5}, "minutes_total": 60},
            Seen(what="trials", done=5, total=9, best=1.5),
        ),
    ],
)
def test_seen_is_how_far_it_is(progress: dict[str, Any], expected: Seen):
    assert seen(Job(type="tune", progress=progress)) == expected


def test_seen_of_a_walk_forward_counts_its_folds_by_how_far_they_are():
    parent = Job.objects.create(type="wfo", status="running")
    Job.objects.create(type="tune", parent=parent, status="succeeded")
    half = {"trials_done": 5, "trials_total": 10}
    Job.objects.create(type="tune", parent=parent, status="running", progress=half)
    assert seen(parent) == Seen(what="folds 1 of 2", done=1.5, total=2)


def test_seen_of_a_canceled_walk_forward_is_as_far_as_it_came():
    parent = Job.objects.create(type="wfo", status="running")
    for status in ("succeeded", "failed"):
        Job.objects.create(type="tune", parent=parent, status=status)
    half = {"trials_done": 5, "trials_total": 10}
    Job.objects.create(type="tune", parent=parent, status="running", progress=half)
    for _ in range(6):
        Job.objects.create(type="tune", parent=parent)
    jobs.cancel(parent.pk)
    parent.refresh_from_db()
    assert parent.status == Status.CANCELED
    assert seen(parent) == Seen(what="folds 2 of 9", done=2.5, total=9)


def test_follow_looks_often_enough():
    assert following.LOOK_SECONDS < 1
