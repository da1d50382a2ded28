"""A Celery worker without its command line: ``python -m config.stack.worker fetch fetch 12``.

Like `celery -A config worker`, which also works and loads a shell besides: 6 MB a process.
"""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Sequence

import django
from celery.apps.worker import Worker
from celery.signals import setup_logging

from config import logs
from config.celery import app


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m config.stack.worker", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("queues", help="separated by commas")
    parser.add_argument("threads", type=int)
    parser.add_argument("--nice", type=int, default=0, help="let others go first, by so much")
    chosen = parser.parse_args()
    os.nice(chosen.nice)
    django.setup()
    setup_logging.connect(logs.configure)
    serving = worker(chosen.name, queues=chosen.queues.split(","), threads=chosen.threads)
    serving.start()
    raise SystemExit(serving.exitcode)


def worker(name: str, *, queues: Sequence[str], threads: int) -> Worker:
    """A worker of these queues, to be started."""
    return app.Worker(
        hostname=f"{name}@{socket.gethostname()}",
        queues=queues,
        pool="threads",
        concurrency=threads,
        # What workers tell each other is of no use to us, and costs Redis hundreds of messages a
        # second.
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )


if __name__ == "__main__":
    main()
