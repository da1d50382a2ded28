"""When each role last did its work: outcomes, written after the fact, for health to read."""

from __future__ import annotations

from collections.abc import Iterable

from oracle import jsontext, keys
from oracle.connection import redis_client

KEEP_SECONDS = 86_400


def beat(role: str, *, now_ms: int, **facts: object) -> None:
    """Record that ``role`` did its work at ``now_ms``, with facts worth showing."""
    text = jsontext.encode({"at_ms": now_ms, **facts})
    redis_client().set(keys.heartbeat(role), text, ex=KEEP_SECONDS)


def last(roles: Iterable[str]) -> dict[str, dict[str, object]]:
    """The last record of each role that has one, in one round trip."""
    names = list(roles)
    if not names:
        return {}
    texts = redis_client().mget([keys.heartbeat(name) for name in names])
    return {name: jsontext.decode(text) for name, text in zip(names, texts, strict=True) if text}
