"""The HTTP client against real sockets that behave badly."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ingestion import http
from ingestion.adapter import Answer, Request
from ingestion.http import FetchError
from oracle.values import ErrorCode

NOW_MS = 1_790_000_000_000
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Used: 7\r\n\r\n{}"
_names = count()

Behaviour = Callable[[socket.socket], None]


class Server:
    """Accepts connections and gives each to ``behave`` in a thread of its own."""

    def __init__(self, behave: Behaviour) -> None:
        self.connection_count = 0
        self.requests: list[bytes] = []
        self.ended = threading.Event()
        self._behave = behave
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connection_count += 1
                self._sockets.append(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError), sock:
            while not self.ended.is_set():
                request = b""
                while not request.endswith(b"\r\n\r\n"):
                    got = sock.recv(65_536)
                    if not got:
                        return
                    request += got
                self.requests.append(request)
                self._behave(sock)

    def close(self) -> None:
        self.ended.set()
        for sock in (self._listener, *self._sockets):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


@contextmanager
def serving(behave: Behaviour) -> Iterator[Server]:
    server = Server(behave)
    try:
        yield server
    finally:
        server.close()


def say(*parts: bytes) -> Behaviour:
    return lambda sock: sock.sendall(b"".join(parts))


def drip(head: bytes, drop: bytes) -> Behaviour:
    def behave(sock: socket.socket) -> None:
        sock.sendall(head)
        while True:
            sock.sendall(drop)
            time.sleep(0.02)

    return behave


@pytest.fixture(autouse=True)
def _quick(settings: Any) -> None:
    settings.HTTP_CONNECT_TIMEOUT_MS = 200
    settings.HTTP_TOTAL_TIMEOUT_MS = 400


@pytest.fixture
def exchange() -> Iterator[str]:
    """A name whose connections nobody else has used; they are closed after the test."""
    name = f"test{next(_names)}"
    yield name
    for session in http._idle_sessions(name):
        session.close()


def ask(exchange: str, url: str, path: str = "/x", **fields: Any) -> Answer:
    return http.send(exchange, url, Request(path=path, **fields), now_ms=NOW_MS)


def failure(exchange: str, url: str) -> FetchError:
    with pytest.raises(FetchError) as caught:
        ask(exchange, url)
    return caught.value


def test_send_answer_is_status_headers_body_and_the_time_of_its_end(exchange: str) -> None:
    late = b'HTTP/1.1 418 Teapot\r\nContent-Length: 3\r\nRetry-After: 5\r\n\r\n{"'

    def behave(sock: socket.socket) -> None:
        sock.sendall(late)
        time.sleep(0.1)
        sock.sendall(b"a")

    with serving(behave) as server:
        answer = ask(exchange, server.url)
    assert (answer.status, answer.body) == (418, b'{"a')
    assert dict(answer.headers) == {"content-length": "3", "retry-after": "5"}
    assert 100 <= answer.received_ms - NOW_MS < 400


def test_send_request_has_our_headers_and_parameters_and_no_origin(
    exchange: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    cookie = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=b; Path=/\r\n\r\n{}"
    with serving(say(cookie)) as server:
        params = (("symbols", '["BTC","ETH"]'), ("limit", "2"))
        ask(exchange, server.url, "/api/v3/t", params=params)
        ask(exchange, server.url, method="POST")
    host = server.url.removeprefix("http://")
    first, second = (request.decode().split("\r\n") for request in server.requests)
    assert first[0] == "GET /api/v3/t?symbols=%5B%22BTC%22%2C%22ETH%22%5D&limit=2 HTTP/1.1"
    assert sorted(line for line in first[1:] if line) == [
        "Accept-Encoding: gzip",
        "Accept: application/json",
        f"Host: {host}",
        "User-Agent: token-price-oracle/1.0",
    ]
    assert second[0] == "POST /x HTTP/1.1"
    assert not [line for line in second if line.startswith("Cookie")]


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=[
        "status line",
        "headers",
        "body to the end",
        "body of a length",
        "chunks",
        "informational",
    ],
)
def test_send_dripping_server_ends_at_the_total_deadline(
    exchange: str, head: bytes, drop: bytes
) -> None:
    with serving(drip(head, drop)) as server:
        started = time.monotonic()
        error = failure(exchange, server.url)
        took = time.monotonic() - started
    assert (error.code, error.retryable) == (ErrorCode.TIMEOUT, True)
    assert 0.3 < took < 0.7


def test_send_dripping_gzip_ends_at_the_total_deadline(exchange: str) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    empty_block = b"5\r\n\x00\x00\x00\xff\xff\r\n"  # a stored block of no bytes, for ever
    start = gzip.compress(b"")[:10]
    with serving(drip(head + b"a\r\n" + start + b"\r\n", empty_block)) as server:
        started = time.monotonic()
        error = failure(exchange, server.url)
    assert error.code == ErrorCode.TIMEOUT
    assert time.monotonic() - started < 0.7


def test_send_half_open_server_times_out(exchange: str) -> None:
    with serving(lambda sock: time.sleep(1)) as server:
        error = failure(exchange, server.url)
    assert error.code == ErrorCode.TIMEOUT


def test_send_server_that_never_accepts_times_out_by_the_connect_timeout(exchange: str) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        # One waits in the queue: the next one's SYN is not answered.
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        started = time.monotonic()
        error = failure(exchange, f"http://127.0.0.1:{address[1]}")
        took = time.monotonic() - started
        for filler in fillers:
            filler.close()
    assert error.code == ErrorCode.TIMEOUT
    assert 0.1 < took < 0.35


def test_send_many_dead_addresses_share_the_connect_timeout(
    exchange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as dead,
        serving(say(OK)) as server,
    ):
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(dead.getsockname())
        alive = ("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
            for address in (dead.getsockname(), alive)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: found)
        answer = ask(exchange, "http://localhost:1")
        monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: found[:1] * 8)
        started = time.monotonic()
        error = failure(f"{exchange}-dead", "http://localhost:1")
        took = time.monotonic() - started
        for filler in fillers:
            filler.close()
    assert answer.body == b"{}"
    assert error.code == ErrorCode.TIMEOUT
    assert took < 0.35


def test_send_closed_port_is_a_connection_error(exchange: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = failure(exchange, f"http://127.0.0.1:{port}")
    assert (error.code, error.retryable) == (ErrorCode.CONNECTION, True)
    assert "refused" in error.detail


def test_send_name_that_does_not_resolve_is_a_connection_error(
    exchange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise socket.gaierror("Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert failure(exchange, "http://localhost:1").code == ErrorCode.CONNECTION


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    sock.close()


def cut(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    sock.close()


@pytest.mark.parametrize("behave", [reset, cut, socket.socket.close, say(b"nonsense\r\n\r\n")])
def test_send_broken_connection_is_a_connection_error(exchange: str, behave: Behaviour) -> None:
    with serving(behave) as server:
        assert failure(exchange, server.url).code == ErrorCode.CONNECTION


def test_send_endless_body_is_cut_at_the_cap(
    exchange: str, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.HTTP_TOTAL_TIMEOUT_MS = 10_000
    monkeypatch.setattr(http, "MAX_BODY_BYTES", 1_000_000)

    def behave(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sock.sendall(b" " * 65_536)

    with serving(behave) as server:
        error = failure(exchange, server.url)
    assert (error.code, "1000000 bytes" in error.detail) == (ErrorCode.UNREADABLE, True)


def test_send_gzip_bomb_is_cut_at_the_cap(exchange: str, settings: Any) -> None:
    settings.HTTP_TOTAL_TIMEOUT_MS = 10_000
    bomb = gzip.compress(b"\0" * 200_000_000, compresslevel=1)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    with serving(say(head.encode(), bomb)) as server:
        error = failure(exchange, server.url)
    assert error.code == ErrorCode.UNREADABLE


def test_send_gzip_body_is_decompressed(exchange: str) -> None:
    body = gzip.compress(b'{"price":"1"}')
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    with serving(say(head.encode() + body)) as server:
        assert ask(exchange, server.url).body == b'{"price":"1"}'


def test_send_false_gzip_is_unreadable(exchange: str) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nplain"
    with serving(say(head)) as server:
        assert failure(exchange, server.url).code == ErrorCode.UNREADABLE


def test_send_redirect_is_an_error_and_not_followed(exchange: str) -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    with serving(say(head)) as server:
        error = failure(exchange, server.url)
    assert (error.code, error.retryable) == (ErrorCode.EXCHANGE_ERROR, False)
    assert error.detail == "HTTP 302 redirects to /elsewhere"
    assert len(server.requests) == 1


def test_send_many_requests_of_many_threads_use_one_connection(exchange: str) -> None:
    with serving(say(OK)) as server:
        for _ in range(20):
            thread = threading.Thread(target=ask, args=(exchange, server.url))
            thread.start()
            thread.join()
    assert (len(server.requests), server.connection_count) == (20, 1)


def test_send_at_the_same_time_each_has_a_connection_of_its_own(exchange: str) -> None:
    both = threading.Barrier(2)

    def behave(sock: socket.socket) -> None:
        both.wait(timeout=5)
        sock.sendall(OK)

    with serving(behave) as server:
        other = threading.Thread(target=ask, args=(exchange, server.url))
        other.start()
        assert ask(exchange, server.url).body == b"{}"
        other.join()
    assert server.connection_count == 2


def test_send_after_the_server_closed_the_idle_connection_connects_again(exchange: str) -> None:
    closed = threading.Event()

    def behave(sock: socket.socket) -> None:
        sock.sendall(OK)
        sock.close()
        closed.set()

    with serving(behave) as server:
        for _ in range(3):
            assert ask(exchange, server.url).body == b"{}"
            assert closed.wait(5)
            closed.clear()
    assert server.connection_count == 3


def test_send_after_a_failure_works_again(exchange: str) -> None:
    answers = iter([drip(b"", b"H"), say(OK)])
    with serving(lambda sock: next(answers)(sock)) as server:
        assert failure(exchange, server.url).code == ErrorCode.TIMEOUT
        assert ask(exchange, server.url).body == b"{}"


def test_send_goes_through_the_proxy_of_the_environment(
    exchange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(say(OK)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        assert ask(exchange, "http://exchange.test").body == b"{}"
    assert proxy.requests[0].startswith(b"GET http://exchange.test/x HTTP/1.1\r\n")
