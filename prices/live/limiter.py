"""The limiter of `oracle.ratelimit` for an event loop: the same counts, many requests in one call.

Requests that wait at the same moment are counted by one script call, in their order; the next call
takes those that came meanwhile. Nothing is counted twice, and nothing is granted from memory.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from functools import lru_cache
from hashlib import sha1
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from oracle import keys, ratelimit
from oracle.connection import LUA
from oracle.ratelimit import UNCHECKED, WINDOW_MS, Verdict

# A Redis that did not answer is left alone for so long: requests pass without waiting for it.
PAUSE_SECONDS = 0.5
# A call costs as much as serving two requests. When requests come so fast that this many waited
# for it, the next call is put off by a moment: more of them share it.
BUSY_REQUESTS, GATHER_SECONDS = 3, 0.001
MAX_REFUSED = 10_000

_PASSED = Verdict(allowed=True)
_TEXT = (LUA / "shared.lua").read_text() + (LUA / "ratelimit_many.lua").read_text()
_DIGEST = sha1(_TEXT.encode(), usedforsecurity=False).hexdigest()

log = structlog.get_logger(__name__)

client_address = lru_cache(maxsize=10_000)(ratelimit.client_address)

Key = tuple[str, str, int]  # address, scope, limit


class _Batch:
    """The requests that wait for the next call."""

    def __init__(self) -> None:
        self.wanted: dict[Key, int] = {}
        self.verdicts: asyncio.Future[dict[Key, tuple[int, int]] | None] = (
            asyncio.get_running_loop().create_future()
        )


class Limiter:
    """Counts requests. Belongs to one event loop."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._batch: _Batch | None = None
        self._task: asyncio.Task[None] | None = None
        self._away_until = 0.0
        self._refused: dict[Key, float] = {}

    async def take(self, address: str, scope: str, limit: int) -> Verdict:
        """Count one request of ``address`` in ``scope``; a refused one is not counted."""
        key = (address, scope, limit)
        # Entries leave the window with time alone, so until then no request can pass.
        until = self._refused.get(key)
        if until is not None:
            left_ms = int((until - time.monotonic()) * 1_000)
            if left_ms > 0:
                return Verdict(allowed=False, retry_after_ms=left_ms)
            del self._refused[key]
        batch = self._batch
        if batch is None:
            batch = self._batch = _Batch()
            if self._task is None:
                self._task = asyncio.create_task(self._work())
        number = batch.wanted.get(key, 0)
        batch.wanted[key] = number + 1
        verdicts = await batch.verdicts
        if verdicts is None:
            UNCHECKED.labels(scope).inc()
            return _PASSED
        granted, retry_after_ms = verdicts[key]
        if number < granted:
            return _PASSED
        self._note_refusal(key, retry_after_ms)
        return Verdict(allowed=False, retry_after_ms=retry_after_ms)

    async def _work(self) -> None:
        """Ask for one batch after the other, until none has come meanwhile."""
        while (batch := self._batch) is not None:
            self._batch = None
            try:
                verdicts = await self._ask(batch.wanted)
            except BaseException:
                batch.verdicts.cancel()
                self._task = None
                raise
            batch.verdicts.set_result(verdicts)
            if sum(batch.wanted.values()) >= BUSY_REQUESTS:
                await asyncio.sleep(GATHER_SECONDS)
        self._task = None

    async def _ask(self, wanted: dict[Key, int]) -> dict[Key, tuple[int, int]] | None:
        """What is granted of each, and when the next would be; None without Redis."""
        if time.monotonic() < self._away_until:
            return None
        args: list[Any] = [WINDOW_MS, secrets.token_hex(8)]
        for (_, _, limit), count in wanted.items():
            args += (limit, count)
        names = [keys.ratelimit(address, scope) for address, scope, _ in wanted]
        try:
            answers = await self._evaluate(names, args)
        except (RedisError, OSError) as error:
            self._away_until = time.monotonic() + PAUSE_SECONDS
            log.warning("ratelimit.unchecked", requests=sum(wanted.values()), error=str(error))
            return None
        return {key: (int(a[0]), int(a[1])) for key, a in zip(wanted, answers, strict=True)}

    async def _evaluate(self, names: list[str], args: list[Any]) -> Any:
        try:
            return await self._redis.evalsha(_DIGEST, len(names), *names, *args)
        except NoScriptError:
            return await self._redis.eval(_TEXT, len(names), *names, *args)

    def _note_refusal(self, key: Key, retry_after_ms: int) -> None:
        if len(self._refused) >= MAX_REFUSED:
            self._refused.clear()
        self._refused[key] = time.monotonic() + retry_after_ms / 1_000
