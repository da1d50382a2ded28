"""The Celery application: queues, and what beat sends when.

fetch    one task per exchange and second, in threads: they wait for exchanges
price    the index tick: it must never wait behind anything else
market   flushes and upkeep: they wait for the database
history  backfills and exchange candles: they take minutes
jobs     the job queue of backtests: they take as long as they take
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

from celery import Celery
from celery.schedules import BaseSchedule, crontab, schedstate, schedule
from celery.signals import worker_init
from django.conf import settings
from django.db import connections

from config.postgres import TASK_TIMEOUT
from market.seeds import EXCHANGES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")


class clock(schedule):
    """Every ``every`` seconds of the wall clock, ``at`` seconds after: 60 and 5 are each :05.

    Celery's intervals count from when beat started and drift with each send, so that now and then
    a second is left out; these do not.
    """

    def __init__(self, every: int, at: float = 0, **options: Any) -> None:
        super().__init__(run_every=timedelta(seconds=every), **options)
        self.every, self.at = every, at

    def __reduce__(self) -> tuple[Any, ...]:
        return self.__class__, (self.every, self.at)

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Whether a whole step of the clock was passed since, and the seconds to the next."""
        now = self.now().timestamp()
        step = (now - self.at) // self.every
        following = (step + 1) * self.every + self.at - now
        passed = step > (last_run_at.timestamp() - self.at) // self.every
        return schedstate(is_due=passed, next=following)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, clock) and (self.every, self.at) == (other.every, other.at)

    def __hash__(self) -> int:
        return hash((self.every, self.at))


@worker_init.connect(dispatch_uid="config.celery.limit_statements")
def limit_statements(**_: object) -> None:
    """Let no statement of a worker take for ever: a lock of somebody's would hold its thread.

    A setting of the process and not of each task, so that threads that tasks start are of it too.
    """
    for config in connections.settings.values():
        config[TASK_TIMEOUT] = settings.TASK_STATEMENT_TIMEOUT_MS


def tick(
    task: str, when: BaseSchedule, *, expires: int, args: tuple[str, ...] = ()
) -> dict[str, Any]:
    """An entry of beat's schedule: ``task`` by name, dropped when it waited ``expires`` seconds."""
    return {"task": task, "schedule": when, "args": args, "options": {"expires": expires}}


# A tick is worth nothing once the next one is there: it has expired by then.
BEAT_SCHEDULE = {
    **{
        f"fetch {name}": tick("ingestion.fetch_tickers", clock(1), args=(name,), expires=1)
        for name in EXCHANGES
    },
    # The fetches of the second are sent at its start; most are back by its middle.
    "index": tick("prices.update_index", clock(1, at=0.5), expires=1),
    # The last trades of the window are counted within half a second.
    "rates": tick("prices.publish_rates", clock(10, at=0.5), expires=9),
    "save rates": tick("prices.save_rates", clock(10, at=2), expires=10),
    # Fetched in the first minute of each hour; asked for again until that went well.
    "currencies": tick("ingestion.fetch_fx", crontab(minute="*"), expires=50),
    "flush": tick("market.flush_candles", clock(60, at=5), expires=50),
    # Flushes begin five seconds after each minute.
    "gaps": tick("ingestion.fill_gaps", clock(300, at=20), expires=280),
    "backfills": tick("ingestion.resume_backfills", clock(60, at=40), expires=50),
    "rollups": tick("market.refresh_rollups", clock(60, at=35), expires=50),
    "policies": tick("market.run_policies", clock(900, at=250), expires=600),
    "prune history": tick("market.prune_history", crontab(hour="3", minute="17"), expires=3_600),
    "sync hourly": tick(
        "backtests.data_sync", crontab(minute="7"), args=("hourly",), expires=3_000
    ),
    "sync daily": tick(
        "backtests.data_sync", crontab(hour="0", minute="22"), args=("daily",), expires=3_600
    ),
    "nudge jobs": tick("backtests.nudge", clock(10, at=3), expires=10),
    "reap jobs": tick("backtests.reap", clock(60, at=50), expires=50),
    "prune artifacts": tick("backtests.prune", crontab(hour="3", minute="47"), expires=3_600),
    "catalog": tick("market.publish_catalog", clock(10), expires=10),
}

app = Celery("oracle")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.conf.update(
    task_default_queue="market",
    task_routes={
        "ingestion.fetch_*": {"queue": "fetch"},
        "ingestion.*": {"queue": "history"},
        "prices.save_rates": {"queue": "market"},  # it waits for the database
        "prices.*": {"queue": "price"},
        "market.run_policies": {"queue": "history"},  # compressing takes minutes
        "market.*": {"queue": "market"},
        "backtests.work": {"queue": "jobs"},
        "backtests.*": {"queue": "market"},  # they must not wait behind the jobs they look after
    },
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    worker_cancel_long_running_tasks_on_connection_loss=True,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # What a worker took and has not begun after this, Redis hands out again: behind a job of hours
    # another one may wait as long. Tasks bear to be run twice.
    broker_transport_options={"visibility_timeout": 3_600, "socket_timeout": 5},
    beat_schedule=BEAT_SCHEDULE,
)
