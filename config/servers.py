"""The embedded servers for the length of a ``with`` block: what tests and benchmarks stand on.

`make run` and `make demo` leave them to supervisord instead, which starts them again.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import redis

from config import embedded

START_SECONDS = 30


class StartError(RuntimeError):
    """A server did not start; the message ends with what it printed."""


@contextmanager
def postgres(home: Path) -> Iterator[None]:
    """A PostgreSQL of ``home`` that does not outlive a crash of the machine: it is for tests."""
    embedded.make_database_folder(home)
    folder = embedded.make_socket_folder(home)
    with _running(
        embedded.postgres_command(home, durable=False),
        log=home / "postgres.log",
        ready=lambda: psycopg.connect(host=str(folder), user="postgres").close(),
        # A fast shutdown, which does not wait for connections.
        stop_signal=signal.SIGINT,
    ):
        with psycopg.connect(host=str(folder), user="postgres", autocommit=True) as connection:
            found = connection.execute("SELECT FROM pg_database WHERE datname = 'oracle'")
            if not found.rowcount:
                connection.execute("CREATE DATABASE oracle")
        yield


@contextmanager
def redis_server(home: Path) -> Iterator[None]:
    """A Redis of ``home``."""
    folder = embedded.make_socket_folder(home)
    with _running(
        embedded.redis_command(home),
        log=home / "redis.log",
        ready=lambda: redis.Redis(unix_socket_path=str(folder / "redis.sock")).ping(),
        stop_signal=signal.SIGTERM,
    ):
        yield


@contextmanager
def _running(
    command: list[str], *, log: Path, ready: Callable[[], object], stop_signal: signal.Signals
) -> Iterator[None]:
    with log.open("wb") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _succeeds(ready):
            if server.poll() is not None or time.monotonic() > deadline:
                raise StartError(f"{command[0]} did not start:\n{log.read_text()[-2_000:]}")
            time.sleep(0.02)
        yield
    finally:
        server.send_signal(stop_signal)
        server.wait(timeout=START_SECONDS)


def _succeeds(ready: Callable[[], object]) -> bool:
    try:
        ready()
    except (psycopg.OperationalError, redis.RedisError):
        return False
    return True
