"""The edge under a real uvicorn on a free port, with prices in a real Redis."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from decimal import Decimal

import pytest
import requests
import uvicorn

from oracle import catalog, keys, rate_board
from oracle.catalog import Catalog, CatalogSymbol
from oracle.connection import redis_client
from oracle.rate_board import Rate
from prices.live.app import Edge
from tests.oracle.test_price_board import price, publish

D = Decimal
NAMES = ("BTC/USDT", "ETH/USDT", "PEPE/USDT", "XMR/USDT")


def now_ms():
    return time.time_ns() // 1_000_000


def wait_for(condition, *, seconds=5.0):
    """Until ``condition`` gives something true, which is returned."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
    return found


def publish_catalog(names=NAMES):
    symbols = tuple(
        CatalogSymbol(name=name, base=name.split("/")[0], quote="USDT", min_sources=1)
        for name in names
    )
    catalog.publish(Catalog(exchanges=("okx",), symbols=symbols))


def put(value="42150.5", *, symbol="BTC/USDT", age_ms=0, **other):
    """Publish a price as the index does; when it was made."""
    at = now_ms() - age_ms
    publish(price(value, symbol=symbol, now_ms=at, **other), now_ms=at, token=f"{now_ms():016d}")
    return at


def put_rate(value, *, symbol="BTC/USDT", at=None):
    at = at or now_ms()
    rate = Rate(
        symbol=symbol,
        price=D(value),
        method="vwap",
        status="fresh",
        timestamp_ms=at,
        as_of_ms=at,
        window_ms=30_000,
        volume=D(1),
        quote_volume=D(value),
        trade_count=1,
        source_count=1,
        outliers_removed=0,
        sources=(),
    )
    text = rate_board._encode(rate)
    redis_client().set(keys.rate(symbol), text)
    redis_client().publish(keys.channel("rates"), text)
    return at


@pytest.fixture
def prices():
    """A catalogue in Redis, and the prices of two of its symbols."""
    publish_catalog()
    put()
    put("0.00000123", symbol="PEPE/USDT")


class Server:
    """A running server: its address and what it serves."""

    def __init__(self, port, application):
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.application = application
        self.session = requests.Session()
        self.session.headers.clear()

    @property
    def board(self):
        return self.application._running.board

    @property
    def loop(self):
        return self.application._running._loop

    @property
    def hub(self):
        return self.application._running.hub

    def get(self, path, **options):
        return self.session.get(f"{self.url}{path}", timeout=10, **options)

    def post(self, path, body, **options):
        data = body if isinstance(body, bytes) else None
        return self.session.post(
            f"{self.url}{path}",
            data=data,
            json=None if data is not None else body,
            timeout=10,
            **options,
        )


@contextmanager
def serving():
    """The application of `config.asgi` on a free port."""
    from config import asgi, bulkhead
    from config.stack.programs import WS_MAX_BYTES
    from prices.live.protocol import Frames

    application = Edge(
        asgi.django,
        frame=asgi.frame(),
        guard=bulkhead.visiting,
        health=asgi._health,
        ready=asgi._ready,
    )
    config = uvicorn.Config(
        application,
        port=0,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ws_max_size=WS_MAX_BYTES,
        ws=Frames,
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    wait_for(lambda: running.started or not thread.is_alive(), seconds=20)
    server = Server(running.servers[0].sockets[0].getsockname()[1], application)
    yield server
    server.session.close()
    running.should_exit = True
    server.loop.call_soon_threadsafe(server.hub.close)
    thread.join()


@pytest.fixture
def server(prices):
    with serving() as running:
        yield running
