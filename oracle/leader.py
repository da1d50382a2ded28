"""Long-lived roles: one holder, standbys that take over.

A role is a lease in Redis: taken when free, renewed by a heartbeat thread, given back on the way
out. A holder that dies is replaced when its lease ends; one that is paused finds its lease lost,
and its fencing token refused by every write it still tries.
"""

from __future__ import annotations

import atexit
import functools
import secrets
import threading
from collections.abc import Callable
from typing import Any, ParamSpec

import structlog
from django.conf import settings
from redis.exceptions import RedisError

from oracle import keys, metrics
from oracle.connection import redis_client, run_script
from oracle.locks import Lock

P = ParamSpec("P")

log = structlog.get_logger(__name__)


class Leader:
    """This process's candidacy for a role. Thread-safe; `campaign` may be called at any time."""

    def __init__(
        self, role: str, *, ttl_ms: int | None = None, heartbeat_ms: int | None = None
    ) -> None:
        self.role = role
        self._ttl_ms = ttl_ms or settings.LEASE_TTL_MS
        self._heartbeat_ms = heartbeat_ms or settings.LEASE_HEARTBEAT_MS
        self._owner = secrets.token_hex(8)
        self._lease: Lock | None = None
        self._guard = threading.RLock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def token(self) -> str | None:
        """The fencing token of the lease held; None while somebody else leads."""
        lease = self._lease
        return lease.token if lease else None

    def campaign(self) -> bool:
        """Take the role if it is free. True when this process holds it."""
        with self._guard:
            if self._lease is not None:
                return True
            self._stop.clear()
            self._lease = _take(self.role, owner=self._owner, ttl_ms=self._ttl_ms)
            if self._lease is None:
                return False
            self._thread = threading.Thread(
                target=self._keep_alive, name=f"leader-{self.role}", daemon=True
            )
            self._thread.start()
        metrics.LEADER_CHANGES.labels(self.role).inc()
        log.info("leader.taken", role=self.role, token=self.token)
        return True

    def renew(self) -> bool:
        """Prolong the lease; False, and no longer leader, when it was lost."""
        with self._guard:
            if self._lease is None:
                return False
            kept = run_script("lock_renew", [keys.leader(self.role)], [self._owner, self._ttl_ms])
            if not kept:
                self._lease = None
                log.warning("leader.lost", role=self.role)
            return bool(kept)

    def resign(self) -> None:
        """Give the role back, so that a standby need not wait for the lease to end."""
        self._stop.set()
        with self._guard:
            lease, self._lease = self._lease, None
            if lease is not None:
                run_script("lock_release", [keys.leader(self.role)], [self._owner])
                log.info("leader.resigned", role=self.role)

    def _keep_alive(self) -> None:
        missed_ms = 0
        while not self._stop.wait(self._heartbeat_ms / 1_000):
            try:
                if not self.renew():
                    return
                missed_ms = 0
            except RedisError as error:
                # Nobody knows who leads now. Past the lease's length it is not us.
                missed_ms += self._heartbeat_ms
                log.warning("leader.heartbeat_failed", role=self.role, error=str(error))
                if missed_ms >= self._ttl_ms:
                    self._lease = None
                    return


def _take(role: str, *, owner: str, ttl_ms: int) -> Lock | None:
    token = run_script(
        "lock_acquire", [keys.leader(role), keys.tokens(f"leader:{role}")], [owner, ttl_ms]
    )
    return Lock(name=role, owner=owner, token=token.decode()) if token else None


def holder(role: str) -> str | None:
    """Who holds a role now, or None."""
    owner: Any = redis_client().get(keys.leader(role))
    return owner.decode() if owner else None


_candidates: dict[str, Leader] = {}
_candidates_guard = threading.Lock()


def candidate(role: str) -> Leader:
    """This process's one candidacy for a role, resigned when the process ends."""
    with _candidates_guard:
        if role not in _candidates:
            _candidates[role] = Leader(role)
            atexit.register(_resign_quietly, _candidates[role])
        return _candidates[role]


def leader_only(role: str) -> Callable[[Callable[P, Any]], Callable[P, bool]]:
    """Run the function only in the process that leads ``role``; it answers whether it ran."""

    def decorate(function: Callable[P, Any]) -> Callable[P, bool]:
        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> bool:
            if not candidate(role).campaign():
                return False
            function(*args, **kwargs)
            return True

        return guarded

    return decorate


def _resign_quietly(leader: Leader) -> None:
    try:
        leader.resign()
    except RedisError:
        return  # the lease ends by itself
