"""Answers that were worked out a moment ago, and those being worked out right now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import msgspec
from django.db import connections

MAX_ANSWERS = 2_000
# Twice as many as the guard lets through to the database: were all of them waiting for one that
# hangs, nobody would be left to refuse those who come later.
THREADS = 16

T = TypeVar("T")
Guard = Callable[[], AbstractContextManager[None]]


class Memo:
    """A cache by key and time. The same question asked twice at once is answered once."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._answers: dict[Hashable, tuple[float, asyncio.Task[msgspec.Raw]]] = {}
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="rpc")

    async def get(
        self, key: Hashable, seconds: float, work: Callable[[], Awaitable[msgspec.Raw]]
    ) -> msgspec.Raw:
        """The answer to ``key``, at most ``seconds`` old. Errors are not kept."""
        now = time.monotonic()
        known = self._answers.get(key)
        if known is not None and (now < known[0] or not known[1].done()):
            return await asyncio.shield(known[1])
        if len(self._answers) >= MAX_ANSWERS:
            self._answers = {k: each for k, each in self._answers.items() if now < each[0]}
            if len(self._answers) >= MAX_ANSWERS:
                self._answers.clear()
        task: asyncio.Task[msgspec.Raw] = asyncio.ensure_future(work())
        self._answers[key] = now + seconds, task
        try:
            return await asyncio.shield(task)
        except Exception:
            if self._answers.get(key, (0, None))[1] is task:
                del self._answers[key]
            raise

    async def in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """Call what waits for the database, without the event loop waiting too."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, _guarded, self._guard, function, args)

    def close(self) -> None:
        """Give the threads back."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _guarded(guard: Guard, function: Callable[..., T], args: tuple[Any, ...]) -> T:
    with guard():
        try:
            return function(*args)
        finally:
            # Answers are kept, so calls are few: a connection each is simpler than minding idle
            # ones.
            connections.close_all()
