"""What does the jobs of each type. Handlers get the time from here, as tasks give it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from backtests import data_jobs, tune, walkforward
from backtests.models import JobType
from backtests.work import Done, Handler, Running, Wait


def _tune(running: Running) -> Done | Wait:
    return tune.run(running, now_ms=_now_ms())


def _walk(running: Running) -> Done | Wait:
    return walkforward.run(running, now_ms=_now_ms())


def _sync(running: Running) -> Done | Wait:
    return data_jobs.sync(running, now_ms=_now_ms())


def _fetch(running: Running) -> Done | Wait:
    return data_jobs.fetch(running, now_ms=_now_ms())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


HANDLERS: Mapping[str, Handler] = {
    JobType.DATA_SYNC.value: _sync,
    JobType.DATA_FETCH.value: _fetch,
    JobType.TUNE.value: _tune,
    JobType.WFO.value: _walk,
}
