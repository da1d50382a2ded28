"""POST /netron/invoke, /netron/batch and /netron/authenticate; GET /discover."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from django.db import InterfaceError, OperationalError
from redis.exceptions import RedisError

from oracle.ratelimit import Verdict
from prices.live.frame import Exchange, Frame, wait_seconds
from prices.live.limiter import Limiter
from prices.rpc import errors
from prices.rpc.authentication import read_credentials, token_of
from prices.rpc.errors import RpcError
from prices.rpc.registry import Answer, Context, MethodEntry, Registry
from prices.rpc.requests import (
    MAX_BODY_BYTES,
    Call,
    Options,
    arguments,
    read_batch,
    read_call,
    read_id,
    read_object,
)

PATHS = frozenset(("/netron/invoke", "/netron/batch", "/netron/authenticate", "/discover"))
VERSION = "2.0"
SCOPE = "rpc"  # of what is no call of a method
# Guessing passwords is not a price read.
LOGIN_SCOPE, LOGINS_PER_MINUTE = "rpc:authenticate", 10

_encode = msgspec.json.Encoder().encode

log = structlog.get_logger(__name__)


class Doors:
    """JSON-RPC over HTTP."""

    def __init__(
        self, registry: Registry, context: Context, limiter: Limiter, frame: Frame
    ) -> None:
        self._registry = registry
        self._context = context
        self._limiter = limiter
        self._frame = frame

    async def answer(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Answer a request to one of PATHS."""
        path = scope["path"]
        exchange = Exchange(scope, send, self._frame, f"rpc:{path.rpartition('/')[2]}")
        if path == "/discover":
            return await self._discover(exchange)
        if scope["method"] != "POST":
            error = RpcError(405, "405", f"POST it: {scope['method']} means nothing here")
            return await self._refuse(exchange, error, (b"allow", b"POST, OPTIONS"))
        try:
            text = await _read_body(exchange, receive)
        except RpcError as error:
            return await self._refuse(exchange, error, (b"connection", b"close"))
        if text is None:
            return
        if path == "/netron/invoke":
            await self._invoke(exchange, text)
        elif path == "/netron/batch":
            await self._batch(exchange, text)
        else:
            await self._authenticate(exchange, text)

    async def _refuse(
        self, exchange: Exchange, error: RpcError, header: tuple[bytes, bytes]
    ) -> None:
        """Answer what is not even read, with the header that belongs to it, and count it."""
        verdict = await exchange.count(self._limiter, SCOPE)
        await self._fail(exchange, None, _limited(verdict) or error, (header,))

    # --- one call ---

    async def _invoke(self, exchange: Exchange, text: bytes) -> None:
        started = time.perf_counter()
        try:
            call = read_call(text)
            method = self._registry.find(call.service, call.method)
        except RpcError as error:
            verdict = await exchange.count(self._limiter, SCOPE)
            return await self._fail(exchange, read_id(text), _limited(verdict) or error)
        exchange.view = method.scope
        verdict = await exchange.count(self._limiter, method.scope, method.limit)
        answer = _limited(verdict) or await self._call(call, method)
        if isinstance(answer, RpcError):
            return await self._fail(exchange, call.id, answer)
        took_ms = (time.perf_counter() - started) * 1_000
        body = (
            b'{"id":%b,"version":"2.0","timestamp":%d,"success":true,"data":%b,'
            b'"hints":{"metrics":{"serverTime":%.3f},"cache":{"maxAge":%d}}}'
        )
        await exchange.answer(
            200, body % (_encode(call.id), _now_ms(), bytes(answer), took_ms, method.cache_ms)
        )

    async def _call(self, call: Call, method: MethodEntry) -> Answer:
        """Call a method; whatever goes wrong is an RpcError."""
        try:
            return await method.call(self._context, arguments(call.input), _now_ms())
        except Exception as error:
            return _told(error, method.name)

    async def _fail(
        self,
        exchange: Exchange,
        call_id: str | None,
        error: RpcError,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        if error.status == 429:
            headers = (*headers, (b"retry-after", b"%d" % error.details["retryAfter"]))
        body = {
            "id": call_id,
            "version": VERSION,
            "timestamp": _now_ms(),
            "success": False,
            "error": error.body(),
        }
        await exchange.answer(error.status, self._frame.render(body), headers)

    # --- several calls ---

    async def _batch(self, exchange: Exchange, text: bytes) -> None:
        started = time.perf_counter()
        verdict = await exchange.count(self._limiter, SCOPE)
        try:
            if refusal := _limited(verdict):
                raise refusal
            batch = read_batch(text)
        except RpcError as error:
            return await self._fail(exchange, read_id(text), error)
        options = batch.options or Options()
        if options.parallel:
            items = await asyncio.gather(
                *(self._item(exchange, bytes(each)) for each in batch.requests)
            )
        else:
            items = []
            for each in batch.requests:
                items.append(await self._item(exchange, bytes(each)))
                if options.stop_on_error and not items[-1][0]:
                    break
        done = sum(success for success, _ in items)
        body = (
            b'{"id":%b,"version":"2.0","timestamp":%d,"responses":[%b],'
            b'"hints":{"successCount":%d,"failureCount":%d,"totalTime":%.3f}}'
        )
        took_ms = (time.perf_counter() - started) * 1_000
        responses = b",".join(item for _, item in items)
        numbers = (done, len(items) - done, took_ms)
        await exchange.answer(200, body % (_encode(batch.id), _now_ms(), responses, *numbers))

    async def _item(self, exchange: Exchange, text: bytes) -> tuple[bool, bytes]:
        """One of a batch: whether it went well, and its JSON. Counted like a call of its own."""
        try:
            call = read_call(text)
            method = self._registry.find(call.service, call.method)
        except RpcError as error:
            return False, self._item_error(read_id(text), error)
        verdict = await exchange.count(self._limiter, method.scope, method.limit)
        answer = _limited(verdict) or await self._call(call, method)
        if isinstance(answer, RpcError):
            return False, self._item_error(call.id, answer)
        return True, b'{"id":%b,"success":true,"data":%b}' % (_encode(call.id), bytes(answer))

    def _item_error(self, call_id: str | None, error: RpcError) -> bytes:
        return self._frame.render({"id": call_id, "success": False, "error": error.body()})

    # --- others ---

    async def _authenticate(self, exchange: Exchange, text: bytes) -> None:
        verdict = await exchange.count(self._limiter, LOGIN_SCOPE, LOGINS_PER_MINUTE)
        call_id = read_id(text)
        try:
            if refusal := _limited(verdict):
                raise refusal
            name, password = read_credentials(read_object(text))
            result = await self._context.memo.in_thread(token_of, name, password)
        except Exception as error:
            return await self._fail(exchange, call_id, _told(error, "authenticate"))
        body = {"id": call_id, "version": VERSION, "timestamp": _now_ms(), "success": True}
        await exchange.answer(200, self._frame.render(body | {"result": result, "data": result}))

    async def _discover(self, exchange: Exchange) -> None:
        verdict = await exchange.count(self._limiter, SCOPE)
        if refusal := _limited(verdict):
            return await self._fail(exchange, None, refusal)
        body = {
            "version": VERSION,
            "timestamp": _now_ms(),
            "success": True,
            "services": self._registry.description(),
        }
        await exchange.answer(200, self._frame.render(body))


async def _read_body(exchange: Exchange, receive: Any) -> bytes | None:
    """The request's body; None when the client left before its end. Raises RpcError, 413."""
    message = await receive()
    if message["type"] == "http.disconnect":
        return None
    body: bytes = message.get("body", b"")
    more = message.get("more_body", False)
    parts, size = [body], len(body)
    while True:
        if size > MAX_BODY_BYTES:
            raise RpcError(413, "413", f"a body has at most {MAX_BODY_BYTES} bytes")
        if not more:
            return b"".join(parts) if len(parts) > 1 else body
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)


def _told(error: Exception, method: str) -> RpcError:
    """What a client is told of an error of a method; what it is not told is logged."""
    if isinstance(error, RpcError):
        return error
    if isinstance(error, OperationalError | InterfaceError):
        log.warning("rpc.database_away", method=method, error=str(error))
        return RpcError.of(errors.DATABASE_AWAY, "the database does not answer")
    if isinstance(error, RedisError):
        log.warning("rpc.redis_away", method=method, error=str(error))
        return RpcError.of(errors.REDIS_AWAY, "the price store does not answer")
    log.error("rpc.failed", method=method, exc_info=error)
    return RpcError.of(errors.INTERNAL, "something went wrong here; it is logged")


def _limited(verdict: Verdict) -> RpcError | None:
    """The 429 to a request over the limit."""
    if verdict.allowed:
        return None
    seconds = wait_seconds(verdict)
    details = {"errorCode": "RATE_LIMITED", "retryAfter": seconds}
    return RpcError(429, "429", f"too many requests: try again in {seconds} s", details)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
