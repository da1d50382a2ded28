"""The command: starts, says where it is, stops at once, and explains bad options."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "ingestion.simulator"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_command_serves_and_stops_cleanly_at_once(number):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [*COMMAND, "--port", "0", "--seed", "9", "--rate-per-minute", "30"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        with urllib.request.urlopen(f"{url}/control/health", timeout=10) as response:
            health = json.load(response)
        started = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
    assert (health["seed"], health["rate_per_minute"]) == (9, 30)
    assert (process.returncode, errors) == (0, "")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "options, part",
    [
        ([], "--port"),
        (["--port", "99999"], "0..65535"),
        (["--port", "0", "--rate-per-minute", "0"], "1..60000"),
        (["--port", "0", "--markets", "/nowhere.json"], "cannot read /nowhere.json"),
    ],
)
def test_bad_option_is_explained(options, part):
    result = subprocess.run(
        [*COMMAND, *options], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    assert result.returncode == 2
    assert part in result.stderr
