"""The limiter of `oracle.ratelimit` for an event loop: the same counts, many requests in one call.

Requests that wait at the same moment are counted by one script call, in their order; the next call
takes those that came meanwhile. Nothing is counted twice, and nothing is granted from memory.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from oracle import keys, ratelimit
from oracle.connection import script
from oracle.ratelimit import UNCHECKED, WINDOW_MS, Verdict

# A Redis that did not answer is left alone for so long: requests pass without waiting for it.
PAUSE_SECONDS = 0.5
# A call costs as much as serving two requests. When requests come so fast that this many waited
# for it, the next call is put off by a moment: more of them share it.
BUSY_REQUESTS, GATHER_SECONDS = 3, 0.001
MAX_REFUSED = 10_000

_PASSED = Verdict(allowed=True)

log = structlog.get_logger(__name__)

client_address = lru_cache(maxsize=10_000)(ratelimit.client_address)

Key = tuple[str, str, int]  # address, scope, limit
# A future each: one whose client leaves, and that is cancelled, takes no other's along.
Waiting = dict[Key, list[asyncio.Future[Verdict]]]
Answers = Mapping[Key, tuple[int, int]]  # how many are granted, and when the next would be


class Limiter:
    """Counts requests. Belongs to one event loop."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: Waiting = {}  # for the next call
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
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(verdict)
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return await verdict

    async def _work(self) -> None:
        """Ask for those who wait, again and again until none has come meanwhile."""
        asked: Waiting = {}
        try:
            while self._waiting:
                asked, self._waiting = self._waiting, {}
                wanted = {key: len(verdicts) for key, verdicts in asked.items()}
                answers = await self._ask(wanted)
                for key, verdicts in asked.items():
                    self._tell(key, verdicts, answers)
                if sum(wanted.values()) >= BUSY_REQUESTS:
                    await asyncio.sleep(GATHER_SECONDS)
        finally:
            self._task = None
            # Some are left only where this was ended: nobody is to wait for it for ever.
            _cancel(asked)
            _cancel(self._waiting)
            self._waiting = {}

    def _tell(
        self, key: Key, verdicts: list[asyncio.Future[Verdict]], answers: Answers | None
    ) -> None:
        """Let those pass that came first, as many as are granted; all of them without Redis."""
        granted, retry_after_ms = (len(verdicts), 0) if answers is None else answers[key]
        if answers is None:
            UNCHECKED.labels(key[1]).inc(len(verdicts))
        refused = _PASSED
        if granted < len(verdicts):
            refused = Verdict(allowed=False, retry_after_ms=retry_after_ms)
            self._note_refusal(key, retry_after_ms)
        for number, verdict in enumerate(verdicts):
            if not verdict.done():
                verdict.set_result(_PASSED if number < granted else refused)

    async def _ask(self, wanted: Mapping[Key, int]) -> Answers | None:
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
        text, digest = script("ratelimit_many")
        try:
            return await self._redis.evalsha(digest, len(names), *names, *args)
        except NoScriptError:
            return await self._redis.eval(text, len(names), *names, *args)

    def _note_refusal(self, key: Key, retry_after_ms: int) -> None:
        if len(self._refused) >= MAX_REFUSED:
            self._refused.clear()
        self._refused[key] = time.monotonic() + retry_after_ms / 1_000


def _cancel(waiting: Waiting) -> None:
    for verdicts in waiting.values():
        for verdict in verdicts:
            verdict.cancel()
