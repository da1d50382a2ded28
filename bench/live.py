"""The live edge under load: cached reads over REST and JSON-RPC, and a thousand streams.

Floor of the reads: an empty ASGI application under the same server, asked by the same load
generator, in the same run. The limiter counts and the metrics observe, as in production.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from bench.figures import Figure
from bench.processes import ROOT, free_port, listens, running, until
from oracle import catalog, price_board
from oracle.catalog import Catalog, CatalogSymbol
from oracle.values import Price, Source

CONNECTIONS = 32
SYMBOLS = tuple(f"C{number}/USDT" for number in range(20))
NO_LIMIT = "10000000"
START_SECONDS = 30
FLOOR = "an empty ASGI application under the same server, in the same run"

_GET = "GET /api/v1/prices/c0-usdt HTTP/1.1\r\nHost: localhost\r\n\r\n"
_CALL = (
    '{"id":"1","service":"PricesService@2.0.0","method":"getPrice","input":[{"pair":"c0-usdt"}]}'
)
_POST = (
    "POST /netron/invoke HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(_CALL)}\r\n\r\n{_CALL}"
)
_STREAM = "GET /api/v1/stream?symbols=c0-usdt HTTP/1.1\r\nHost: localhost\r\n\r\n"


def measure_reads(*, seconds: float) -> list[Figure]:
    """GET of one price."""
    return _measure("price_read", _GET, seconds)


def measure_calls(*, seconds: float) -> list[Figure]:
    """getPrice."""
    return _measure("rpc_get_price", _POST, seconds)


def measure_streams(clients: int, *, seconds: float) -> list[Figure]:
    """The slowest update to any of ``clients``; every one must get every update."""
    with _prices(), _server("config.asgi:application") as port:
        found = _load("listen", port, _STREAM, connections=clients, seconds=seconds)
    if found["updates"] < 3 or found["complete"] != found["updates"]:
        raise RuntimeError(f"not every client got every update: {found}")
    return [Figure(name=f"sse_{clients}", value=found["max_ms"], unit="ms", limit=1_000)]


def _measure(name: str, request: str, seconds: float) -> list[Figure]:
    # The empty application before and after: other work on the machine comes and goes.
    floors = [_floor(request, seconds / 2)]
    with _prices(), _server("config.asgi:application") as port:
        found = _load("read", port, request, connections=CONNECTIONS, seconds=seconds)
    floors.append(_floor(request, seconds / 2))
    if set(found["statuses"]) != {"200"}:
        raise RuntimeError(f"not all was answered: {found['statuses']}")
    return [
        Figure(
            name=name,
            value=found["per_second"],
            unit="/s",
            floor=sum(floors) / len(floors),
            floor_is=FLOOR,
            at_least=10_000,
            min_ratio=0.2,
        ),
        Figure(name=f"{name}_p50", value=found["p50_ms"], unit="ms", limit=10),
        Figure(name=f"{name}_p99", value=found["p99_ms"], unit="ms", limit=100),
    ]


def _floor(request: str, seconds: float) -> float:
    with _server("bench.empty:application") as port:
        found = _load("read", port, request, connections=CONNECTIONS, seconds=seconds)
    return float(found["per_second"])


def _load(what: str, port: int, request: str, *, connections: int, seconds: float) -> Any:
    command = (sys.executable, "-m", "bench.clients", what, "--port", str(port))
    amount = ("--connections", str(connections), "--seconds", str(seconds))
    done = subprocess.run(
        (*command, *amount), input=request.encode(), stdout=subprocess.PIPE, check=True, cwd=ROOT
    )
    return json.loads(done.stdout)


@contextmanager
def _server(application: str) -> Iterator[int]:
    """The application under uvicorn as in production; its port."""
    port = free_port()
    command = (
        *("-m", "uvicorn", application, "--port", str(port)),
        *("--no-proxy-headers", "--no-access-log", "--no-server-header", "--log-level", "warning"),
    )
    # All clients are of one address: ours.
    with running(*command, RATE_LIMIT_PER_MINUTE=NO_LIMIT, STREAMS_PER_ADDRESS="10000"):
        until(lambda: listens(port), seconds=START_SECONDS, what="the web server")
        yield port


@contextmanager
def _prices() -> Iterator[None]:
    """Prices of SYMBOLS that are made anew each second, as the index does."""
    catalog.publish(
        Catalog(
            exchanges=("okx",),
            symbols=tuple(
                CatalogSymbol(name=name, base=name.split("/")[0], quote="USDT", min_sources=1)
                for name in SYMBOLS
            ),
        )
    )
    stop = threading.Event()

    def publish() -> None:
        while not stop.is_set():
            now_ms = time.time_ns() // 1_000_000
            prices = [_price(name, now_ms) for name in SYMBOLS]
            price_board.publish(prices, now_ms=now_ms, token=f"{now_ms:016d}")
            stop.wait(1)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _price(name: str, now_ms: int) -> Price:
    sources = tuple(
        Source(
            exchange=exchange,
            exchange_symbol="X",
            price=Decimal("42150.5"),
            native_price=Decimal("42150.5"),
            weight=Decimal(10),
            volume=Decimal(1),
            as_of_ms=now_ms - 300,
            kept=True,
        )
        for exchange in ("binance", "bybit", "kraken", "kucoin", "okx")
    )
    return Price(
        symbol=name,
        price=Decimal("42150.5") + now_ms % 7,
        method="vwap",
        status="fresh",
        timestamp_ms=now_ms,
        as_of_ms=now_ms - 300,
        confidence=Decimal("0.5"),
        spread_bps=Decimal("1.2"),
        stdev=Decimal("0.4"),
        variance=Decimal("0.16"),
        source_count=5,
        outliers_removed=0,
        sources=sources,
    )
