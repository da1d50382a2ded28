"""A worker as a stack starts it, with a few handlers more, and no long waits between attempts.

``python -m tests.backtests.chaos_worker NAME``
"""

from __future__ import annotations

import sys
import time

import django

django.setup()  # what follows has models

from backtests import handlers, jobs, tasks  # noqa: E402
from backtests.work import Done, JobError, Running  # noqa: E402
from config.stack import worker  # noqa: E402

STEPS, STEP_SECONDS = 5, 0.05


def slow(running: Running) -> Done:
    """Take a while, in steps."""
    for step in range(STEPS):
        running.check()
        running.report(step=step)
        time.sleep(STEP_SECONDS)
    return Done(result={"attempt": running.claim.attempt})


def flaky(running: Running) -> Done:
    """Go well at the second attempt."""
    if running.claim.attempt == 1:
        raise JobError("not at once", retryable=True)
    return slow(running)


def broken(running: Running) -> Done:
    """Never go well."""
    raise JobError("never")


def main() -> None:
    jobs.FIRST_RETRY_SECONDS = 0
    everything = {**handlers.HANDLERS, "slow": slow, "flaky": flaky, "broken": broken}
    vars(tasks)["HANDLERS"] = everything
    worker.worker(sys.argv[1], queues=["jobs"], threads=1).start()


if __name__ == "__main__":
    main()
