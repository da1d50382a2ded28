"""The environment, read once and strictly: a bad value stops the start and says which and why."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured
from environs import Env, EnvError, ValidationError, validate

ROOT = Path(__file__).resolve().parents[2]

env = Env(eager=False)

# libpq's: seconds, but tcp_user_timeout is in milliseconds.
_PATIENCE = {
    "connect_timeout": 3,
    "tcp_user_timeout": 5_000,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
}
_ONLY_DB = re.compile(r"(db=[0-9]+)?")


def one_of(*choices: str) -> Any:
    return validate.OneOf(choices, error="must be one of: {choices}")


def between(least: int, most: int) -> Any:
    return validate.Range(min=least, max=most, error=f"must be from {least} to {most}")


def url_or_none(*schemes: str) -> Any:
    """A URL of one of the schemes, with a host; or nothing."""

    def check(text: str) -> None:
        parts = urlsplit(text)
        if text and not (parts.scheme in schemes and parts.netloc):
            raise ValidationError(f"must be a URL such as {schemes[-1]}://host/path")

    return check


def seal() -> None:
    """Raise ImproperlyConfigured naming every variable that could not be read."""
    try:
        env.seal()
    except EnvError as error:
        raise ImproperlyConfigured(f"environment: {error}") from None


def database(url: str) -> dict[str, Any]:
    """Django's DATABASES entry for a ``postgresql://`` URL; anything else is refused."""
    if urlsplit(url).scheme not in ("postgres", "postgresql"):
        raise ImproperlyConfigured(
            f"environment: DATABASE_URL must start with postgresql://, got {_scheme(url)!r}"
        )
    parsed = dj_database_url.parse(url, conn_max_age=600, conn_health_checks=True)
    config: dict[str, Any] = {**parsed, "ENGINE": "config.postgres"}
    options: dict[str, Any] = config.get("OPTIONS", {})
    # A database that is away must fail a task in seconds, not hang it; so must one whose machine
    # vanishes behind an open connection, which TCP alone notices after many minutes.
    for name, value in _PATIENCE.items():
        options.setdefault(name, value)
    # libpq takes the socket folder as a host; dj-database-url leaves it among the options.
    if not config.get("HOST") and "host" in options:
        config["HOST"] = options.pop("host")
    config["OPTIONS"] = options
    return config


def check_networks(name: str, texts: list[str]) -> None:
    """Refuse what is neither an address nor a network (``10.0.0.0/8``)."""
    for text in texts:
        try:
            ip_network(text, strict=False)
        except ValueError as error:
            raise ImproperlyConfigured(f"environment: {name}: {error}") from None


def check_redis(url: str) -> str:
    """``url`` if it is one that redis-py can read, and kombu as `broker_url` spells it."""
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ImproperlyConfigured(
            f"environment: REDIS_URL must start with redis://, rediss:// or unix://, "
            f"got {_scheme(url)!r}"
        )
    # Other options redis-py would read as what they are, and kombu as text.
    if parts.scheme == "unix" and not _ONLY_DB.fullmatch(parts.query):
        raise ImproperlyConfigured(
            "environment: REDIS_URL: unix:///path/redis.sock may end in ?db=NUMBER, "
            "and in nothing else"
        )
    return url


def broker_url(redis_url: str) -> str:
    """``redis_url`` as kombu spells it: a Unix socket is ``redis+socket://`` there."""
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    user, at, _ = parts.netloc.rpartition("@")  # and password
    number = parts.query.removeprefix("db=") or "0"
    return f"redis+socket://{user}{at}{parts.path}?virtual_host={number}"


def _scheme(url: str) -> str:
    # Never the whole URL: it may hold a password.
    return urlsplit(url).scheme + "://…"
