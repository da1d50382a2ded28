"""Bybit v5 spot. Every call must name the category: without it linear futures come back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ingestion import answers, wire
from ingestion.adapter import Answer, Budget, Frames, Parsed, Refusal, Request
from ingestion.spelling import from_concatenated, split_symbol
from oracle.values import Candle, ErrorCode, Side, Ticker, Trade

NAME = "bybit"
REST_URL = "https://api.bybit.com"
WS_URL = "wss://stream.bybit.com/v5/public/spot"
WS_PING: str | None = '{"op":"ping"}'
WS_PING_INTERVAL_MS = 20_000
WS_PROBE: str | None = '{"op":"ping"}'
MAX_SYMBOLS_PER_SOCKET = 500  # 21,000 characters of topics
MAX_MESSAGES_PER_SECOND = 10  # none is documented
SOCKET_LIFETIME_MS: int | None = None
ONE_BAD_SYMBOL_REFUSES_ALL = True
TRADE_IDS_CONTIGUOUS = False
DOCS = "https://bybit-exchange.github.io/docs/v5"

BUDGETS: Mapping[str, Budget] = {"address": Budget(units=600, window_ms=5000)}
TOO_FREQUENT_WAIT_MS = 600_000  # after HTTP 403 "access too frequent": stop for ten minutes
MAX_CANDLES_PER_CALL = 1000
MAX_CANDLES_BACK: int | None = None
MAX_TRADES_PER_CALL = 60
MAX_TOPICS_PER_MESSAGE = 10

QUOTES = (
    *("USDT", "USDC", "USDE", "USD1", "USDQ", "USDR", "DAI", "BTC", "ETH", "SOL", "MNT"),
    *("EUR", "BRL", "TRY", "PLN", "GBP", "RUB", "AED"),
)
INTERVALS = {"1m": "1", "5m": "5", "15m": "15", "1h": "60", "4h": "240", "1d": "D"}
TAKER_SIDE: Mapping[str, Side] = {"Buy": "buy", "Sell": "sell"}
ERROR_CODES = {
    "10000": ErrorCode.BUSY,
    "10016": ErrorCode.BUSY,
    "10006": ErrorCode.RATE_LIMIT,
    "10018": ErrorCode.RATE_LIMIT,
    "10009": ErrorCode.IP_BAN,
    "10024": ErrorCode.BLOCKED,
}


def to_native(symbol: str) -> str:
    """Spell ``BTC/USDT`` as ``BTCUSDT``."""
    return "".join(split_symbol(symbol))


def from_native(exchange_symbol: str) -> str | None:
    """Spell ``BTCUSDT`` as ``BTC/USDT``."""
    return from_concatenated(exchange_symbol, QUOTES)


def tickers_request(exchange_symbols: Sequence[str]) -> Request:
    """Ask for all spot tickers: one call whatever the number of symbols."""
    return Request(
        path="/v5/market/tickers",
        params=(("category", "spot"),),
        budget="address",
        symbols=tuple(exchange_symbols),
    )


def parse_tickers(answer: Answer, symbols: Sequence[str] = ()) -> Parsed[Ticker]:
    """Read the spot tickers, or a push of the socket's ``tickers`` topic.

        {"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[{"symbol":"BTCUSDT",
          "lastPrice":"20533.13","turnover24h":"243765620.65899866",
          "volume24h":"11801.27771","usdIndexPrice":"20784.12009279", ...}]},
          "retExtInfo":{},"time":1673859087947}
        {"topic":"tickers.BTCUSDT","ts":1749185744881,"type":"snapshot","data":{
          "symbol":"BTCUSDT","lastPrice":"102742.6","volume24h":"12061.295487", ...}}

    Rows have no time, the envelope has. ``usdIndexPrice`` is not this pair's price.
    https://bybit-exchange.github.io/docs/v5/market/tickers
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal, symbols=symbols)
    if isinstance(body, dict) and "topic" in body:
        rows, time_key = [answers.mapping(body, "data")], "ts"
    else:
        rows, time_key = answers.listing(body, "result", "list"), "time"
    read = partial(_ticker, envelope=body, time_key=time_key, received_ms=answer.received_ms)
    return answers.read_tickers(answers.named(rows, "symbol"), read, symbols=symbols)


def _ticker(
    name: str, row: Any, *, envelope: dict[str, Any], time_key: str, received_ms: int
) -> Ticker:
    return Ticker(
        exchange_symbol=name,
        price=wire.price(row, "lastPrice"),
        volume=wire.volume(row, "volume24h"),
        quote_volume=wire.volume(row, "turnover24h"),
        event_ms=wire.epoch_ms(envelope, time_key) if time_key in envelope else None,
        received_ms=received_ms,
    )


def candles_request(
    exchange_symbol: str, *, resolution_ms: int, from_ms: int, to_ms: int, now_ms: int
) -> Request:
    """Ask for the candles opening in ``[from_ms, to_ms)``: both bounds of Bybit are inclusive."""
    word = answers.interval(INTERVALS, resolution_ms, exchange=NAME)
    first_ms, last_ms, limit = answers.candle_window(
        resolution_ms=resolution_ms, from_ms=from_ms, to_ms=to_ms, max_count=MAX_CANDLES_PER_CALL
    )
    return Request(
        path="/v5/market/kline",
        params=(
            ("category", "spot"),
            ("symbol", exchange_symbol),
            ("interval", word),
            ("start", str(first_ms)),
            ("end", str(last_ms)),
            ("limit", str(limit)),
        ),
        budget="address",
        symbols=(exchange_symbol,),
    )


def parse_candles(answer: Answer, *, resolution_ms: int) -> Parsed[Candle]:
    """Read candles, newest first: time, open, high, low, close, volume, turnover.

        {"retCode":0,"retMsg":"OK","result":{"category":"spot","symbol":"BTCUSDT","list":[
          ["1788081180000","78101.7","78101.8","78101.7","78101.7","0.07731","6038.0438861"],
          ...]},"retExtInfo":{},"time":1788081203987}

    A candle is closed once its end is not after the envelope's time.
    https://bybit-exchange.github.io/docs/v5/market/kline
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal)
    rows = answers.listing(body, "result", "list")
    now_ms = body["time"] if type(body.get("time")) is int else answer.received_ms
    read = partial(_candle, closed_until_ms=now_ms - resolution_ms)
    return answers.read_candles(rows, read, exchange_symbol=body["result"].get("symbol"))


def _candle(row: Any, *, closed_until_ms: int) -> Candle:
    open_ms = wire.epoch_ms(row, 0)
    return Candle(
        open_ms=open_ms,
        open=wire.price(row, 1),
        high=wire.price(row, 2),
        low=wire.price(row, 3),
        close=wire.price(row, 4),
        volume=wire.volume(row, 5),
        quote_volume=wire.volume(row, 6),
        closed=open_ms <= closed_until_ms,
    )


def subscribe_messages(exchange_symbols: Sequence[str]) -> tuple[str, ...]:
    """Subscribe to trades, ten topics to a message."""
    topics = [f"publicTrade.{symbol}" for symbol in exchange_symbols]
    chunks = answers.chunks(topics, MAX_TOPICS_PER_MESSAGE)
    return tuple(json.dumps({"op": "subscribe", "args": chunk}) for chunk in chunks)


def parse_message(message: str | bytes, state: Mapping[str, object], received_ms: int) -> Frames:
    """Read a push of ``publicTrade``: up to 1024 trades in one message.

        {"topic":"publicTrade.BTCUSDT","ts":1788335009483,"type":"snapshot","data":[
          {"i":"2290000001202469355","T":1788335009482,"p":"77606.8","v":"0.000712","S":"Buy",
           "seq":113508069853,"s":"BTCUSDT","BT":false,"RPI":false}]}

    ``T`` is the trade's time, ``ts`` the message's; ``S`` the taker's side.
    https://bybit-exchange.github.io/docs/v5/websocket/public/trade
    """
    body = answers.mapping(wire.decode(message))
    topic = body.get("topic")
    if isinstance(topic, str) and topic.startswith("publicTrade."):
        rows = answers.named(answers.listing(body, "data"), "s")
        return answers.read_trades(rows, _trade, received_ms=received_ms, state=state)
    if body.get("success") is False:
        return answers.refused_frame(state, ErrorCode.BAD_REQUEST, body.get("ret_msg"))
    return Frames(state=state)


def _trade(name: str, row: Any, received_ms: int) -> Trade:
    return Trade(
        exchange_symbol=name,
        price=wire.price(row, "p"),
        size=wire.size(row, "v"),
        side=wire.choice(row, "S", TAKER_SIDE),
        trade_id=wire.trade_id(row, "i"),
        event_ms=wire.epoch_ms(row, "T"),
        received_ms=received_ms,
    )


def trades_request(exchange_symbol: str, *, after_id: str, after_ms: int) -> Request:
    """Ask for the newest trades."""
    return Request(
        path="/v5/market/recent-trade",
        params=(
            ("category", "spot"),
            ("symbol", exchange_symbol),
            ("limit", str(MAX_TRADES_PER_CALL)),
        ),
        budget="address",
        symbols=(exchange_symbol,),
    )


def parse_trades(answer: Answer, exchange_symbol: str) -> Parsed[Trade]:
    """Read the newest trades, newest first on the wire.

        {"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[{
          "execId":"2100000000007764263","symbol":"BTCUSDT","price":"16618.49",
          "size":"0.00012","side":"Buy","time":"1672052955758","isBlockTrade":false}]},
          "retExtInfo":{},"time":1672053054358}

    https://bybit-exchange.github.io/docs/v5/market/recent-trade
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal)
    rows = answers.named(reversed(answers.listing(body, "result", "list")), "symbol")
    return answers.read_past_trades(rows, _past_trade, answer)


def _past_trade(name: str, row: Any, received_ms: int) -> Trade:
    return Trade(
        exchange_symbol=name,
        price=wire.price(row, "price"),
        size=wire.size(row, "size"),
        side=wire.choice(row, "side", TAKER_SIDE),
        trade_id=wire.trade_id(row, "execId"),
        event_ms=wire.epoch_ms(row, "time"),
        received_ms=received_ms,
    )


def _refusal(body: dict[str, Any], answer: Answer) -> Refusal | None:
    """``{"retCode":10001,"retMsg":"Not supported symbols","result":{}, ...}`` with HTTP 200.

    HTTP 403 is a rate limit when it says so, and otherwise the wall before the United States.
    """
    if answer.status == 403 and b"access too frequent" in answer.body.lower():
        wait_ms: int | None = TOO_FREQUENT_WAIT_MS
        return answers.refused(
            answer, ErrorCode.RATE_LIMIT, "access too frequent", retry_after_ms=wait_ms
        )
    if "retCode" not in body or body["retCode"] in (0, "0"):
        return None
    number, detail = str(body["retCode"]), body.get("retMsg")
    code = ERROR_CODES.get(number) or answers.code_by_status(answer)
    wait_ms = None
    if number == "10001":  # one number for every wrong parameter: only the text tells which
        unknown = isinstance(detail, str) and "symbol" in detail.lower()
        code = ErrorCode.UNKNOWN_SYMBOL if unknown else ErrorCode.BAD_REQUEST
    if code is ErrorCode.RATE_LIMIT:
        reset_ms = answers.header_int(answer, "x-bapi-limit-reset-timestamp")
        wait_ms = None if reset_ms is None else max(0, reset_ms - answer.received_ms)
    return answers.refused(answer, code, detail, retry_after_ms=wait_ms)
