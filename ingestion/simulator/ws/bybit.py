"""Bybit's public spot socket: lists of trades, one acknowledgement per request, op ping."""

from typing import Any

from aiohttp import WSCloseCode, web

from ingestion.simulator.noise import key_of
from ingestion.simulator.reply import dumped
from ingestion.simulator.rest.bybit import trade_id
from ingestion.simulator.tape import Trade
from ingestion.simulator.venue import Market, Venue, short_lots
from ingestion.simulator.ws.parsing import parsed_object, texts
from ingestion.simulator.ws.session import Farewell, Frame, Quiet, bursts

PATHS = ("/v5/public/spot",)
IDLE_MS = 600_000
MAX_ARGUMENTS = 10
_TOPIC = "publicTrade."


class BybitSocket:
    """One socket of wss://stream.bybit.com/v5/public/spot."""

    binary = False

    def __init__(self, venue: Venue, request: web.Request) -> None:
        self._venue = venue
        self.markets: dict[str, Market] = {}
        digits = f"{key_of('bybit', request.remote, venue.clock_ms()):016x}"
        self._connection = f"d9avrj8{digits[:13]}-{digits[13:]}"

    def greeting(self, now_ms: int) -> list[Frame]:
        return []

    def heard(self, text: str, now_ms: int) -> list[Frame]:
        body = parsed_object(text)
        operation = body.get("op") if body else None
        tag = {"req_id": body["req_id"]} if body and "req_id" in body else {}
        if operation == "ping":
            return [dumped({"success": True, "ret_msg": "pong"} | tag | {"op": "ping"})]
        if body is None or operation not in ("subscribe", "unsubscribe"):
            return [self._answer(tag, "error:request op not support", "")]
        topics = texts(body.get("args"))
        if len(topics) > MAX_ARGUMENTS:
            return [self._answer(tag, f"args size >{MAX_ARGUMENTS}", operation)]
        markets = {topic: self._market(topic) for topic in topics}
        bad = next((topic for topic, market in markets.items() if market is None), None)
        if bad is not None or not topics:
            return [self._answer(tag, f"Invalid topic: {bad or ''}", operation)]
        for topic, market in markets.items():
            if operation == "subscribe" and market is not None:
                self.markets[topic] = market
            else:
                self.markets.pop(topic, None)
        return [self._answer(tag, None, operation)]

    def trade_frames(self, market: Market, trades: list[Trade]) -> list[Frame]:
        symbol = market.listing.exchange_symbol
        return [
            f'{{"topic":"{_TOPIC}{symbol}","ts":{burst[-1].event_ms + 1},"type":"snapshot",'
            f'"data":[{",".join(self._row(market, trade) for trade in burst)}]}}'
            for burst in bursts(trades)
        ]

    def each_second(self, now_ms: int, *, idle: bool) -> list[Frame]:
        return []

    def farewell(self, now_ms: int, quiet: Quiet) -> Farewell | None:
        if now_ms - max(quiet.heard_ms, quiet.sent_ms) >= IDLE_MS:
            return Farewell(WSCloseCode.OK, [])
        return None

    def _market(self, topic: str) -> Market | None:
        if not topic.startswith(_TOPIC):
            return None
        return self._venue.native(topic.removeprefix(_TOPIC))

    def _answer(self, tag: dict[str, Any], problem: str | None, operation: str) -> Frame:
        """Return an acknowledgement, or with a problem a refusal of the whole request."""
        body: dict[str, Any] = {
            "success": problem is None,
            "ret_msg": operation if problem is None else problem,
            "conn_id": self._connection,
        }
        return dumped(body | tag | {"op": operation})

    def _row(self, market: Market, trade: Trade) -> str:
        return (
            f'{{"i":"{trade_id(trade)}","T":{trade.event_ms},'
            f'"p":"{self._venue.short_price(market, trade.price)}",'
            f'"v":"{short_lots(market, trade.lots)}",'
            f'"S":"{"Buy" if trade.taker_buys else "Sell"}","seq":{trade.number * 7 + 3},'
            f'"s":"{market.listing.exchange_symbol}","BT":false,"RPI":false}}'
        )
