"""A running ``make demo`` for end-to-end tests: asked, disturbed and stopped as a user would."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], *, seconds: float, what: str) -> Any:
    """The first true answer of ``condition``; fails saying what did not come."""
    end = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return answer


@dataclass
class Stack:
    """A running ``make demo``."""

    process: subprocess.Popen[str]
    home: Path
    url: str
    simulator: str
    printed: list[str] = field(default_factory=list)

    def get(self, path: str) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return answer.status, json.loads(answer.read(), parse_float=Decimal)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
        except OSError:
            return 0, None

    def running(self) -> bool:
        """Does it answer? Fails when it has given up, with what it printed."""
        assert self.process.poll() is None, "".join(self.printed)
        return self.get("/api/v1/prices")[0] == 200

    def fault(self, **body: Any) -> None:
        request = urllib.request.Request(
            f"{self.simulator}/control/faults",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=5).close()

    def clear_faults(self) -> None:
        request = urllib.request.Request(f"{self.simulator}/control/faults", method="DELETE")
        urllib.request.urlopen(request, timeout=5).close()

    def tape(
        self, exchange: str, exchange_symbol: str, from_ms: int, length_ms: int
    ) -> list[dict[str, Any]]:
        """What a market really traded in ``[from_ms, from_ms + length_ms)``."""
        query = urllib.parse.urlencode(
            {
                "exchange": exchange,
                "symbol": exchange_symbol,
                "from_ms": from_ms,
                "to_ms": from_ms + length_ms,
            }
        )
        with urllib.request.urlopen(f"{self.simulator}/control/tape?{query}", timeout=10) as answer:
            trades: list[dict[str, Any]] = json.loads(answer.read())
            return trades

    def supervisor(self, *words: str) -> str:
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c"]
        command += [str(self.home / "supervisord.conf"), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout

    def processes(self) -> list[str]:
        """The command lines of all processes that live in this home."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    environment = (entry / "environ").read_bytes()
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue
                if str(self.home).encode() in environment or str(self.home) in command:
                    found.append(command)
        return found


@contextmanager
def demo(folder: Path) -> Iterator[Stack]:
    """The demo, with its home in ``folder``, from its start to Ctrl-C."""
    port, simulator_port = free_port(), free_port()
    home = folder / "home"
    keep = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE", "SIMULATOR_URL")
        and not name.startswith(("PROMETHEUS", "COV_", "COVERAGE"))
    }
    environment = {
        **keep,
        "ORACLE_HOME": str(home),
        "PORT": str(port),
        "SIMULATOR_PORT": str(simulator_port),
        "RATE_LIMIT_PER_MINUTE": "100000",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "config.stack", "demo"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    running = Stack(
        process=process,
        home=home / "demo",
        url=f"http://127.0.0.1:{port}",
        simulator=f"http://127.0.0.1:{simulator_port}",
    )
    assert process.stdout is not None
    output = process.stdout
    reader = threading.Thread(target=lambda: running.printed.extend(output), daemon=True)
    reader.start()
    try:
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()  # and with it all that it has started: supervise.py
                raise
        reader.join(timeout=5)
        output.close()
