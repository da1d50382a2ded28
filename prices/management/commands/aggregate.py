"""`manage.py aggregate`: fold the trade logs into sums until it is told to stop."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from typing import Any

import structlog
from django.core.management.base import BaseCommand, CommandParser
from prometheus_client import Counter
from redis.exceptions import RedisError

from prices.aggregator import Aggregator

PAUSE_SECONDS = 0.5

FAILED = Counter("oracle_trade_rounds_failed", "Rounds of an aggregator that raised.")

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    """Several may run: they share the work, and one takes over what another left."""

    help = "Fold the trade logs of all exchanges into the totals of seconds and minutes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--consumer",
            default=f"{socket.gethostname()}-{os.getpid()}",
            help="Name in the consumer group; the default is this host and process.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        run(Aggregator(options["consumer"]), stop)


def run(aggregator: Aggregator, stop: threading.Event) -> None:
    """Do round after round until ``stop`` is set."""
    log.info("aggregate.started", consumer=aggregator.consumer)
    while not stop.is_set():
        try:
            aggregator.step(now_ms=time.time_ns() // 1_000_000)
        except RedisError as error:
            FAILED.inc()
            log.warning("aggregate.redis_away", error=str(error))
            stop.wait(PAUSE_SECONDS)
        except Exception:
            FAILED.inc()
            log.exception("aggregate.failed")
            stop.wait(PAUSE_SECONDS)
    aggregator.close()
    log.info("aggregate.stopped", consumer=aggregator.consumer)
