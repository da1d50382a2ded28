"""What a command says, in place of a traceback, when the database or Redis is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError
from django.db import Error
from redis.exceptions import RedisError

ERRORS = (Error, RedisError)


@contextmanager
def said() -> Iterator[None]:
    """Raise CommandError, in one line, for what the database or Redis raises in here."""
    try:
        yield
    except ERRORS as error:
        raise CommandError(why(error)) from error


def why(error: Exception) -> str:
    """Which of the two it was, and the first line of what it says: PostgreSQL's go on with hints.

    ``error``: one of ERRORS.
    """
    who = "Redis" if isinstance(error, RedisError) else "The database"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{who}: {lines[0]}"
