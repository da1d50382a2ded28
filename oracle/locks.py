"""Locks with fencing tokens: any number of beats and workers may run, one at a time acts.

A lock can expire under a paused process, so holding it proves nothing later. The fencing token
does: each acquisition draws a higher one, and the Lua writes refuse a token older than the newest
they have seen (https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from oracle import keys
from oracle.connection import run_script


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
