"""The one HTTP client: every call to an exchange goes through `send`, and ends within its deadline.

A timeout of a socket bounds one read, not their number: a server that drips a byte a second holds
its caller for ever. Here each read may last only until the answer's deadline. Resolving a name is
the one step that no deadline reaches: the system's resolver keeps its own.
"""

from __future__ import annotations

import http.client
import io
import socket
from collections import deque
from collections.abc import Mapping
from contextlib import closing
from functools import cache
from http.cookiejar import DefaultCookiePolicy
from time import monotonic
from typing import Any

import requests
from django.conf import settings
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
)

from ingestion.adapter import Answer, Request
from oracle.values import ErrorCode

MAX_BODY_BYTES = 16 * 1024 * 1024  # after decompression; the longest real answer has 2 MB
MAX_DETAIL_CHARS = 200
CHUNK_BYTES = 65_536
# No Origin header, ever: Upbit answers it with a tenth of the rate.
HEADERS = {
    "User-Agent": "token-price-oracle/1.0",
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
}


class FetchError(Exception):
    """No answer came. ``retryable``: the same call may succeed the next time."""

    def __init__(self, code: ErrorCode, detail: str, *, retryable: bool = True) -> None:
        super().__init__(detail[:MAX_DETAIL_CHARS])
        self.code = code
        self.detail = detail[:MAX_DETAIL_CHARS]
        self.retryable = retryable


def send(exchange: str, base_url: str, request: Request, *, now_ms: int) -> Answer:
    """Send ``request`` and return the whole answer, whatever its status.

    ``received_ms`` of the answer is ``now_ms`` plus the time it took. There is no retry: the next
    second is the retry. Raises FetchError when there is no answer, a redirect, or a body that is
    too long or cannot be decompressed.
    """
    started = monotonic()
    timeout = Timeout(
        connect=settings.HTTP_CONNECT_TIMEOUT_MS / 1000, total=settings.HTTP_TOTAL_TIMEOUT_MS / 1000
    )
    idle = _idle_sessions(exchange)
    session = idle.pop() if idle else _session()
    try:
        status, headers, body = _exchange(session, base_url + request.path, request, timeout)
    except requests.RequestException as error:
        raise _fetch_error(error) from error
    finally:
        idle.append(session)
    received_ms = now_ms + round((monotonic() - started) * 1000)
    return Answer(body=body, received_ms=received_ms, status=status, headers=headers)


def _exchange(
    session: requests.Session, url: str, request: Request, timeout: Timeout
) -> tuple[int, Mapping[str, str], bytes]:
    response = session.request(
        request.method,
        url,
        params=request.params,
        timeout=timeout,  # type: ignore[arg-type]  # requests takes urllib3's, its stubs do not
        allow_redirects=False,
        stream=True,
    )
    # Closing gives the connection back when the body was read to its end, and cuts it otherwise.
    with closing(response):
        if 300 <= response.status_code < 400:
            target = response.headers.get("location", "nowhere")
            detail = f"HTTP {response.status_code} redirects to {target}"
            raise FetchError(ErrorCode.EXCHANGE_ERROR, detail, retryable=False)
        body = bytearray()
        for chunk in response.iter_content(CHUNK_BYTES):
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                detail = f"the body has more than {MAX_BODY_BYTES} bytes"
                raise FetchError(ErrorCode.UNREADABLE, detail)
    headers = {name.lower(): value for name, value in response.headers.items()}
    return response.status_code, headers, bytes(body)


def _fetch_error(error: requests.RequestException) -> FetchError:
    reason: Any = error.args[0] if error.args else None
    reason = getattr(reason, "reason", None) or reason  # what a MaxRetryError wraps
    detail = f"{type(reason).__name__}: {reason}"
    # A read that timed out within the body is no requests.Timeout.
    if isinstance(error, requests.Timeout) or isinstance(reason, ReadTimeoutError):
        return FetchError(ErrorCode.TIMEOUT, detail)
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return FetchError(ErrorCode.UNREADABLE, detail)
    return FetchError(ErrorCode.CONNECTION, detail)


# --- sessions: one in use at a time each, so threads share connections, not sessions ---


@cache
def _idle_sessions(exchange: str) -> deque[requests.Session]:
    """The exchange's sessions that nobody uses, the last used one on top: its connection is warm.

    A lock lets one fetch of an exchange run at a time, so there is hardly ever a second. A session
    to each thread would keep as many connections as threads, each idle until the server drops it.
    """
    return deque()


def _session() -> requests.Session:
    session = requests.Session()
    session.headers.clear()
    session.headers.update(HEADERS)
    session.auth = _no_auth  # with none, requests would look for a password in ~/.netrc
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    for scheme in ("http://", "https://"):
        session.mount(scheme, _DeadlineAdapter(pool_connections=1, pool_maxsize=1))
    return session


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


# --- deadlines ---


class _DeadlineReader(io.RawIOBase):
    """The read end of a socket; each read waits only for what is left until ``deadline``."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, deadline: float) -> None:
        self._sock = sock
        self._raw = raw
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    """An answer whose status line, headers and body together end by one deadline.

    urllib3 has just set the socket's timeout to what is left of the call's total.
    """

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        left = sock.gettimeout()
        if left is not None:
            raw: Any = self.fp.detach()
            self.fp = io.BufferedReader(_DeadlineReader(sock, raw, monotonic() + left))


class _BoundedConnect(HTTPConnection):
    """A connection that is made within the connect timeout, however many addresses a host has.

    urllib3 gives each address the whole timeout: eight dead ones would hold a thread for eight.
    """

    response_class = _DeadlineResponse

    def _new_conn(self) -> socket.socket:
        try:
            return self._connect(monotonic() + (self.timeout or 0))
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"no connection to {self.host} in time") from error
        except OSError as error:
            raise NewConnectionError(self, f"no connection to {self.host}: {error}") from error

    def _connect(self, deadline: float) -> socket.socket:
        addresses = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        failure: OSError = TimeoutError("no address answered")
        for number, (family, kind, protocol, _, address) in enumerate(addresses, start=1):
            left = deadline - monotonic()
            if left <= 0:
                break
            # Half of what is left while there are others: one dead address must not cost them all.
            sock = socket.socket(family, kind, protocol)
            sock.settimeout(left if number == len(addresses) else left / 2)
            try:
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                sock.connect(address)
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        raise failure


class _BoundedTLSConnect(_BoundedConnect, HTTPSConnection):
    """The same over TLS; OpenSSL's handshake keeps the socket's timeout as a whole."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _BoundedConnect


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _BoundedTLSConnect


class _DeadlineAdapter(HTTPAdapter):
    """requests' transport over the pools above, with and without a proxy."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
        return manager
