"""The hot reads of `prices.api`, from memory: what is not sure here is left to Django.

Each answers False, and has sent and counted nothing, where Django is to answer: other methods and
media types, symbols that are not known here, prices that are not there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from django.http import QueryDict

from market.query import ApiError
from prices import api, published
from prices.live.board import Board
from prices.live.entry import Entry
from prices.live.frame import Exchange, Frame
from prices.live.limiter import Limiter

SCOPE = "prices"  # of the limiter, as of the views
PATH = "/api/v1/prices"
MAX_QUERY = 512
_PLAIN = frozenset((b"*/*", b"application/json"))


class Reads:
    """GET /api/v1/prices, one price, one receipt."""

    def __init__(self, board: Board, limiter: Limiter, frame: Frame) -> None:
        self._board = board
        self._limiter = limiter
        self._frame = frame

    async def answer(self, scope: Mapping[str, Any], send: Any) -> bool:
        """Answer a path that starts with PATH; False: it is Django's."""
        query = scope["query_string"]
        if scope["method"] != "GET" or len(query) > MAX_QUERY:
            return False
        if query and (b"format" in query or not query.isascii()):
            return False
        rest = scope["path"][len(PATH) :]
        if rest == "":
            return await self._all(Exchange(scope, send, self._frame, "prices:all"))
        if rest[0] != "/":
            return False
        slug, _, more = rest[1:].partition("/")
        if more == "sources":
            return await self._receipt(Exchange(scope, send, self._frame, "prices:receipt"), slug)
        if more or rest.endswith("/"):
            return False
        return await self._one(Exchange(scope, send, self._frame, "prices:one"), slug)

    async def _one(self, exchange: Exchange, slug: str) -> bool:
        entry, now_ms = await self._entry(exchange, slug)
        if entry is None:
            return False
        error = None
        if query := exchange.scope["query_string"]:
            error = self._unmet(entry, query, now_ms)
        if not await self._passes(exchange):
            return True
        if error is not None:
            await exchange.fail(error)
        else:
            body = entry.json(now_ms, self._frame.render, away=self._board.away)
            await exchange.read(200, body)
        return True

    async def _receipt(self, exchange: Exchange, slug: str) -> bool:
        entry, now_ms = await self._entry(exchange, slug)
        if entry is None:
            return False
        body = published.receipt(entry.published, now_ms)
        if self._board.away:
            body["status"] = "stale"
        if await self._passes(exchange):
            await exchange.read(200, self._frame.render(body))
        return True

    async def _all(self, exchange: Exchange) -> bool:
        if not wants_json(exchange.headers):
            return False
        board = self._board
        await board.ensure()
        if not board.names:
            return False
        now_ms = time.time_ns() // 1_000_000
        found, missing = [], []
        for name in board.names:
            entry = board.published(name, now_ms)
            if entry is None:
                missing.append(name)
            else:
                found.append(entry.json(now_ms, self._frame.render, away=board.away))
        unavailable = self._frame.render(missing)
        if await self._passes(exchange):
            body = b'{"prices":[%b],"count":%d,"unavailable":%b}'
            await exchange.read(200, body % (b",".join(found), len(found), unavailable))
        return True

    async def _entry(self, exchange: Exchange, slug: str) -> tuple[Entry | None, int]:
        """The price asked for, if it is ours to answer, and now."""
        name = self._board.symbol(slug)
        if name is None or not wants_json(exchange.headers):
            return None, 0
        if not self._board.is_subscribed:
            await self._board.ensure((name,))
        now_ms = time.time_ns() // 1_000_000
        return self._board.published(name, now_ms), now_ms

    def _unmet(self, entry: Entry, query: bytes, now_ms: int) -> ApiError | None:
        """What the query asks of the price and it does not meet."""
        try:
            wanted = api.Strict.of(QueryDict(query))
            wanted.check(entry.body(now_ms, away=self._board.away))
        except ApiError as error:
            return error
        return None

    async def _passes(self, exchange: Exchange) -> bool:
        verdict = await exchange.count(self._limiter, SCOPE)
        if not verdict.allowed:
            await exchange.refuse(verdict)
        return verdict.allowed


def wants_json(headers: Mapping[bytes, bytes]) -> bool:
    """Does Django's negotiation surely choose plain JSON? Its first renderer is JSON."""
    accept = headers.get(b"accept", b"*/*")
    if accept in _PLAIN:
        return True
    if b";" in accept:
        return False  # parameters of the JSON, or an order of preference
    return b"application/json" in (part.strip() for part in accept.split(b","))
