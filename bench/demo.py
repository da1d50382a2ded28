"""The whole demo, as ``make demo`` starts it: time to the first price, memory, processor.

Databases are not counted: their size is the user's choice. There is no floor to set beside these:
the promise is an absolute one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

from bench.figures import Figure
from bench.processes import free_port

ROOT = Path(__file__).resolve().parents[1]
DATABASES = ("postgres", "redis-server")


def measure(*, seconds: int) -> list[Figure]:
    """Start the demo, let it run warm, and watch it for ``seconds``."""
    with tempfile.TemporaryDirectory(prefix="oracle-demo-") as home:
        port, simulator_port = free_port(), free_port()
        environment = {
            **os.environ,
            "ORACLE_HOME": home,
            "PORT": str(port),
            "SIMULATOR_PORT": str(simulator_port),
            "LOG_LEVEL": "info",
        }
        for name in ("DJANGO_SETTINGS_MODULE", "PROMETHEUS_MULTIPROC_DIR", "MAX_CLOCK_OFF_MS"):
            environment.pop(name, None)
        started = time.monotonic()
        demo = subprocess.Popen(
            [sys.executable, "-m", "config.stack", "demo"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        try:
            _wait_for_a_price(port)
            first_price = time.monotonic() - started
            time.sleep(75)  # past the first flush, with every import made
            rss_mb, core_percent = _watch(demo.pid, port, seconds)
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(timeout=60)
    return [
        Figure(name="demo_first_price", value=first_price, unit="s", limit=90),
        Figure(name="demo_rss", value=rss_mb, unit="MB", limit=512),
        Figure(name="demo_cpu", value=core_percent, unit="%", limit=50),
    ]


def _watch(pid: int, port: int, seconds: int) -> tuple[float, float]:
    """Most memory seen, in MB, and processor time used, in percent of one core."""
    processes = [
        process
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
        if not any(name in " ".join(process.cmdline()[:1]) for name in DATABASES)
    ]
    before, started, most = _cpu_seconds(processes), time.monotonic(), 0.0
    while time.monotonic() - started < seconds:
        _price(port)  # somebody is looking
        most = max(most, sum(process.memory_info().rss for process in processes) / 2**20)
        time.sleep(2)
    used = _cpu_seconds(processes) - before
    return most, 100 * used / (time.monotonic() - started)


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return float(sum(each.user + each.system for each in times))


def _wait_for_a_price(port: int) -> None:
    deadline = time.monotonic() + 120
    while not _price(port):
        if time.monotonic() > deadline:
            raise TimeoutError("no price within 120 s")
        time.sleep(0.1)


def _price(port: int) -> bool:
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}/api/v1/prices/btc-usdt", timeout=5
        ) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
