"""Binance market streams, after binance-spot-api-docs/web-socket-streams.md."""

import re

from aiohttp import WSCloseCode, web

from ingestion.simulator.reply import dumped
from ingestion.simulator.rest.binance import PLACES
from ingestion.simulator.tape import Trade
from ingestion.simulator.venue import Market, Venue, lots_text
from ingestion.simulator.ws.parsing import parsed_object, texts
from ingestion.simulator.ws.session import Farewell, Frame, Quiet

PATHS = ("/ws", "/ws/{streams:.+}", "/stream")
PING_EVERY_MS = 20_000
PONG_WITHIN_MS = 60_000
LIFE_MS = 24 * 3_600_000
MAX_STREAMS = 1_024
_STREAM = re.compile(r"^([a-z0-9_.-]+@[A-Za-z0-9_@+:]+|![A-Za-z0-9_@]+)$")
_SUFFIX = "@trade"


class BinanceSocket:
    """A raw (/ws) or combined (/stream) socket; only <symbol>@trade carries data."""

    binary = False

    def __init__(self, venue: Venue, request: web.Request) -> None:
        self._venue = venue
        self._combined = request.path.endswith("/stream")
        path_streams = request.match_info.get("streams", "").split("/")
        asked = request.query.get("streams", "").split("/") if self._combined else path_streams
        self._streams: dict[str, None] = dict.fromkeys(name for name in asked if name)
        self.markets: dict[str, Market] = {}
        self._follow()

    def greeting(self, now_ms: int) -> list[Frame]:
        return []

    def heard(self, text: str, now_ms: int) -> list[Frame]:
        body = parsed_object(text)
        if body is None:
            return [refusal(None, "Invalid JSON: expected value at line 1 column 1")]
        identity, method = body.get("id"), body.get("method")
        if method == "LIST_SUBSCRIPTIONS":
            return [dumped({"result": list(self._streams), "id": identity})]
        if method not in ("SUBSCRIBE", "UNSUBSCRIBE"):
            return [refusal(identity, "Invalid request: unknown method")]
        names = texts(body.get("params"))
        if not names or not all(_STREAM.match(name) for name in names):
            return [refusal(identity, "Invalid request: invalid stream")]
        if method == "SUBSCRIBE":
            self._streams.update(dict.fromkeys(names))
        else:
            self._streams = {name: None for name in self._streams if name not in names}
        if len(self._streams) > MAX_STREAMS:
            return [refusal(identity, "Invalid request: too many subscriptions")]
        self._follow()
        return [dumped({"result": None, "id": identity})]

    def trade_frames(self, market: Market, trades: list[Trade]) -> list[Frame]:
        return [self._frame(market, trade) for trade in trades]

    def each_second(self, now_ms: int, *, idle: bool) -> list[Frame]:
        return []

    def farewell(self, now_ms: int, quiet: Quiet) -> Farewell | None:
        if now_ms - quiet.opened_ms >= LIFE_MS:
            return Farewell(WSCloseCode.GOING_AWAY, [])
        if now_ms - quiet.ponged_ms >= PING_EVERY_MS + PONG_WITHIN_MS:
            return Farewell(WSCloseCode.POLICY_VIOLATION, [])
        return None

    def _follow(self) -> None:
        """Map streams to markets; a stream of an unknown symbol is accepted and stays silent."""
        names = [n.removesuffix(_SUFFIX) for n in self._streams if n.endswith(_SUFFIX)]
        found = {name: self._venue.native(name.upper()) for name in names if name.islower()}
        self.markets = {name: market for name, market in found.items() if market is not None}

    def _frame(self, market: Market, trade: Trade) -> Frame:
        symbol = market.listing.exchange_symbol
        price = self._venue.price(market, trade.price, places=PLACES)
        data = (
            f'{{"e":"trade","E":{trade.event_ms},"s":"{symbol}","t":{trade.number},"p":"{price}",'
            f'"q":"{lots_text(market, trade.lots, places=PLACES)}","T":{trade.event_ms},'
            f'"m":{"false" if trade.taker_buys else "true"},"M":true}}'
        )
        if self._combined:
            return f'{{"stream":"{symbol.lower()}{_SUFFIX}","data":{data}}}'
        return data


def refusal(identity: object, message: str) -> Frame:
    return dumped({"error": {"code": 2, "msg": message}, "id": identity})
