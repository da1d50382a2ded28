"""Kraken's socket v2: bare JSON numbers, several trades in a message, a heartbeat when idle."""

from typing import Any

from aiohttp import WSCloseCode, web

from ingestion.simulator.clocktext import iso_micros, trade_micros
from ingestion.simulator.noise import key_of
from ingestion.simulator.reply import dumped
from ingestion.simulator.rest.kraken import PLACES
from ingestion.simulator.tape import Trade
from ingestion.simulator.venue import Market, Venue, lots_text
from ingestion.simulator.ws.parsing import parsed_object, texts
from ingestion.simulator.ws.session import Farewell, Frame, Quiet, bursts

PATHS = ("/v2",)
IDLE_MS = 60_000
SNAPSHOT_TRADES = 50


class KrakenSocket:
    """One socket of wss://ws.kraken.com/v2; its symbols are BTC/USD, never XBT/USD."""

    binary = False

    def __init__(self, venue: Venue, request: web.Request) -> None:
        self._venue = venue
        self.markets: dict[str, Market] = {}
        self._connection = key_of("kraken", request.remote, venue.clock_ms())

    def greeting(self, now_ms: int) -> list[Frame]:
        data = {
            "version": "2.0.10",
            "system": "online",
            "api_version": "v2",
            "connection_id": self._connection,
        }
        return [dumped({"channel": "status", "type": "update", "data": [data]})]

    def heard(self, text: str, now_ms: int) -> list[Frame]:
        body = parsed_object(text)
        if body is None:
            return [self._refusal("subscribe", "Malformed JSON", now_ms, {})]
        method = body.get("method")
        tag = {"req_id": body["req_id"]} if "req_id" in body else {}
        if method == "ping":
            return [dumped({"method": "pong"} | tag | self._times(now_ms))]
        params = body.get("params")
        if method not in ("subscribe", "unsubscribe") or not isinstance(params, dict):
            return [self._refusal(str(method), "Method not supported", now_ms, tag)]
        if params.get("channel") != "trade":
            return [self._refusal(method, "Channel not supported", now_ms, tag)]
        symbols = texts(params.get("symbol"))
        if not symbols:
            return [self._refusal(method, "Symbol(s) not found", now_ms, tag)]
        return self._answers(method, symbols, params, now_ms, tag)

    def _answers(
        self,
        method: str,
        symbols: list[str],
        params: dict[str, Any],
        now_ms: int,
        tag: dict[str, Any],
    ) -> list[Frame]:
        """Return one acknowledgement or refusal per symbol, then the snapshots asked for."""
        frames, snapshots = [], []
        with_snapshot = params.get("snapshot") is True
        for symbol in symbols:
            market = self._venue.find(symbol)
            if market is None or market.listing.symbol != symbol:
                message = f"Currency pair not supported {symbol}"
                frames.append(self._refusal(method, message, now_ms, tag | {"symbol": symbol}))
                continue
            result: dict[str, Any] = {"channel": "trade", "symbol": symbol}
            if method == "subscribe":
                self.markets[symbol] = market
                result = {"channel": "trade", "snapshot": with_snapshot, "symbol": symbol}
                if with_snapshot:
                    snapshots.append(self._snapshot(market, now_ms))
            else:
                self.markets.pop(symbol, None)
            ack = {"method": method, "result": result, "success": True}
            frames.append(dumped(ack | tag | self._times(now_ms)))
        return frames + snapshots

    def trade_frames(self, market: Market, trades: list[Trade]) -> list[Frame]:
        return [self._message("update", market, burst) for burst in bursts(trades)]

    def each_second(self, now_ms: int, *, idle: bool) -> list[Frame]:
        return ['{"channel":"heartbeat"}'] if idle and self.markets else []

    def farewell(self, now_ms: int, quiet: Quiet) -> Farewell | None:
        if now_ms - max(quiet.heard_ms, quiet.sent_ms) >= IDLE_MS:
            return Farewell(WSCloseCode.OK, [])
        return None

    def _snapshot(self, market: Market, now_ms: int) -> Frame:
        trades = self._venue.recent_trades(market, count=SNAPSHOT_TRADES, now_ms=now_ms)
        return self._message("snapshot", market, trades)

    def _message(self, kind: str, market: Market, trades: list[Trade]) -> Frame:
        rows = ",".join(self._row(market, trade) for trade in trades)
        return f'{{"channel":"trade","type":"{kind}","data":[{rows}]}}'

    def _row(self, market: Market, trade: Trade) -> str:
        moment = iso_micros(trade.event_ms, micros=trade_micros(trade.number))
        return (
            f'{{"symbol":"{market.listing.symbol}",'
            f'"side":"{"buy" if trade.taker_buys else "sell"}",'
            f'"price":{self._venue.short_price(market, trade.price)},'
            f'"qty":{lots_text(market, trade.lots, places=PLACES)},'
            f'"ord_type":"{"market" if trade.number % 3 else "limit"}","trade_id":{trade.number},'
            f'"timestamp":"{moment}"}}'
        )

    def _refusal(self, method: str, message: str, now_ms: int, more: dict[str, Any]) -> Frame:
        body: dict[str, Any] = {"error": message, "method": method, "success": False}
        return dumped(body | more | self._times(now_ms))

    @staticmethod
    def _times(now_ms: int) -> dict[str, str]:
        return {
            "time_in": iso_micros(now_ms, micros=11),
            "time_out": iso_micros(now_ms, micros=54),
        }
