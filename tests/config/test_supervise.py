import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from config import embedded
from config.stack import programs
from tests.stack import until as until_within

SUPERVISE = Path(programs.__file__).with_name("supervise.py")
PATIENCE_SECONDS = 20
until = partial(until_within, seconds=PATIENCE_SECONDS)
STEADY = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)"


class Supervised:
    """`supervise.py` with programs of this test's own."""

    def __init__(self, folder: Path, **commands: str) -> None:
        self.folder = folder
        self.folder.joinpath("log").mkdir(exist_ok=True)
        socket_path = embedded.make_socket_folder(folder) / "supervisor.sock"
        sections = [
            f"[supervisord]\nnodaemon=true\nsilent=true\nuser={os.geteuid()}\n"
            f"logfile={folder}/supervisord.log\npidfile={folder}/pid\n",
            f"[unix_http_server]\nfile={socket_path}\n",
        ]
        for name, code in commands.items():
            script = folder / f"{name}.py"
            script.write_text(code)
            program = programs.Program(
                name=name, command=(sys.executable, "-S", str(script)), at_once=True
            )
            sections.append(programs._program(program))
        configuration = folder / "supervisord.conf"
        configuration.write_text("\n".join(sections))
        self.output = (folder / "output").open("w+b")
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(SUPERVISE), "-c", str(configuration)],
            stdout=self.output,
            stderr=self.output,
            stdin=subprocess.DEVNULL,
        )

    def printed(self) -> str:
        return (self.folder / "output").read_text()

    def wait_for(self, text: str) -> None:
        until(lambda: text in self.printed(), what=f"{text!r} in {self.printed()!r}")

    def pid_of(self, name: str) -> int:
        """The process id that the program wrote into its log, the latest."""
        log = self.folder / "log" / f"{name}.log"
        until(lambda: log.exists() and log.read_text().endswith("\n"), what=f"{name} to start")
        return int(log.read_text().split()[-1])

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.output.close()


@pytest.fixture
def supervised(tmp_path):
    made = []

    def run(**commands: str) -> Supervised:
        made.append(Supervised(tmp_path, **commands))
        return made[-1]

    yield run
    for one in made:
        one.close()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything(number, supervised):
    stack = supervised(steady=STEADY)
    pid = stack.pid_of("steady")
    stack.process.send_signal(number)
    stack.process.send_signal(number)  # a second one does no harm
    assert stack.process.wait(timeout=PATIENCE_SECONDS) == 0
    assert not is_alive(pid)
    assert stack.printed() == "Stopping …\n"


def test_the_terminal_shows_what_start_says_and_who_dies(supervised):
    stack = supervised(
        start="print('Token Price Oracle: here', flush=True)",
        steady=STEADY,
        flaky="import sys\nsys.exit('no such thing')",
    )
    stack.wait_for("Token Price Oracle: here\n")
    stack.wait_for("flaky does not start and is tried again: no such thing (")
    first = stack.pid_of("steady")
    # Up for longer than a failed start takes.
    until(lambda: "success: steady" in (stack.folder / "supervisord.log").read_text(), what="up")
    os.kill(first, signal.SIGKILL)
    stack.wait_for("steady was killed and is started again")
    until(lambda: stack.pid_of("steady") != first, what="a new process")
    assert is_alive(stack.pid_of("steady"))
    assert stack.process.poll() is None


def test_a_start_that_failed_ends_everything(supervised):
    stack = supervised(
        start="import time\nprint('Cannot start: why')\ntime.sleep(1)\nraise SystemExit(2)",
        steady=STEADY,
    )
    pid = stack.pid_of("steady")
    assert stack.process.wait(timeout=PATIENCE_SECONDS) == 1
    assert not is_alive(pid)
    assert stack.printed() == "Cannot start: why\nStopping …\n"


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_programs_end_with_a_supervisor_that_is_killed(supervised):
    stack = supervised(steady=STEADY)
    pid = stack.pid_of("steady")
    stack.process.kill()
    until(lambda: not is_alive(pid), what="the program's end")
