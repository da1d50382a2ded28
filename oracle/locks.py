"""Locks with fencing tokens: any number of beats and workers may run, one at a time acts.

A lock can expire under a paused process, so holding it proves nothing later. The fencing token
does: each acquisition draws a higher one, and the Lua writes refuse a token older than the newest
they have seen (https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

from oracle import keys
from oracle.connection import run_script

P = ParamSpec("P")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A lock that was acquired. ``token`` is its fencing token: 16 digits, in text order."""

    name: str
    owner: str
    token: str


def acquire(
    name: str, *, ttl_ms: int, owner: str | None = None, resource: str | None = None
) -> Lock | None:
    """Take the lock ``name`` for ``ttl_ms``, or None when somebody holds it.

    The token is drawn from the sequence of ``resource`` (default: ``name``): locks of several
    names that guard writes to one resource share its sequence.
    """
    owner = owner or secrets.token_hex(8)
    token = run_script(
        "lock_acquire", [keys.lock(name), keys.tokens(resource or name)], [owner, ttl_ms]
    )
    return Lock(name=name, owner=owner, token=token.decode()) if token else None


def release(lock: Lock) -> bool:
    """Give the lock back; False when it was no longer ours."""
    return bool(run_script("lock_release", [keys.lock(lock.name)], [lock.owner]))


@contextmanager
def hold(name: str, *, ttl_ms: int) -> Iterator[Lock | None]:
    """The lock for the length of a ``with`` block, or None when somebody else holds it."""
    lock = acquire(name, ttl_ms=ttl_ms)
    try:
        yield lock
    finally:
        if lock is not None:
            release(lock)


def claim_tick(task: str, *, now_ms: int, every_ms: int) -> Lock | None:
    """The right to do ``task``'s tick of ``now_ms``, once for all beats and workers, or None.

    Never released: a second beat's message for a tick already done must find it taken.
    """
    return acquire(f"{task}:{now_ms // every_ms}", ttl_ms=2 * every_ms, resource=task)


def exclusive(name: str, *, ttl_ms: int) -> Callable[[Callable[P, Any]], Callable[P, None]]:
    """Skip the function while another call of it runs, in any process.

    For what waits for the database: while that hangs, one thread waits and not one more for each
    tick. ``ttl_ms`` is how long a call that died stands in the way.
    """

    def decorate(function: Callable[P, Any]) -> Callable[P, None]:
        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            with hold(f"{name}:running", ttl_ms=ttl_ms) as lock:
                if lock is not None:
                    function(*args, **kwargs)

        return guarded

    return decorate
