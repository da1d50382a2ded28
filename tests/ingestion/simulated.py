"""The simulator as a process of its own, for tests that ask it over HTTP."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from ingestion import http
from ingestion.registry import ADAPTERS
from ingestion.simulator.markets import default_markets
from ingestion.simulator.venue import Market, Universe

SEED = 7
RATE_PER_MINUTE = 60


@contextmanager
def simulator(*options: str) -> Iterator[str]:
    """The URL of a simulator that is gone afterwards."""
    command = [sys.executable, "-m", "ingestion.simulator", "--port", "0", "--seed", str(SEED)]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, text=True, cwd=root
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.terminate()


def suffer(url: str, exchange: str, fault: str, **value: Any) -> None:
    """Set a fault."""
    body = {"exchange": exchange, "fault": fault, **value}
    requests.post(f"{url}/control/faults", json=body, timeout=5).raise_for_status()


def recover(url: str) -> None:
    """End all faults, and the connections that they may have ruined."""
    requests.delete(f"{url}/control/faults", timeout=5).raise_for_status()
    for name in ADAPTERS:
        for session in http._idle_sessions(name):
            session.close()
        http._idle_sessions(name).clear()


def universe(rate_per_minute: int) -> Universe:
    """The same markets in this process: what the simulator must answer."""
    return Universe(markets=default_markets(), seed=SEED, rate_per_minute=rate_per_minute)


def market(exchange: str, symbol: str, *, rate_per_minute: int) -> Market:
    found = universe(rate_per_minute).market(exchange=exchange, spelling=symbol)
    assert found is not None
    return found
