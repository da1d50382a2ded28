"""Beat and the index's worker as one, without Django's apps: ``python -m config.stack.price FILE``.

Like `celery -A config beat` and `celery -A config worker -Q price`, which also work, as in
production, and load every task and model first. Neither is of use without the other, and both live
in Redis alone: one process less is 45 MB less, and no models are 35 MB less.
"""

from __future__ import annotations

import os
import signal
import sys
from threading import Thread

from celery.beat import Service
from celery.signals import setup_logging

from config import logs
from config.celery import app
from config.stack.worker import worker

# Beat sees within this time that it is to stop.
MAX_SLEEP_SECONDS = 1
# For it to write its file on the way out; a Redis that hangs must not hold the process.
STOP_SECONDS = 3


def main() -> None:
    setup_logging.connect(logs.configure)
    load()
    price = worker("price", queues=["price"], threads=1)
    beat = Service(app, schedule_filename=sys.argv[1], max_interval=MAX_SLEEP_SECONDS)
    beating = Thread(target=send, args=[beat], name="beat", daemon=True)
    beating.start()
    price.start()
    beat.stop()
    beating.join(STOP_SECONDS)
    raise SystemExit(price.exitcode)


def load() -> None:
    """Import the tasks of the queue, and no others: those have models, and need all of Django."""
    # Else a worker's start imports everything.
    app.loader.worker_initialized = True
    app.loader.import_task_module("prices.tasks")


def send(beat: Service) -> None:
    """Send what is due until told to stop; a failure ends the process, to be started again."""
    try:
        beat.start()
    except Exception:
        os.kill(os.getpid(), signal.SIGTERM)
        raise


if __name__ == "__main__":
    main()
