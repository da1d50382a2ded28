"""supervisord in a terminal: what a person should see is printed, and all ends with the terminal.

A script that imports nothing of ours: see __main__.
"""

from __future__ import annotations

import ctypes
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

from supervisor import events
from supervisor.options import ServerOptions
from supervisor.states import SupervisorStates
from supervisor.supervisord import go

START, SAID_WHY = "start", 2  # as in start.py
MAX_BACKOFF_SECONDS = 10
SAY_AGAIN_SECONDS = 30
LINE_CHARACTERS = 200
LOOK_EVERY_SECONDS = 0.2
PR_SET_PDEATHSIG = 1


class TerminalOptions(ServerOptions):  # type: ignore[misc]  # supervisor has no types
    """supervisord's options and ways to the system, of which it has made methods to override."""

    failed = False
    # What supervisord's own main sets; `first` is false after a restart, which we do not do.
    first, test = True, False

    def setsignals(self) -> None:
        super().setsignals()
        # A signal, and the first start of all programs, wait for the end of a poll: a second.
        poll = self.poller.poll
        self.poller.poll = lambda timeout: poll(min(timeout, LOOK_EVERY_SECONDS))
        # To supervisord a SIGHUP means "restart"; here it is the terminal that closes.
        signal.signal(
            signal.SIGHUP, lambda _, frame: self.signal_receiver.receive(signal.SIGTERM, frame)
        )
        terminal = Terminal(self)
        events.subscribe(events.ProcessLogStdoutEvent, terminal.show)
        events.subscribe(events.ProcessStateBackoffEvent, terminal.backs_off)
        events.subscribe(events.ProcessStateExitedEvent, terminal.exited)
        events.subscribe(events.SupervisorStoppingEvent, terminal.stopping)
        events.subscribe(events.Tick5Event, terminal.check)

    def setpgrp(self) -> None:
        """Called in each new process: it gets a group of its own, and ends when we are killed."""
        super().setpgrp()
        if _LIBC is not None:
            _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Terminal:
    """What the person at the terminal gets to see."""

    def __init__(self, options: TerminalOptions) -> None:
        self._options = options
        self._begun = b""
        self._said_at: dict[str, float] = {}
        self._is_terminal = sys.stdout.isatty()

    def show(self, event: Any) -> None:
        """Pass on what `start` prints, in whole lines: other lines may come in between."""
        lines, newline, self._begun = (self._begun + event.data).rpartition(b"\n")
        _write((lines + newline).decode(errors="replace"))

    def backs_off(self, event: Any) -> None:
        """A program did not stay up. It is tried again for ever, not ever more rarely."""
        process = event.process
        process.delay = min(process.delay, time.time() + MAX_BACKOFF_SECONDS)
        process.backoff = min(process.backoff, MAX_BACKOFF_SECONDS)
        self._complain(process, f"{process.config.name} does not start and is tried again")

    def exited(self, event: Any) -> None:
        """A program ended that was up: `start`, when its work is done or cannot be."""
        process = event.process
        if event.expected and process.config.name == START:
            return
        killed = process.exitstatus < 0
        how = "was killed" if killed else f"ended with status {process.exitstatus}"
        if process.config.name == START and not killed:
            if process.exitstatus != SAID_WHY:
                self._complain(process, f"{START} {how}, and nothing works without it")
            # Nothing that runs on could work.
            self._options.failed = True
            self._options.mood = SupervisorStates.SHUTDOWN
            return
        self._complain(process, f"{process.config.name} {how} and is started again")

    def stopping(self, event: Any) -> None:
        _write("Stopping …\n")

    def check(self, event: Any) -> None:
        """Stop when the terminal is gone. Its SIGHUP may have been for make alone, which waits."""
        if self._is_terminal and not sys.stdout.isatty():
            self._options.mood = SupervisorStates.SHUTDOWN

    def _complain(self, process: Any, text: str) -> None:
        if self._options.mood < SupervisorStates.RUNNING:
            return
        name, now = process.config.name, time.monotonic()
        if now - self._said_at.get(name, -SAY_AGAIN_SECONDS) < SAY_AGAIN_SECONDS:
            return
        self._said_at[name] = now
        log = process.config.stdout_logfile or process.config.stderr_logfile
        _write(f"{text}: {_last_line(log)} ({log})\n")


def _last_line(log: str) -> str:
    """What a log ends with: the error, where what ends it is a traceback."""
    try:
        lines = Path(log).read_text(errors="replace")[-4_000:].splitlines()
    except OSError:
        lines = []
    told = [line.strip() for line in lines if re.search(r"\w", line)] or ["it said nothing"]
    errors = [line for line in told[-5:] if re.match(r"[\w.]+(Error|Exception)\b", line)]
    return (errors or told)[-1][:LINE_CHARACTERS]


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        pass  # the terminal is gone; we are about to hear of it


def main() -> int:
    options = TerminalOptions()
    options.realize()
    go(options)
    options.close_httpservers()
    options.close_logger()
    return 1 if options.failed else 0


if __name__ == "__main__":
    sys.exit(main())
