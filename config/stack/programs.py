"""The programs of a stack, as supervisord is to run them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from config import embedded
from config.embedded import supervisor_socket
from config.stack import StackError
from config.stack.options import Options
from config.stack.role import ROLES

START = "start"
PYTHON_MODULE = (sys.executable, "-m")
# A message that is larger is not even taken in. Well above the edge's own limit, which says why.
WS_MAX_BYTES = 131_072
LOG_BYTES, LOG_FILES = "5MB", 2
# supervisord takes what follows for a comment, quoted or not, and a % for a format, doubled or not.
UNSPEAKABLE = (" ;", " #", "\n", "%")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """``at_once``: with the stack, not by `start`. ``database``: stopped after all others."""

    name: str
    command: tuple[str, ...]
    database: bool = False
    at_once: bool = False
    stop_signal: str = "TERM"
    stop_seconds: int = 10


def programs(options: Options) -> list[Program]:
    """All programs of the stack, in the order of the file."""
    waiting = list(_oracle(options))
    names = [f"oracle:{program.name}" for program in waiting]
    start = Program(
        name=START,
        command=(
            *(*PYTHON_MODULE, "config.stack.start", "--host", options.host),
            *("--started-ms", str(options.started_ms), *names),
        ),
        at_once=True,
    )
    return [*_databases(options), *_simulator(options), start, *waiting]


def _databases(options: Options) -> Iterable[Program]:
    if not options.database_url:
        yield Program(
            name="postgres",
            command=tuple(embedded.postgres_command(options.home)),
            database=True,
            at_once=True,
            stop_signal="INT",  # its fast shutdown: does not wait for clients to leave
            stop_seconds=30,
        )
    if not options.redis_url:
        yield Program(
            name="redis",
            command=tuple(embedded.redis_command(options.home)),
            database=True,
            at_once=True,
        )


def _simulator(options: Options) -> Iterable[Program]:
    if options.simulated:
        port, seed = str(options.simulator_port), str(options.simulator_seed)
        yield Program(
            name="simulator",
            command=(*PYTHON_MODULE, "ingestion.simulator", "--port", port, "--seed", seed),
            at_once=True,
        )


def _oracle(options: Options) -> Iterable[Program]:
    yield Program(
        name="web",
        command=(
            *(*PYTHON_MODULE, "uvicorn", "config.asgi:application"),
            *("--host", options.host, "--port", str(options.port)),
            # Whom to believe about addresses is TRUSTED_PROXIES, not uvicorn's own setting.
            *("--no-proxy-headers", "--no-access-log", "--no-server-header"),
            *("--timeout-graceful-shutdown", "2", "--ws-max-size", str(WS_MAX_BYTES)),
            *("--ws", "prices.live.protocol:Frames"),
        ),
    )
    for role in ROLES:
        yield Program(name=role, command=(*PYTHON_MODULE, "config.stack.role", role))
    schedule = str(options.home / "celerybeat-schedule")
    yield Program(name="price", command=(*PYTHON_MODULE, "config.stack.price", schedule))
    # Its threads wait for exchanges and the database. In production each queue has workers of its
    # own: here one process less is 80 MB less.
    yield Program(
        name="fetch",
        command=(*PYTHON_MODULE, "config.stack.worker", "fetch", "fetch,market", "12"),
    )
    # The last day of every symbol is fetched while the first prices come: they go first. Of jobs it
    # does one at a time, so that a thread is left for history; a tune brings 150 MB with it.
    yield Program(
        name="history",
        command=(
            *(*PYTHON_MODULE, "config.stack.worker", "--nice", "10"),
            *("history", "history,jobs", "2"),
        ),
    )


def configuration(options: Options) -> str:
    """The text of supervisord.conf. Raises StackError."""
    for path in (str(options.home), sys.executable):
        if any(mark in path for mark in UNSPEAKABLE):
            raise StackError(f"supervisord cannot be told of the path {path!r}: use another")
    sections = [
        _section(
            "supervisord",
            nodaemon="true",
            silent="true",
            nocleanup="true",
            logfile="%(here)s/log/supervisord.log",
            logfile_maxbytes=LOG_BYTES,
            logfile_backups=LOG_FILES,
            pidfile="%(here)s/supervisord.pid",
            identifier=f"oracle-{options.mode}",
            # Only to be told that this is meant.
            **({"user": "root"} if os.geteuid() == 0 else {}),
        ),
        _section("unix_http_server", file=supervisor_socket(options.home), chmod="0700"),
        _section("supervisorctl", serverurl=f"unix://{supervisor_socket(options.home)}"),
        _section(
            "rpcinterface:supervisor",
            **{"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
        ),
    ]
    everything = programs(options)
    sections += [_program(program) for program in everything]
    for number, (name, database) in enumerate((("databases", True), ("oracle", False)), 1):
        members = [program.name for program in everything if program.database is database]
        if members:
            # The groups stop one after the other, the highest priority first.
            sections.append(_section(f"group:{name}", programs=",".join(members), priority=number))
    return "\n".join(sections)


def _program(program: Program) -> str:
    command = shlex.join(program.command)
    first = program.name == START
    log = f"%(here)s/log/{program.name}.log"
    return _section(
        f"program:{program.name}",
        command=command.replace("%", "%%"),
        autostart=str(program.at_once).lower(),
        autorestart="unexpected" if first else "true",
        exitcodes=0,
        # Having stayed up for less is a failed start, repeated ever more slowly.
        startsecs=0 if first else 2,
        startretries=1_000_000,
        stopsignal=program.stop_signal,
        stopwaitsecs=program.stop_seconds,
        killasgroup="true",
        stdout_logfile="NONE" if first else log,
        stdout_logfile_maxbytes=LOG_BYTES,
        stdout_logfile_backups=LOG_FILES,
        # What `start` prints is shown; the rest of it, and of all others, is log.
        stdout_events_enabled=str(first).lower(),
        redirect_stderr=str(not first).lower(),
        **({"stderr_logfile": log} if first else {}),
    )


def _section(heading: str, /, **values: object) -> str:
    lines = [f"[{heading}]", *(f"{name} = {value}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def write_configuration(options: Options) -> Path:
    """Write supervisord.conf into the home. Raises StackError."""
    path = options.home / "supervisord.conf"
    path.write_text(configuration(options))
    return path
