"""Answers that were worked out a moment ago, and those being worked out right now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar

import msgspec
from django.db import connections

# A chart may have a megabyte.
MAX_ANSWERS, MAX_BYTES = 2_000, 64 * 1_024 * 1_024
SWEEP_SECONDS = 5.0
# Twice as many as the guard lets through to the database: were all of them waiting for one that
# hangs, nobody would be left to refuse those who come later.
THREADS = 16

T = TypeVar("T")
Guard = Callable[[], AbstractContextManager[None]]


class Memo:
    """A cache by key and time. The same question asked twice at once is answered once."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        # By key: until when it is good, and what works or has worked it out.
        self._answers: dict[Hashable, tuple[float, asyncio.Task[msgspec.Raw]]] = {}
        self._bytes = 0  # of all answers, or more
        self._swept_at = time.monotonic()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="rpc")

    async def get(
        self, key: Hashable, seconds: float, work: Callable[[], Awaitable[msgspec.Raw]]
    ) -> msgspec.Raw:
        """The answer to ``key``, at most ``seconds`` old. Errors are raised, and not kept."""
        now = time.monotonic()
        known = self._answers.get(key)
        if known is not None and (now < known[0] or not known[1].done()):
            return await asyncio.shield(known[1])
        self._make_room(now)
        task: asyncio.Task[msgspec.Raw] = asyncio.ensure_future(work())
        self._answers[key] = now + seconds, task
        # Not after the wait for it: who waits may be gone by then, and an error would stay.
        task.add_done_callback(partial(self._settle, key))
        return await asyncio.shield(task)

    def _settle(self, key: Hashable, task: asyncio.Task[msgspec.Raw]) -> None:
        if _is_answered(task):
            self._bytes += len(task.result())
        elif self._answers.get(key, (0, None))[1] is task:
            del self._answers[key]

    def _make_room(self, now: float) -> None:
        """Drop the answers that are too old; all of them where that leaves too many."""
        is_full = len(self._answers) >= MAX_ANSWERS or self._bytes >= MAX_BYTES
        if not is_full and now - self._swept_at < SWEEP_SECONDS:
            return
        self._swept_at = now
        self._answers = {
            key: (until, task)
            for key, (until, task) in self._answers.items()
            if now < until or not task.done()
        }
        kept = [task for _, task in self._answers.values() if _is_answered(task)]
        self._bytes = sum(len(task.result()) for task in kept)
        if len(self._answers) >= MAX_ANSWERS or self._bytes >= MAX_BYTES:
            self._answers.clear()
            self._bytes = 0

    async def in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """Call what waits for the database, without the event loop waiting too."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, _guarded, self._guard, function, args)

    def close(self) -> None:
        """Give the threads back."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _is_answered(task: asyncio.Task[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _guarded(guard: Guard, function: Callable[..., T], args: tuple[Any, ...]) -> T:
    with guard():
        try:
            return function(*args)
        finally:
            # Answers are kept, so calls are few: a connection each is simpler than minding idle
            # ones.
            connections.close_all()
