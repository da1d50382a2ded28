"""The folder that a stack lives in: locked, prepared, and what its programs find in their
environment."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shlex
import socket
from collections.abc import Mapping
from pathlib import Path

from config import embedded
from config.stack import StackError
from config.stack.options import Options


def lock(home: Path) -> None:
    """Make this process, and what it becomes, the only stack of ``home``. Raises StackError."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        file = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StackError(f"cannot write to {home}: {error.strerror}; set ORACLE_HOME") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(file, 32).decode().strip() or "unknown"
        raise StackError(
            f"a stack runs in {home} already (process {pid}): stop it, or set ORACLE_HOME and PORT"
        ) from None
    os.ftruncate(file, 0)
    os.write(file, f"{os.getpid()}\n".encode())
    # Never closed: the lock ends with the process. Supervisord closes it in its programs.
    os.set_inheritable(file, True)


def check_ports(options: Options) -> None:
    """Raise StackError for a port that somebody listens on."""
    for variable, host, port in options.ports:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                remedy = "HOST" if error.errno == errno.EADDRNOTAVAIL else variable
                raise StackError(
                    f"cannot listen on {host}:{port}: {error.strerror}; set {remedy}"
                ) from None


def prepare(options: Options) -> None:
    """Create folders and, where they are ours, the databases. Raises StackError."""
    home = options.home
    try:
        for name in ("log", "metrics"):
            (home / name).mkdir(exist_ok=True)
        # The figures of processes that are gone.
        for old in (home / "metrics").iterdir():
            old.unlink()
        embedded.make_socket_folder(home)
        # Left behind by a supervisord that was killed; it would remark on it.
        embedded.supervisor_socket(home).unlink(missing_ok=True)
        if not options.database_url:
            embedded.make_database_folder(home)
    except embedded.EmbeddedError as error:
        raise StackError(str(error)) from None
    except OSError as error:
        raise StackError(f"cannot prepare {home}: {error}") from None


def environment(options: Options, given: Mapping[str, str]) -> dict[str, str]:
    """The environment of a stack's programs: the ``given`` one and what makes them ours."""
    ours = {
        "ORACLE_HOME": str(options.home),
        "PORT": str(options.port),
        "SECRET_KEY": given.get("SECRET_KEY") or _secret_key(options.home),
        "SIMULATOR_URL": "",
        "PROMETHEUS_MULTIPROC_DIR": str(options.home / "metrics"),
        "DJANGO_SETTINGS_MODULE": "config.settings",
        # glibc gives each thread an arena of its own, which costs more than it speeds up here.
        "MALLOC_ARENA_MAX": given.get("MALLOC_ARENA_MAX", "2"),
        "PYTHONUNBUFFERED": "1",
        # `start` runs the checks once; in each worker they would load every view and the admin.
        "CELERY_SKIP_CHECKS": "1",
    }
    if options.simulated:
        ours["SIMULATOR_URL"] = f"http://127.0.0.1:{options.simulator_port}"
        ours["ADMIN_PASSWORD"] = given.get("ADMIN_PASSWORD") or "admin"
    _write_for_shells(options.home, ours)
    return {**given, **ours}


def _secret_key(home: Path) -> str:
    path = home / "secret-key"
    if not path.exists():
        _write_private(path, secrets.token_urlsafe(48))
    return path.read_text().strip()


def _write_for_shells(home: Path, variables: Mapping[str, str]) -> None:
    """For commands beside the stack: ``. .local/demo/environment; python manage.py …``."""
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
    _write_private(home / "environment", "".join(lines))


def _write_private(path: Path, text: str) -> None:
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    unfinished.rename(path)
