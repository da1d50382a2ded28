"""Clients of the web server: ``python -m bench.clients``, a process of its own, raw HTTP/1.1.

Prints one line of JSON. Keep-alive connections, each with one request under way: as many clients
as there are connections, none of which waits between its requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from collections import Counter
from typing import Any

import uvloop

from bench.figures import percentile

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_ID = re.compile(rb'"timestamp":(\d+)')


class Requester(asyncio.Protocol):
    """One connection that asks, reads the answer and asks again."""

    def __init__(self, request: bytes, taken: list[float], statuses: Counter[bytes]) -> None:
        self._request = request
        self._taken = taken
        self._statuses = statuses
        self._data = b""
        self._need = 0
        self.is_done = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._asked_at = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        data = self._data + data if self._data else data
        head, separator, body = data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if separator else None
        if length is None or len(body) < int(length[1]):
            self._data = data
            return
        self._data = b""
        self._taken.append(time.perf_counter() - self._asked_at)
        self._statuses[head[9:12]] += 1
        if not self.is_done:
            self._ask()


class Stream(asyncio.Protocol):
    """One SSE client: when each update came, counted from the time that is in it."""

    def __init__(self, request: bytes, lags: list[float], counts: Counter[int]) -> None:
        self._request = request
        self._lags = lags
        self._counts = counts
        self._data = b""

    def connection_made(self, transport: Any) -> None:
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        data = self._data + data
        whole, _, self._data = data.rpartition(b"\n\n")
        now_ms = time.time_ns() / 1_000_000
        for match in _ID.finditer(whole):
            at_ms = int(match[1])
            self._lags.append(now_ms - at_ms)
            self._counts[at_ms] += 1


async def read(host: str, port: int, request: bytes, connections: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    taken: list[float] = []
    statuses: Counter[bytes] = Counter()
    made = [
        await loop.create_connection(lambda: Requester(request, taken, statuses), host, port)
        for _ in range(connections)
    ]
    await asyncio.sleep(1)  # caches, scripts and the branch predictor are warm
    taken.clear()
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    count, elapsed = len(taken), time.perf_counter() - started
    for _, protocol in made:
        protocol.is_done = True
    say(
        per_second=count / elapsed,
        p50_ms=percentile(taken, 0.5) * 1_000,
        p99_ms=percentile(taken, 0.99) * 1_000,
        statuses={status.decode(): number for status, number in statuses.items()},
    )


async def listen(host: str, port: int, request: bytes, connections: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    lags: list[float] = []
    counts: Counter[int] = Counter()
    for _ in range(connections):
        await loop.create_connection(lambda: Stream(request, lags, counts), host, port)
    await asyncio.sleep(1)
    lags.clear()
    counts.clear()
    await asyncio.sleep(seconds)
    lags.sort()
    updates = sorted(counts)[1:-1]  # the first and the last may have been cut
    say(
        updates=len(updates),
        complete=sum(counts[at_ms] == connections for at_ms in updates),
        p50_ms=percentile(lags, 0.5),
        p99_ms=percentile(lags, 0.99),
        max_ms=lags[-1],
    )


def say(**result: object) -> None:
    print(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.clients", description=__doc__)
    parser.add_argument("what", choices=("read", "listen"))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    request = sys.stdin.buffer.read()
    action = read if arguments.what == "read" else listen
    uvloop.run(
        action(arguments.host, arguments.port, request, arguments.connections, arguments.seconds)
    )


if __name__ == "__main__":
    main()
