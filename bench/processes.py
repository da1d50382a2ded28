"""The project's own processes, each for the length of a ``with`` block."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[1]
STOP_SECONDS = 10
START_SECONDS = 30


@contextmanager
def running(
    *words: str, reads: Literal["stdout", "stderr"] | None = None, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """``python WORDS``, gone at the end; ``reads``: which of its outputs is ours to read."""
    process = subprocess.Popen(
        (sys.executable, *words),
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if reads == "stdout" else subprocess.DEVNULL,
        stderr=subprocess.PIPE if reads == "stderr" else None,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for output in (process.stdout, process.stderr):
            if output is not None:
                output.close()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], object], *, seconds: float, what: str) -> None:
    """Wait for ``condition``. Raises TimeoutError that says what did not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


def listens(port: int) -> bool:
    """Does somebody listen on this port?"""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
