"""A Celery worker without its command line: ``python -m config.stack.worker price price 1``.

Like `celery -A config worker`, which also works and loads a shell besides: 6 MB a process.
"""

from __future__ import annotations

import argparse
import socket

import django
from celery.signals import setup_logging

from config import logs
from config.celery import app


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m config.stack.worker", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("queues", help="separated by commas")
    parser.add_argument("threads", type=int)
    chosen = parser.parse_args()
    django.setup()
    setup_logging.connect(logs.configure)
    worker = app.Worker(
        hostname=f"{chosen.name}@{socket.gethostname()}",
        queues=chosen.queues.split(","),
        pool="threads",
        concurrency=chosen.threads,
        # What workers tell each other is of no use to us, and costs Redis hundreds of messages a
        # second.
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    raise SystemExit(worker.exitcode)


if __name__ == "__main__":
    main()
