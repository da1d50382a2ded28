"""What every test stands on: a PostgreSQL and a Redis of this session's own, and no network.

Given DATABASE_URL or REDIS_URL, those servers are used instead.
"""

from __future__ import annotations

import atexit
import ipaddress
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings as django_settings


def _temporary_home() -> Path:
    # Short, so that the sockets' paths fit; removed at the very end, after the servers.
    home = Path(tempfile.mkdtemp(prefix="oracle-test-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    (home / "metrics").mkdir()
    return home


# Settings read the environment when they are first touched, and much follows from these. That is
# why DJANGO_SETTINGS_MODULE stands here and not in pyproject.toml, where pytest-django would load
# the settings before this file, and why nothing of ours is imported above.
if django_settings.configured or "DJANGO_SETTINGS_MODULE" in os.environ:
    raise pytest.UsageError("unset DJANGO_SETTINGS_MODULE: tests/conftest.py sets it")
HOME = _temporary_home()
os.environ["ORACLE_HOME"] = str(HOME)
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(HOME / "metrics")
os.environ["ENVIRONMENT"] = "development"
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
for _name in ("SIMULATOR_URL", "SYMBOLS", "REDIS_PREFIX", "ADMIN_PASSWORD", "ADMIN_TOKEN", "DEBUG"):
    os.environ.pop(_name, None)
django.setup()


def pytest_report_header() -> str:
    """Say once, at the top, what two hundred skipped tests would say at the end."""
    from tests.ingestion.fixtures import FIXTURES

    there = "" if FIXTURES.is_dir() else " is missing: tests that read it are skipped"
    return f"recorded payloads (ORACLE_FIXTURES): {FIXTURES}{there}"


@pytest.fixture(scope="session")
def home() -> Path:
    """The ORACLE_HOME of this session."""
    return HOME


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[None]:
    """A running PostgreSQL, the one that the settings name."""
    from config import servers

    with nullcontext() if os.environ.get("DATABASE_URL") else servers.postgres(HOME):
        yield


@pytest.fixture(scope="session")
def redis_server() -> Iterator[None]:
    """A running Redis, the one that the settings name."""
    from config import servers

    with nullcontext() if os.environ.get("REDIS_URL") else servers.redis_server(HOME):
        yield


@pytest.fixture(scope="session")
def django_db_modify_db_settings(postgres_server: None) -> None:
    """pytest-django's own hook, called before it creates the test database."""


@pytest.fixture(autouse=True)
def redis_prefix(redis_server: None, settings: Any) -> Iterator[str]:
    """A key prefix of this test's own; what it wrote is removed afterwards."""
    from oracle.connection import redis_client

    prefix, url = f"test-{secrets.token_hex(4)}", settings.REDIS_URL
    settings.REDIS_PREFIX = prefix
    settings.MAX_CLOCK_OFF_MS = 10**15  # tests live at times of their own
    yield prefix
    settings.REDIS_URL = url
    client = redis_client()
    written = list(client.scan_iter(f"{prefix}:*", count=1_000))
    if written:
        client.delete(*written)


@pytest.fixture(autouse=True)
def _rollups_emptied(request: pytest.FixtureRequest) -> Iterator[None]:
    """Empty the rollups after a test that commits: Django empties what it manages, and no more."""
    marker = request.node.get_closest_marker("django_db")
    if marker is None or not marker.kwargs.get("transaction"):
        yield
        return
    request.getfixturevalue("transactional_db")  # or the database would be shut when we come back
    yield
    from django.db import connection

    from market.rollups import TABLES

    with connection.cursor() as cursor:
        for table in TABLES.values():
            cursor.execute(f"TRUNCATE {table}")


@pytest.fixture(autouse=True)
def _no_outside_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that leaves this machine, and every look-up of a name."""
    connect, connect_ex, look_up = (
        socket.socket.connect,
        socket.socket.connect_ex,
        socket.getaddrinfo,
    )

    def checked_connect(self: socket.socket, address: Any) -> None:
        _refuse_outside(address)
        connect(self, address)

    def checked_connect_ex(self: socket.socket, address: Any) -> int:
        _refuse_outside(address)
        return connect_ex(self, address)

    def checked_look_up(host: Any, *args: Any, **options: Any) -> Any:
        _refuse_outside((host, None))
        return look_up(host, *args, **options)

    monkeypatch.setattr(socket.socket, "connect", checked_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", checked_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", checked_look_up)


class OutsideNetworkError(RuntimeError):
    """A test tried to leave this machine. No OSError, or code that retries would hide it."""


def _refuse_outside(address: Any) -> None:
    if not isinstance(address, tuple):
        return  # a Unix socket
    host = address[0]
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return
    try:
        inside = ipaddress.ip_address(name).is_loopback
    except ValueError:
        inside = False
    # Binding to all interfaces looks this one up.
    if not inside and name not in ("0.0.0.0", "::"):
        raise OutsideNetworkError(f"no outside network in tests: {name}")
