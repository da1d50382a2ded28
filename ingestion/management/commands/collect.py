"""``manage.py collect``: stream the trades of the exchanges into the trade log, until SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import structlog
import uvloop
from django.core.management.base import BaseCommand
from redis.exceptions import RedisError

from ingestion.collector import Symbols, stand_by
from ingestion.registry import ADAPTERS
from market.management import away
from oracle import trade_log
from oracle.catalog import Catalog, CatalogReader

CATALOG_SECONDS = 1.0
# Calls to Redis and over HTTP block; while one of them is away, the others must have threads.
THREADS = 64
EXIT_SECONDS = 4.5  # after the signal, whatever hangs

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    """Run a collector, or a standby, for each exchange."""

    help = "Stream trades into the trade log; one collector per exchange acts, others stand by."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--exchange",
            action="append",
            choices=sorted(ADAPTERS),
            help="only this one; may be repeated",
        )
        parser.add_argument(
            "--holes", action="store_true", help="show the holes of the last week, and end"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        exchanges: Sequence[str] = options["exchange"] or list(ADAPTERS)
        if options["holes"]:
            with away.said():
                lines = hole_lines(exchanges)
            for line in lines:
                self.stdout.write(line)
            return
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(collect(exchanges))


def hole_lines(exchanges: Iterable[str]) -> list[str]:
    """One line for each hole, the oldest of an exchange first."""
    return [
        f"{name} {hole.exchange_symbol} {_moment(hole.from_ms)} to {_moment(hole.to_ms)}"
        f" after {hole.after_id or '?'} before {hole.before_id or '?'}"
        f" missing {'?' if hole.missing is None else hole.missing}:"
        f" {'open, ' if hole.is_open else ''}{hole.reason}"
        for name in exchanges
        for hole in trade_log.holes(name)
    ]


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat(timespec="milliseconds")


async def collect(exchanges: Sequence[str]) -> None:
    """Collect from these exchanges until SIGTERM or SIGINT."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="collect"))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _begin_to_end, stop)
    follower = Follower()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(follower.run(stop))
        for name in exchanges:
            tasks.create_task(stand_by(ADAPTERS[name], follower.symbols(name), stop=stop))
    log.info("collect.stopped")


def _begin_to_end(stop: asyncio.Event) -> None:
    # A Redis that hangs holds threads, which nothing can end: the process must not wait for them.
    end = threading.Timer(EXIT_SECONDS, os._exit, [1])
    end.daemon = True
    end.start()
    stop.set()


class Follower:
    """The catalogue as it was a moment ago; the last one known while Redis is away."""

    def __init__(self) -> None:
        self._reader = CatalogReader()
        self._catalog = Catalog()

    def symbols(self, exchange: str) -> Symbols:
        """What is to be collected from an exchange: a function, as it changes."""
        return lambda: self._catalog.exchange_symbols.get(exchange, ())

    async def run(self, stop: asyncio.Event) -> None:
        """Follow it until ``stop``."""
        while not stop.is_set():
            with suppress(RedisError):
                self._catalog = await asyncio.to_thread(self._reader.current)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), CATALOG_SECONDS)
