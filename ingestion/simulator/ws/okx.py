"""OKX's public socket: one acknowledgement per argument, TEXT ping and pong."""

from typing import Any

from aiohttp import WSCloseCode, web

from ingestion.simulator.noise import key_of
from ingestion.simulator.reply import dumped
from ingestion.simulator.tape import Trade
from ingestion.simulator.venue import Market, Venue, short_lots
from ingestion.simulator.ws.parsing import parsed_object
from ingestion.simulator.ws.session import Farewell, Frame, Quiet, bursts

PATHS = ("/ws/v5/public",)
IDLE_MS = 30_000


class OkxSocket:
    """One socket of wss://ws.okx.com:8443/ws/v5/public."""

    binary = False

    def __init__(self, venue: Venue, request: web.Request) -> None:
        self._venue = venue
        self.markets: dict[str, Market] = {}
        self._connection = f"{key_of('okx', request.remote, venue.clock_ms()) >> 32:08x}"

    def greeting(self, now_ms: int) -> list[Frame]:
        return []

    def heard(self, text: str, now_ms: int) -> list[Frame]:
        if text == "ping":
            return ["pong"]
        body = parsed_object(text)
        operation = body.get("op") if body else None
        arguments = body.get("args") if body else None
        if operation not in ("subscribe", "unsubscribe") or not isinstance(arguments, list):
            return [self._refusal("60012", f"Invalid request: {text[:200]}")]
        return [self._answer(operation, argument) for argument in arguments]

    def trade_frames(self, market: Market, trades: list[Trade]) -> list[Frame]:
        symbol = market.listing.exchange_symbol
        return [
            f'{{"arg":{{"channel":"trades","instId":"{symbol}"}},'
            f'"data":[{",".join(self._row(market, trade) for trade in burst)}]}}'
            for burst in bursts(trades)
        ]

    def each_second(self, now_ms: int, *, idle: bool) -> list[Frame]:
        return []

    def farewell(self, now_ms: int, quiet: Quiet) -> Farewell | None:
        # Neither a push nor a ping for half a minute ends the connection.
        if now_ms - max(quiet.heard_ms, quiet.sent_ms) >= IDLE_MS:
            return Farewell(WSCloseCode.OK, [])
        return None

    def _answer(self, operation: str, argument: Any) -> Frame:
        if not isinstance(argument, dict):
            return self._refusal("60012", "Invalid request: args")
        channel, name = str(argument.get("channel")), str(argument.get("instId"))
        market = self._venue.native(name)
        if channel != "trades" or market is None:
            return self._refusal("60018", f"channel:{channel},instId:{name} doesn't exist")
        if operation == "subscribe":
            self.markets[name] = market
        else:
            self.markets.pop(name, None)
        return dumped({"event": operation, "arg": argument, "connId": self._connection})

    def _refusal(self, code: str, message: str) -> Frame:
        return dumped({"event": "error", "msg": message, "code": code, "connId": self._connection})

    def _row(self, market: Market, trade: Trade) -> str:
        return (
            f'{{"instId":"{market.listing.exchange_symbol}","tradeId":"{trade.number}",'
            f'"px":"{self._venue.short_price(market, trade.price)}",'
            f'"sz":"{short_lots(market, trade.lots)}",'
            f'"side":"{"buy" if trade.taker_buys else "sell"}","ts":"{trade.event_ms}",'
            f'"count":"1","source":"0","seqId":{trade.number * 11 + 5}}}'
        )
