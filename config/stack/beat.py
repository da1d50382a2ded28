"""Celery's beat without Django: ``python -m config.stack.beat SCHEDULE_FILE``.

Like `celery -A config beat`, which also works and loads every task, model and view first. Beat only
sends names on time: this takes half the memory.
"""

from __future__ import annotations

import sys

from celery.apps.beat import Beat
from celery.signals import setup_logging

from config import logs
from config.celery import app


def main() -> None:
    setup_logging.connect(logs.configure)
    # What beat's start asks of the loader: to import the tasks, and with them Django.
    app.loader.worker_initialized = True
    Beat(app=app, schedule=sys.argv[1], quiet=True).run()


if __name__ == "__main__":
    main()
