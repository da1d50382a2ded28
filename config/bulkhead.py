"""What a store that hangs may cost the web: some of its threads, and never all of them.

Prices need Redis only. Were every thread waiting for a database that hangs, nobody would answer for
them, nor say that the process lives.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from threading import Condition
from typing import Any

from django.db import OperationalError, connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from oracle.connection import quickly

# Half of config.asgi.THREADS: the others are for who does not need the database.
SEATS = 8
PATIENCE_SECONDS = 0.5


class Bulkhead:
    """So many ``seats``; who comes to a full house waits for as long as others are leaving it.

    While work is slow but flows, all get in. After ``patience_seconds`` in which nobody left,
    something hangs in there: who waits is refused, and who comes later is refused at once.
    """

    def __init__(self, *, seats: int, patience_seconds: float) -> None:
        self._free = seats
        self._patience_seconds = patience_seconds
        self._moved = time.monotonic()
        self._left = Condition()

    def enter(self) -> bool:
        """Take a seat; False when there is none."""
        with self._left:
            while not self._free:
                seconds = self._moved + self._patience_seconds - time.monotonic()
                if seconds <= 0:
                    return False
                self._left.wait(seconds)
            self._free -= 1
            self._moved = time.monotonic()
            return True

    def leave(self) -> None:
        """Give a seat back."""
        with self._left:
            self._free += 1
            self._moved = time.monotonic()
            self._left.notify()


@dataclass(slots=True)
class _Visit:
    """A request's seat in the database: from its first question to its end."""

    seated: bool = False


_visit: ContextVar[_Visit | None] = ContextVar("visit", default=None)


@cache
def _database() -> Bulkhead:
    return Bulkhead(seats=SEATS, patience_seconds=PATIENCE_SECONDS)


@contextmanager
def visiting() -> Iterator[None]:
    """What is asked of the stores in here is asked for somebody who waits for an answer."""
    visit = _Visit()
    before = _visit.set(visit)
    try:
        with quickly():
            yield
    finally:
        _end(visit)
        _visit.reset(before)


def bulkhead(
    get_response: Callable[[HttpRequest], HttpResponse | StreamingHttpResponse],
) -> Callable[..., HttpResponse | StreamingHttpResponse]:
    """Middleware: a request to Django is a visit. The edge's calls are ones too (config.asgi)."""

    def answer(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
        with visiting():
            response: Any = get_response(request)
        if response.streaming:
            response.streaming_content = _visits(iter(response))
        answered: HttpResponse | StreamingHttpResponse = response
        return answered

    return answer


def _visits(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The parts of a streamed answer, each a visit: no seat is kept while its reader is slow."""
    while True:
        with visiting():
            part = next(parts, None)
        if part is None:
            return
        yield part


def in_request() -> bool:
    """Whether somebody waits for what is asked."""
    return _visit.get() is not None


def be_seated() -> None:
    """To be called before anything is asked of the database. Raises OperationalError."""
    visit = _visit.get()
    if visit is None or visit.seated:
        return
    if not _database().enter():
        raise OperationalError(f"{SEATS} web requests wait for the database already")
    visit.seated = True


def _end(visit: _Visit) -> None:
    if not visit.seated:
        return
    try:
        # Django would ask a connection that failed if it still works, after this and before the
        # next request: without a seat, and for as long as the database hangs. A new one is cheap.
        if connection.errors_occurred and not connection.in_atomic_block:
            connection.close()
    finally:
        _database().leave()
