"""A client of the simulated sockets, which puts every exchange's trades into the tape's words."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

import aiohttp
from aiohttp.test_utils import TestClient, TestServer

from ingestion.simulator.markets import default_markets
from ingestion.simulator.server import make_app
from ingestion.simulator.venue import Universe

TRADES_PER_MINUTE = 12_000
PATIENCE_SECONDS = 5
SYMBOLS = {
    "binance": "BTCUSDT",
    "upbit": "KRW-BTC",
    "kraken": "BTC/USD",
    "coinbase": "BTC-USD",
    "okx": "BTC-USDT",
    "bybit": "BTCUSDT",
    "kucoin": "BTC-USDT",
}
PATHS = {
    "binance": "/binance/ws/btcusdt@trade",
    "upbit": "/upbit/websocket/v1",
    "kraken": "/kraken/v2",
    "coinbase": "/coinbase/ws-feed",
    "okx": "/okx/ws/v5/public",
    "bybit": "/bybit/v5/public/spot",
}
SUBSCRIBES: dict[str, Any] = {
    "binance": None,
    "upbit": [
        {"ticket": "test"},
        {"type": "trade", "codes": ["KRW-BTC"], "is_only_realtime": True},
        {"format": "DEFAULT"},
    ],
    "kraken": {
        "method": "subscribe",
        "params": {"channel": "trade", "symbol": ["BTC/USD"], "snapshot": False},
    },
    "coinbase": {"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["matches"]},
    "okx": {"op": "subscribe", "args": [{"channel": "trades", "instId": "BTC-USDT"}]},
    "bybit": {"op": "subscribe", "args": ["publicTrade.BTCUSDT"]},
    "kucoin": {
        "id": "1",
        "type": "subscribe",
        "topic": "/market/match:BTC-USDT",
        "privateChannel": False,
        "response": True,
    },
}


class Line:
    """A client's end of a socket."""

    def __init__(self, client: TestClient, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.client = client
        self.socket = socket

    async def say(self, message: Any) -> None:
        text = message if isinstance(message, str) else json.dumps(message)
        await self.socket.send_str(text)

    async def raw(self) -> aiohttp.WSMessage:
        return await self.socket.receive(timeout=PATIENCE_SECONDS)

    async def hear(self) -> Any:
        message = await self.raw()
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        data = message.data if isinstance(message.data, str) else message.data.decode()
        return json.loads(data, parse_float=Decimal)

    async def hear_until(self, wanted: Callable[[Any], bool]) -> Any:
        while True:
            message = await self.hear()
            if wanted(message):
                return message


@asynccontextmanager
async def world(rate: int = TRADES_PER_MINUTE) -> AsyncIterator[tuple[Universe, TestClient]]:
    universe = Universe(markets=default_markets(), seed=7, rate_per_minute=rate)
    async with TestClient(TestServer(make_app(universe))) as client:
        yield universe, client


async def address(client: TestClient, exchange: str) -> str:
    if exchange != "kucoin":
        return PATHS[exchange]
    async with client.post("/kucoin/api/v1/bullet-public") as response:
        data = (await response.json())["data"]
    path = data["instanceServers"][0]["endpoint"].split(str(client.port))[1]
    return f"{path}?token={data['token']}&connectId=abc"


@asynccontextmanager
async def connected(client: TestClient, exchange: str) -> AsyncIterator[Line]:
    path = await address(client, exchange)
    async with client.ws_connect(path, autoping=False) as socket:
        yield Line(client, socket)


@asynccontextmanager
async def subscribed(client: TestClient, exchange: str) -> AsyncIterator[Line]:
    async with connected(client, exchange) as line:
        if SUBSCRIBES[exchange] is not None:
            await line.say(SUBSCRIBES[exchange])
        yield line


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def rows_of(exchange: str, message: Any) -> list[dict[str, Any]]:
    """Return the trades of a message in the words of the tape; none for other messages."""
    reader = READERS[exchange]
    return [
        {
            "exchange_symbol": "XXBTZUSD" if exchange == "kraken" else SYMBOLS[exchange],
            "price": Decimal(price),
            "size": Decimal(size),
            "side": side,
            "trade_id": str(identity),
            "event_ms": int(event_ms),
        }
        for price, size, side, identity, event_ms in reader(message)
    ]


def iso_ms(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * 1_000 + moment.microsecond // 1_000


def opposite(side: str) -> str:
    return {"buy": "sell", "sell": "buy"}[side]


READERS: dict[str, Callable[[Any], list[tuple[Any, ...]]]] = {
    "binance": lambda m: [(m["p"], m["q"], "sell" if m["m"] else "buy", m["t"], m["T"])],
    "upbit": lambda m: [
        (
            m["trade_price"],
            m["trade_volume"],
            {"BID": "buy", "ASK": "sell"}[m["ask_bid"]],
            m["sequential_id"],
            m["trade_timestamp"],
        )
    ],
    "kraken": lambda m: (
        [
            (r["price"], r["qty"], r["side"], r["trade_id"], iso_ms(r["timestamp"]))
            for r in m["data"]
        ]
        if m.get("channel") == "trade"
        else []
    ),
    "coinbase": lambda m: (
        [(m["price"], m["size"], opposite(m["side"]), m["trade_id"], iso_ms(m["time"]))]
        if m["type"] == "match"
        else []
    ),
    "okx": lambda m: [
        (r["px"], r["sz"], r["side"], r["tradeId"], r["ts"]) for r in m.get("data", [])
    ],
    "bybit": lambda m: [
        (r["p"], r["v"], r["S"].lower(), r["i"], r["T"]) for r in m.get("data", [])
    ],
    "kucoin": lambda m: (
        [
            (
                m["data"]["price"],
                m["data"]["size"],
                m["data"]["side"],
                m["data"]["tradeId"],
                int(m["data"]["time"]) // 1_000_000,
            )
        ]
        if m["type"] == "message"
        else []
    ),
}


async def heard_rows(line: Line, exchange: str, *, count: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while len(rows) < count:
        rows += rows_of(exchange, await line.hear())
    return rows


async def tape(client: TestClient, exchange: str, rows: list[dict[str, Any]]) -> list[Any]:
    query = {
        "exchange": exchange,
        "symbol": SYMBOLS[exchange],
        "from_ms": str(rows[0]["event_ms"]),
        "to_ms": str(rows[-1]["event_ms"] + 1),
    }
    async with client.get("/control/tape", params=query) as response:
        found = await response.json()
    return [row | {"price": Decimal(row["price"]), "size": Decimal(row["size"])} for row in found]


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, int | Decimal) else "text"


async def quiet(line: Line) -> None:
    """Read what was on its way."""
    while await anything(line, seconds=0.1):
        pass


async def anything(line: Line, *, seconds: float) -> bool:
    try:
        await line.socket.receive(timeout=seconds)
    except TimeoutError:
        return False
    return True
