"""A long-lived role without Django's apps: ``python -m config.stack.role collect|aggregate``.

Like `manage.py collect` and `manage.py aggregate`, which also work and load every model and view
first. These two live in Redis alone: this takes half the memory.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import threading

from config import logs

ROLES = ("collect", "aggregate")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m config.stack.role", description=__doc__)
    parser.add_argument("role", choices=ROLES)
    role = parser.parse_args().role
    logs.configure()
    if role == "collect":
        collect()
    else:
        aggregate()


def collect() -> None:
    """Collect from all exchanges until SIGTERM."""
    import uvloop

    from ingestion.management.commands import collect
    from ingestion.registry import ADAPTERS

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(collect.collect(list(ADAPTERS)))


def aggregate() -> None:
    """Fold the trade logs until SIGTERM."""
    from prices.aggregator import Aggregator
    from prices.management.commands import aggregate

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    aggregate.run(Aggregator(f"{socket.gethostname()}-{os.getpid()}"), stop)


if __name__ == "__main__":
    main()
