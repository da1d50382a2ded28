"""Upbit's socket: binary frames, no acknowledgement, the last subscription replaces the others."""

from typing import Any

from aiohttp import WSCloseCode, web

from ingestion.simulator.clocktext import utc
from ingestion.simulator.reply import dumped
from ingestion.simulator.rest.upbit import PLACES, direction, previous_close, sequential_id
from ingestion.simulator.tape import Trade
from ingestion.simulator.venue import Market, Venue, lots_text
from ingestion.simulator.ws.parsing import parsed, texts
from ingestion.simulator.ws.session import Farewell, Frame, Quiet

PATHS = ("/websocket/v1",)
IDLE_MS = 60_000
STATUS_EVERY_MS = 10_000
_UP = '{"status":"UP"}'
_MESSAGES = {
    "NO_TICKET": "티켓이 존재하지 않거나, 유효하지 않습니다.",
    "NO_TYPE": "type 필드가 존재하지 않습니다.",
    "NO_CODES": "codes 필드가 존재하지 않습니다.",
    "INVALID_PARAM": "지원하지 않는 type 입니다.",
    "WRONG_FORMAT": "Format이 맞지 않습니다.",
}


class UpbitSocket:
    """One socket; all frames have the binary opcode."""

    binary = True

    def __init__(self, venue: Venue, request: web.Request) -> None:
        self._venue = venue
        self.markets: dict[str, Market] = {}
        self._simple = False
        self._snapshots_only = False
        self._refused = False
        self._status_ms: int | None = None

    def greeting(self, now_ms: int) -> list[Frame]:
        return []

    def heard(self, text: str, now_ms: int) -> list[Frame]:
        if text.strip().upper() == "PING":
            self._status_ms = now_ms
            return [_UP]
        parts = parsed(text)
        problem = self._problem(parts)
        if problem is not None:
            self._refused = True
            return [dumped({"error": {"name": problem, "message": _MESSAGES[problem]}})]
        kind = next(part for part in parts if "type" in part)
        form = next((part["format"] for part in parts if "format" in part), "DEFAULT")
        self._simple = form == "SIMPLE"
        found = {code: self._venue.native(code) for code in texts(kind["codes"])}
        known = {code: market for code, market in found.items() if market is not None}
        self._snapshots_only = kind.get("is_only_snapshot") is True
        self.markets = {} if self._snapshots_only else known
        if kind.get("is_only_realtime") is True:
            return []
        return [
            self._frame(market, trade, stream="SNAPSHOT")
            for market in known.values()
            for trade in self._venue.recent_trades(market, count=1, now_ms=now_ms)
        ]

    def trade_frames(self, market: Market, trades: list[Trade]) -> list[Frame]:
        return [self._frame(market, trade, stream="REALTIME") for trade in trades]

    def each_second(self, now_ms: int, *, idle: bool) -> list[Frame]:
        if self._status_ms is None or now_ms - self._status_ms < STATUS_EVERY_MS:
            return []
        self._status_ms = now_ms
        return [_UP]

    def farewell(self, now_ms: int, quiet: Quiet) -> Farewell | None:
        if self._refused:
            return Farewell(WSCloseCode.OK, [])
        if now_ms - max(quiet.heard_ms, quiet.sent_ms) >= IDLE_MS:
            return Farewell(WSCloseCode.OK, [])
        return None

    def _problem(self, parts: Any) -> str | None:
        """Return the name of what is wrong with a request, in the order Upbit looks."""
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            return "WRONG_FORMAT"
        if not any(part.get("ticket") for part in parts):
            return "NO_TICKET"
        kind = next((part for part in parts if "type" in part), None)
        if kind is None:
            return "NO_TYPE"
        if kind["type"] != "trade":
            return "INVALID_PARAM"
        return None if texts(kind.get("codes")) else "NO_CODES"

    def _frame(self, market: Market, trade: Trade, *, stream: str) -> Frame:
        previous = previous_close(self._venue, market, trade)
        change = trade.price - previous
        moment = utc(trade.event_ms)
        price = self._venue.price(market, trade.price, places=PLACES)
        before = self._venue.price(market, previous, places=PLACES)
        moved = self._venue.price(market, abs(change), places=PLACES)
        lots = lots_text(market, trade.lots, places=PLACES)
        side, code = "BID" if trade.taker_buys else "ASK", market.listing.exchange_symbol
        stated_ms, number = trade.event_ms + 3, sequential_id(trade)
        if self._simple:
            return (
                f'{{"ty":"trade","cd":"{code}","tms":{stated_ms},"td":"{moment:%Y-%m-%d}",'
                f'"ttm":"{moment:%H:%M:%S}","ttms":{trade.event_ms},"tp":{price},"tv":{lots},'
                f'"ab":"{side}","pcp":{before},"c":"{direction(change)}","cp":{moved},'
                f'"sid":{number},"st":"{stream}"}}'
            )
        bid = trade.price - 1 if trade.taker_buys else trade.price
        return (
            f'{{"type":"trade","code":"{code}","timestamp":{stated_ms},'
            f'"trade_date":"{moment:%Y-%m-%d}","trade_time":"{moment:%H:%M:%S}",'
            f'"trade_timestamp":{trade.event_ms},"trade_price":{price},"trade_volume":{lots},'
            f'"ask_bid":"{side}","prev_closing_price":{before},"change":"{direction(change)}",'
            f'"change_price":{moved},"sequential_id":{number},'
            f'"best_ask_price":{self._venue.price(market, bid + 1, places=PLACES)},'
            f'"best_ask_size":{lots},'
            f'"best_bid_price":{self._venue.price(market, bid, places=PLACES)},'
            f'"best_bid_size":{lots},"stream_type":"{stream}"}}'
        )
