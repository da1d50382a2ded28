"""Coinbase Exchange's feed: matches with the MAKER's side, heartbeats per product."""

from typing import Any

from aiohttp import WSCloseCode, web

from ingestion.simulator.clocktext import iso_micros
from ingestion.simulator.noise import key_of, mix
from ingestion.simulator.reply import dumped
from ingestion.simulator.rest.coinbase import trade_time
from ingestion.simulator.tape import Trade
from ingestion.simulator.venue import Market, Venue, short_lots
from ingestion.simulator.ws.parsing import parsed_object, texts
from ingestion.simulator.ws.session import Farewell, Frame, Quiet

PATHS = ("/ws-feed", "/", "")
SUBSCRIBE_WITHIN_MS = 5_000
CHANNELS = ("matches", "heartbeat")
_ORDER_KEY = key_of("coinbase", "orders")


class CoinbaseSocket:
    """One socket; a single bad product or channel voids a whole subscribe."""

    binary = False

    def __init__(self, venue: Venue, request: web.Request) -> None:
        self._venue = venue
        self._channels: dict[str, dict[str, Market]] = {name: {} for name in CHANNELS}
        self._subscribed = False

    @property
    def markets(self) -> dict[str, Market]:
        return self._channels["matches"]

    def greeting(self, now_ms: int) -> list[Frame]:
        return []

    def heard(self, text: str, now_ms: int) -> list[Frame]:
        body = parsed_object(text)
        if body is None:
            return [refusal("Malformed JSON", "")]
        kind = body.get("type")
        if kind not in ("subscribe", "unsubscribe"):
            return [refusal("Type has to be either subscribe or unsubscribe", "")]
        asked, problem = self._asked(body)
        if problem is not None:
            return [refusal(f"Failed to {kind}", problem)]
        frames: list[Frame] = []
        for channel, markets in asked:
            if kind == "unsubscribe":
                for name in markets:
                    self._channels[channel].pop(name, None)
                continue
            if channel == "matches":
                frames += self._last_matches(markets, now_ms)
            self._channels[channel].update(markets)
            self._subscribed = True
        return [self._subscriptions(), *frames]

    def trade_frames(self, market: Market, trades: list[Trade]) -> list[Frame]:
        return [self._match("match", market, trade) for trade in trades]

    def each_second(self, now_ms: int, *, idle: bool) -> list[Frame]:
        return [self._heartbeat(market, now_ms) for market in self._channels["heartbeat"].values()]

    def farewell(self, now_ms: int, quiet: Quiet) -> Farewell | None:
        if not self._subscribed and now_ms - quiet.opened_ms >= SUBSCRIBE_WITHIN_MS:
            return Farewell(WSCloseCode.POLICY_VIOLATION, [])
        return None

    def _asked(
        self, body: dict[str, Any]
    ) -> tuple[list[tuple[str, dict[str, Market]]], str | None]:
        """Return ([(channel, its markets)], what is wrong)."""
        common = texts(body.get("product_ids"))
        channels = body.get("channels")
        asked: list[tuple[str, dict[str, Market]]] = []
        for entry in channels if isinstance(channels, list) else []:
            named = isinstance(entry, dict)
            channel = entry.get("name") if named else entry
            if channel not in CHANNELS:
                return [], f"{channel} is not a valid channel"
            products = (texts(entry.get("product_ids")) if named else []) or common
            markets = {name: self._venue.native(name) for name in products}
            bad = next((name for name, market in markets.items() if market is None), None)
            if bad is not None:
                return [], f"{bad} is not a valid product"
            asked.append((channel, {name: m for name, m in markets.items() if m is not None}))
        if not asked or not any(markets for _, markets in asked):
            return [], "You have to specify channels and product_ids"
        return asked, None

    def _last_matches(self, markets: dict[str, Market], now_ms: int) -> list[Frame]:
        """Return the trade before the client joined, of each product new to it."""
        return [
            self._match("last_match", market, trade)
            for name, market in markets.items()
            if name not in self._channels["matches"]
            for trade in self._venue.recent_trades(market, count=1, now_ms=now_ms)
        ]

    def _subscriptions(self) -> Frame:
        rows = [
            {"name": name, "product_ids": list(markets), "account_ids": None}
            for name, markets in self._channels.items()
            if markets
        ]
        return dumped({"type": "subscriptions", "channels": rows})

    def _match(self, kind: str, market: Market, trade: Trade) -> Frame:
        return (
            f'{{"type":"{kind}","trade_id":{trade.number},'
            f'"maker_order_id":"{order_id(2 * trade.number)}",'
            f'"taker_order_id":"{order_id(2 * trade.number + 1)}",'
            f'"side":"{"sell" if trade.taker_buys else "buy"}",'
            f'"size":"{short_lots(market, trade.lots)}",'
            f'"price":"{self._venue.short_price(market, trade.price)}",'
            f'"product_id":"{market.listing.exchange_symbol}",'
            f'"sequence":{sequence(trade.number)},"time":"{trade_time(trade)}"}}'
        )

    def _heartbeat(self, market: Market, now_ms: int) -> Frame:
        last = self._venue.recent_trades(market, count=1, now_ms=self._venue.clock_ms())[-1]
        body = {
            "type": "heartbeat",
            "last_trade_id": last.number,
            "product_id": market.listing.exchange_symbol,
            "sequence": sequence(last.number) + 1,
            "time": iso_micros(now_ms // 1_000 * 1_000, micros=0),
        }
        return dumped(body)


def sequence(number: int) -> int:
    """Return the order book's sequence at a trade: grows faster than the trades."""
    return number * 40


def order_id(number: int) -> str:
    digits = f"{mix(_ORDER_KEY, number):016x}{mix(_ORDER_KEY, -number):016x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


def refusal(message: str, reason: str) -> Frame:
    return dumped({"type": "error", "message": message, "reason": reason})
