import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from celery.schedules import crontab

from config.celery import app, clock
from config.postgres.base import WEB_STATEMENT_TIMEOUT_MS
from ingestion.registry import ADAPTERS

START = datetime(2026, 1, 1, tzinfo=UTC)


def due(schedule, *, last, now):
    schedule.nowfun = lambda: START + timedelta(seconds=now)
    return schedule.is_due(START + timedelta(seconds=last))


@pytest.mark.parametrize(
    ("every", "at", "last", "now", "is_due", "following"),
    [
        (1, 0, 0.001, 0.9, False, 0.1),
        (1, 0, 0.9, 1.001, True, 0.999),
        (1, 0, 0.001, 5.25, True, 0.75),  # seconds that were missed are not made up for
        (1, 0.5, 0.6, 1.4, False, 0.1),
        (1, 0.5, 0.6, 1.5, True, 1.0),
        (60, 5, 5.2, 64.9, False, 0.1),
        (60, 5, 5.2, 65.0, True, 60.0),
    ],
)
def test_a_clock_is_due_when_a_step_of_the_wall_clock_was_passed(
    every, at, last, now, is_due, following
):
    state = due(clock(every, at=at), last=last, now=now)
    assert state.is_due is is_due
    assert state.next == pytest.approx(following, abs=1e-5)


def test_a_clock_survives_beats_schedule_file():
    assert pickle.loads(pickle.dumps(clock(60, at=5))) == clock(60, at=5)
    assert clock(60, at=5) != clock(60)


def test_every_exchange_is_fetched():
    sent = [
        entry["args"]
        for entry in app.conf.beat_schedule.values()
        if entry["task"] == "ingestion.fetch_tickers"
    ]
    assert sorted(sent) == [(name,) for name in sorted(ADAPTERS)]


def test_every_tick_expires_before_the_next():
    for entry in app.conf.beat_schedule.values():
        assert entry["options"]["expires"] <= every(entry["schedule"])


def every(schedule):
    """Seconds between two ticks where they are closest: one that waits for longer is dropped."""
    if isinstance(schedule, clock):
        return schedule.every
    times = sorted(
        hour * 3_600 + minute * 60 for hour in schedule.hour for minute in schedule.minute
    )
    return min(after - before for before, after in pairwise([*times, times[0] + 86_400]))


@pytest.mark.parametrize(
    ("schedule", "seconds"),
    [
        (clock(10, at=3), 10),
        (crontab(minute="*"), 60),
        (crontab(minute="7"), 3_600),
        (crontab(hour="3", minute="17"), 86_400),
        (crontab(hour="0,23", minute="50"), 3_600),  # not half a day: round midnight
        (crontab(minute="0,5"), 300),  # not half an hour
    ],
)
def test_the_closest_ticks_of_a_schedule(schedule, seconds):
    assert every(schedule) == seconds


def test_every_scheduled_task_exists_and_has_a_queue_a_worker_serves():
    app.loader.import_default_modules()
    for entry in app.conf.beat_schedule.values():
        assert entry["task"] in app.tasks
        route = app.amqp.router.route({}, entry["task"])
        assert route["queue"].name in {"fetch", "price", "market", "history", "jobs"}


@pytest.mark.django_db(transaction=True)
def test_every_connection_of_a_worker_ends_its_statements(settings):
    code = (
        "import threading, django; django.setup(); from config.celery import app\n"
        "app.Worker(pool='threads', concurrency=1, queues=['market'])\n"
        "from django.db import connection\n"
        "def show():\n"
        "    with connection.cursor() as cursor:\n"
        "        print(cursor.execute('SHOW statement_timeout').fetchone()[0])\n"
        "show(); one = threading.Thread(target=show); one.start(); one.join()\n"
    )
    environment = os.environ | {"TASK_STATEMENT_TIMEOUT_MS": "45000"}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=root, capture_output=True, text=True
    )

    assert (done.stdout.split(), done.returncode) == (["45s", "45s"], 0), done.stderr


def test_tasks_have_longer_than_the_web(settings):
    assert settings.TASK_STATEMENT_TIMEOUT_MS > WEB_STATEMENT_TIMEOUT_MS
