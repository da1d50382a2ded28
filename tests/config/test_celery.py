import pickle
from datetime import UTC, datetime, timedelta

import pytest

from config.celery import EXCHANGES, app, clock
from market.seeds import EXCHANGES as SEEDED

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
    assert set(EXCHANGES) == set(SEEDED)


def test_every_tick_expires_before_the_next():
    for entry in app.conf.beat_schedule.values():
        every = getattr(entry["schedule"], "every", 60)  # the crontab is of each minute
        assert entry["options"]["expires"] <= every


def test_every_scheduled_task_exists_and_has_a_queue_a_worker_serves():
    app.loader.import_default_modules()
    for entry in app.conf.beat_schedule.values():
        assert entry["task"] in app.tasks
        route = app.amqp.router.route({}, entry["task"])
        assert route["queue"].name in {"fetch", "price", "market"}
