import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARE = (
    "import os, socket, sys; from pathlib import Path; socket.gethostname = lambda: 'web_1'\n"
    "from config import metrics; folder = Path(sys.argv[1])\n"
    "metrics.share(folder); from prometheus_client import Counter, Gauge\n"
)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "made"


def run(code, folder):
    """Run ``code`` in a process of its own; what it prints."""
    environment = {"PATH": os.environ["PATH"], "ORACLE_HOME": str(folder.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def names(folder):
    return {file.name for file in folder.iterdir()}


def test_files_are_named_after_host_and_process(folder):
    """In containers every process may be number 1, and all write to one volume."""
    process = run(f"{SHARE}Counter('x', 'x').inc(); print(os.getpid())", folder)

    assert names(folder) == {f"counter_web-1-{process}.db"}


def test_who_is_gone_has_no_streams_and_what_it_counted_stays(folder):
    streams = "Gauge('streams', 'x', multiprocess_mode='livesum').inc(7)\n"
    dead = run(f"{SHARE}{streams}Counter('served', 'x').inc()\nprint(os.getpid())", folder)
    there = names(folder)
    others = {f"gauge_livesum_web-1-{os.getpid()}.db", "gauge_livesum_web-2-1.db"}
    for name in others:
        (folder / name).touch()

    run(SHARE, folder)

    assert there == {f"gauge_livesum_web-1-{dead}.db", f"counter_web-1-{dead}.db"}
    assert names(folder) == {f"counter_web-1-{dead}.db", *others}


def test_a_process_does_not_begin_with_the_streams_of_who_had_its_number(folder):
    number = (
        "import os, sys; from pathlib import Path; folder = Path(sys.argv[1])\nfolder.mkdir()\n"
    )
    left = "(folder / f'gauge_livesum_web-1-{os.getpid()}.db').touch()\n"

    run(number + left + SHARE, folder)

    assert names(folder) == set()
