"""KuCoin's socket: a token first, then welcome; the CLIENT must ping, whatever flows."""

from typing import Any

from aiohttp import WSCloseCode, web

from ingestion.simulator.reply import dumped
from ingestion.simulator.rest.kucoin import (
    TOKENS,
    order_id,
    sequence,
    trade_id,
    trade_ns,
)
from ingestion.simulator.tape import Trade
from ingestion.simulator.venue import Market, Venue, short_lots
from ingestion.simulator.ws.parsing import parsed_object
from ingestion.simulator.ws.session import Farewell, Frame, Quiet

PATHS = ("/ws", "/ws/")
# Documented as pingInterval + pingTimeout, measured near a minute.
PING_WITHIN_MS = 60_000
MAX_SYMBOLS = 100
_TOPIC = "/market/match:"


class KucoinSocket:
    """One socket; ``id`` of the client comes back in each answer."""

    binary = False

    def __init__(self, venue: Venue, request: web.Request) -> None:
        self._venue = venue
        self.markets: dict[str, Market] = {}
        self._identity = request.query.get("connectId", "")
        self._welcome = request.query.get("token", "") in request.app[TOKENS]
        self._pinged_ms = venue.clock_ms()

    def greeting(self, now_ms: int) -> list[Frame]:
        if not self._welcome:
            return [refusal(self._identity, 401, "token is invalid")]
        return [dumped({"id": self._identity, "type": "welcome"})]

    def heard(self, text: str, now_ms: int) -> list[Frame]:
        body = parsed_object(text)
        if not self._welcome:
            return []
        if body is None:
            return [refusal("", 400, "invalid message")]
        identity = str(body.get("id", ""))
        kind = body.get("type")
        if kind == "ping":
            self._pinged_ms = now_ms
            return [dumped({"id": identity, "type": "pong", "timestamp": now_ms * 1_000})]
        if kind not in ("subscribe", "unsubscribe"):
            return [refusal(identity, 400, f"type {kind} is not supported")]
        return self._change(kind, identity, body)

    def trade_frames(self, market: Market, trades: list[Trade]) -> list[Frame]:
        return [self._frame(market, trade) for trade in trades]

    def each_second(self, now_ms: int, *, idle: bool) -> list[Frame]:
        return []

    def farewell(self, now_ms: int, quiet: Quiet) -> Farewell | None:
        if not self._welcome:
            return Farewell(WSCloseCode.OK, [])
        if now_ms - self._pinged_ms >= PING_WITHIN_MS:
            return Farewell(WSCloseCode.OK, [refusal(self._identity, 400, "ping timeout")])
        return None

    def _change(self, kind: str, identity: str, body: dict[str, Any]) -> list[Frame]:
        topic = str(body.get("topic", ""))
        names = topic.removeprefix(_TOPIC).split(",") if topic.startswith(_TOPIC) else []
        markets = {name: self._venue.native(name) for name in names if name}
        if not markets or None in markets.values():
            return [refusal(identity, 404, f"topic {topic} is not found")]
        if len(markets) > MAX_SYMBOLS:
            message = f"exceed max subscription count limitation of {MAX_SYMBOLS} per time"
            return [refusal(identity, 509, message)]
        for name, market in markets.items():
            if kind == "subscribe" and market is not None:
                self.markets[name] = market
            else:
                self.markets.pop(name, None)
        if body.get("response") is not True:
            return []
        return [dumped({"id": identity, "type": "ack"})]

    def _frame(self, market: Market, trade: Trade) -> Frame:
        symbol = market.listing.exchange_symbol
        return (
            f'{{"type":"message","topic":"{_TOPIC}{symbol}","subject":"trade.l3match",'
            f'"data":{{"symbol":"{symbol}","side":"{"buy" if trade.taker_buys else "sell"}",'
            f'"type":"match","makerOrderId":"{order_id(2 * trade.number)}",'
            f'"sequence":"{sequence(trade)}","size":"{short_lots(market, trade.lots)}",'
            f'"price":"{self._venue.short_price(market, trade.price)}",'
            f'"takerOrderId":"{order_id(2 * trade.number + 1)}","time":"{trade_ns(trade)}",'
            f'"tradeId":"{trade_id(market, trade)}"}}}}'
        )


def refusal(identity: str, code: int, message: str) -> Frame:
    return dumped({"id": identity, "type": "error", "code": code, "data": message})
