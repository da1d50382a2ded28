import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_files_are_named_after_host_and_process(tmp_path):
    """In containers every process may be number 1, and all write to one volume."""
    code = (
        "import socket, sys; from pathlib import Path; socket.gethostname = lambda: 'web_1'\n"
        "from config import metrics; metrics.share(Path(sys.argv[1]))\n"
        "from prometheus_client import Counter; Counter('x', 'x').inc(); import os\n"
        "print(os.getpid())"
    )
    folder = tmp_path / "made"
    environment = {"PATH": os.environ["PATH"], "ORACLE_HOME": str(tmp_path)}
    said = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [file.name for file in folder.iterdir()] == [f"counter_web-1-{said.stdout.strip()}.db"]
