"""What every HTTP answer carries, on all doors alike: id, headers, CORS, count, time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from math import ceil
from random import getrandbits
from typing import Any

from django.conf import settings
from django.http.request import split_domain_port, validate_host
from prometheus_client import Histogram
from rest_framework.exceptions import Throttled

from oracle import metrics
from oracle.ratelimit import Verdict
from prices.live.entry import Render
from prices.live.limiter import Limiter, client_address

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_JSON = (b"content-type", b"application/json")
_ALLOW_READ = (b"allow", b"GET, HEAD, OPTIONS")

Header = tuple[bytes, bytes]
Describe = Callable[[Exception], tuple[int, dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What config shares with the edge. ``headers``: on every answer; ``exposed``: by CORS."""

    render: Render
    describe: Describe
    headers: Mapping[str, str]
    exposed: str

    @cached_property
    def fixed(self) -> list[Header]:
        """The headers of every answer, as ASGI wants them."""
        named = dict(self.headers)
        if settings.SIMULATED:
            named["X-Oracle-Simulated"] = "true"
        return [(name.lower().encode(), value.encode()) for name, value in named.items()]


class Exchange:
    """One HTTP request and its answer. ``view`` names it in the metrics."""

    __slots__ = ("_frame", "_send", "_started", "headers", "scope", "view")

    def __init__(self, scope: Mapping[str, Any], send: Any, frame: Frame, view: str) -> None:
        self._started = time.perf_counter()
        self._frame = frame
        self._send = send
        self.scope = scope
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.view = view

    async def count(self, limiter: Limiter, scope: str, limit: int | None = None) -> Verdict:
        """Count this request under its client's address; ``limit`` None: the setting."""
        if limit is None:
            limit = settings.RATE_LIMIT_PER_MINUTE
        return await limiter.take(peer_address(self.scope), scope, limit)

    async def answer(self, status: int, body: bytes, headers: Sequence[Header] = ()) -> None:
        """Answer with JSON."""
        head = [_JSON, (b"content-length", b"%d" % len(body)), *headers]
        await self.start(status, head)
        await self._send({"type": "http.response.body", "body": body})
        self.observe(status)

    async def read(self, status: int, body: bytes, headers: Sequence[Header] = ()) -> None:
        """Answer as a view does that can only be read."""
        await self.answer(status, body, (_ALLOW_READ, *headers))

    async def fail(self, error: Exception) -> None:
        """Answer with an error, in the one shape of all errors."""
        status, body = self._frame.describe(error)
        await self.read(status, self._frame.render(body), retry_after(status, body))

    async def refuse(self, verdict: Verdict) -> None:
        """Answer that there were too many requests."""
        await self.fail(Throttled(wait=wait_seconds(verdict)))

    async def start(self, status: int, headers: Sequence[Header]) -> None:
        """Send the status and all headers."""
        given = self.headers.get(b"x-request-id", b"")
        request_id = given if _REQUEST_ID.fullmatch(given) else b"%032x" % getrandbits(128)
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    *headers,
                    *self._origin(),
                    (b"x-request-id", request_id),
                    *self._frame.fixed,
                ],
            }
        )

    def observe(self, status: int) -> None:
        """Time the request."""
        _timer(self.view, status).observe(time.perf_counter() - self._started)

    def _origin(self) -> Sequence[Header]:
        """Let pages of the listed origins read the answer; never with the reader's cookies."""
        allowed = settings.CORS_ALLOWED_ORIGINS
        if not allowed:
            return ((b"vary", b"Accept"),)
        vary = (b"vary", b"Accept, Origin")
        origin = self.headers.get(b"origin")
        if not origin or not ("*" in allowed or origin.decode("latin-1") in allowed):
            return (vary,)
        return (
            vary,
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", self._frame.exposed.encode()),
        )


def peer_address(scope: Mapping[str, Any]) -> str:
    """The address that a connection is counted under."""
    client = scope.get("client")
    peer = client[0] if client else ""
    trusted = settings.TRUSTED_PROXIES
    if not trusted:
        return client_address(peer, "", ())
    hops = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return client_address(peer, b",".join(hops).decode("latin-1"), tuple(trusted))


def is_welcome(scope: Mapping[str, Any]) -> bool:
    """Is the connection secure enough, and meant for us? Django says what is wrong otherwise."""
    host = forwarded = b""
    for name, value in scope["headers"]:
        if name == b"host":
            host = value
        elif name == b"x-forwarded-proto":
            forwarded = value
    if not _is_our_host(host, tuple(settings.ALLOWED_HOSTS)):
        return False
    if not settings.SECURE_SSL_REDIRECT or scope["scheme"] in ("https", "wss"):
        return True
    proxied: Any = settings.SECURE_PROXY_SSL_HEADER
    return proxied is not None and forwarded.decode("latin-1") == proxied[1]


@lru_cache(maxsize=1_000)
def _is_our_host(host: bytes, allowed: tuple[str, ...]) -> bool:
    domain, _ = split_domain_port(host.decode("latin-1"))
    return bool(domain) and validate_host(domain, allowed)


def retry_after(status: int, body: Mapping[str, Any]) -> Sequence[Header]:
    """The header that a 429 says in its details too."""
    if status != 429:
        return ()
    return ((b"retry-after", b"%d" % body["error"]["details"]["retry_after"]),)


def wait_seconds(verdict: Verdict) -> int:
    """Whole seconds until the next request passes."""
    return max(1, ceil(verdict.retry_after_ms / 1_000))


@cache
def _timer(view: str, status: int) -> Histogram:
    """The metric's child: looking it up by its labels costs more than the observation."""
    return metrics.API_DURATION.labels(view, str(status))
