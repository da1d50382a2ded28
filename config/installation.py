"""What a new oracle needs once: its database, tables, seeds and admin user.

Safe to repeat, and safe when several containers do it at once.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO

import psycopg
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import OperationalError, connection
from psycopg import sql
from psycopg.errors import DuplicateDatabase, ObjectInUse, UniqueViolation
from redis.exceptions import RedisError
from rest_framework.authtoken.models import Token

from market import storage, timescale
from oracle.connection import redis_client

Say = Callable[[str], None]

ADMIN = "admin"
SAY_EVERY_SECONDS = 5
_LOCK = 0x6F7261636C65  # "oracle": the advisory lock of whoever is setting up


class NotReachableError(Exception):
    """The database or Redis did not answer in time."""

    retryable = True


def install(*, wait_seconds: float, say: Say) -> str | None:
    """Wait for the servers, then create what is missing; a new admin's generated password.

    Raises NotReachableError, CommandError.
    """
    _wait("Redis", _try_redis, seconds=wait_seconds, say=say)
    _wait("the database", _try_database, seconds=wait_seconds, say=say)
    call_command("check", stdout=StringIO())
    with _alone():
        call_command("migrate", interactive=False, verbosity=0)
        timescale.apply(storage.time_tables())
        call_command("seed", stdout=StringIO())
        return ensure_admin()


def password_notice(password: str) -> str:
    """The line that shows a generated password."""
    return f"Admin user created: {ADMIN} / {password} (shown this once)"


def ensure_admin() -> str | None:
    """Have a superuser ``admin`` with ADMIN_PASSWORD and ADMIN_TOKEN, where these are set.

    Without ADMIN_PASSWORD a new one gets a generated password, which is returned; an existing one
    keeps its own. In production none is generated: it would end up in a log.
    """
    users = get_user_model().objects
    user = users.filter(username=ADMIN).first()
    wanted: str = settings.ADMIN_PASSWORD
    generated = None
    if user is None:
        if not wanted:
            if settings.ENVIRONMENT == "production":
                return None
            wanted = generated = secrets.token_urlsafe(12)
        user = users.create_superuser(username=ADMIN, password=wanted)
    elif wanted and not user.check_password(wanted):
        user.set_password(wanted)
        user.save(update_fields=["password"])
    if settings.ADMIN_TOKEN:
        # The key is the row's identity: it cannot be changed, only replaced.
        Token.objects.filter(user=user).exclude(key=settings.ADMIN_TOKEN).delete()
        Token.objects.get_or_create(key=settings.ADMIN_TOKEN, defaults={"user": user})
    return generated


def _wait(what: str, attempt: Callable[[], str | None], *, seconds: float, say: Say) -> None:
    started = time.monotonic()
    said = started
    while (problem := attempt()) is not None:
        now = time.monotonic()
        if now - started > seconds:
            raise NotReachableError(f"{what} did not answer within {seconds:g} s: {problem}")
        if now - said > SAY_EVERY_SECONDS:
            said = now
            say(f"Waiting for {what}: {problem}")
        time.sleep(0.1)


def _try_redis() -> str | None:
    try:
        redis_client().ping()
    except RedisError as error:
        return _first_line(error)
    return None


def _try_database() -> str | None:
    try:
        connection.ensure_connection()
    except OperationalError as error:
        return None if _create_database() else _first_line(error)
    return None


def _create_database() -> bool:
    """Create the database if the server is there and lacks it. True when it is worth a new try."""
    parameters = connection.get_connection_params()
    name = parameters["dbname"]
    try:
        server = psycopg.connect(**{**parameters, "dbname": "postgres", "autocommit": True})
    except psycopg.OperationalError:
        return False
    with server:
        if server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            return False
        try:
            server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        except (DuplicateDatabase, ObjectInUse, UniqueViolation):
            return False  # somebody else is at it
    connection.ensure_connection()
    return True


@contextmanager
def _alone() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
