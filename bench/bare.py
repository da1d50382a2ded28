"""The floor of the trade pipeline: the same messages off the same socket, put into Redis raw.

Neither read nor checked, numbered or added up. Whatever has come while Redis answered goes in one
entry.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import uvloop
from django.conf import settings
from redis.asyncio import Redis
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from bench.exchange import exchange

STREAM = "bench:bare"


def relay(*, trades: int, per_second: int = 0) -> tuple[float, list[float]]:
    """Seconds it took, and the milliseconds from the socket to the log of each entry."""
    with exchange(trades=trades, per_second=per_second) as sender:
        return uvloop.run(_relay(sender.url.replace("http", "ws"), trades))


async def _relay(url: str, trades: int) -> tuple[float, list[float]]:
    redis, filled = Redis.from_url(settings.REDIS_URL), asyncio.Event()
    waiting: list[bytes] = []
    delays: list[float] = []

    async def write() -> None:
        written = 0
        while written < trades:
            await filled.wait()
            filled.clear()
            batch = waiting.copy()
            waiting.clear()
            entry: Any = await redis.xadd(STREAM, {"raw": b"".join(batch)}, maxlen=1_000)
            written += len(batch)
            sent_ms = json.loads(batch[0])["E"]
            delays.append(int(entry.split(b"-")[0]) - sent_ms)

    async with connect(url, compression=None) as socket:
        await socket.send(json.dumps({"method": "SUBSCRIBE", "id": 1}))
        await socket.recv()
        started, writing = time.perf_counter(), asyncio.create_task(write())
        try:
            for _ in range(trades):
                waiting.append(await socket.recv(decode=False))
                filled.set()
        except ConnectionClosed as error:
            raise RuntimeError("the exchange went away") from error
        await writing
    taken = time.perf_counter() - started
    await redis.aclose()
    return taken, delays
