"""Binance spot. Prices and sizes are text, times milliseconds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ingestion import answers, wire
from ingestion.adapter import Answer, Budget, Frames, Parsed, Refusal, Request, Usage
from ingestion.spelling import from_concatenated, split_symbol
from oracle.values import Candle, ErrorCode, Side, Ticker, Trade

NAME = "binance"
REST_URL = "https://api.binance.com"
WS_URL = "wss://stream.binance.com:9443/ws"
WS_PING: str | None = None  # the server pings, the WebSocket library answers
WS_PING_INTERVAL_MS = 0
WS_PROBE: str | None = '{"method":"LIST_SUBSCRIPTIONS","id":0}'
MAX_SYMBOLS_PER_SOCKET = 1024
MAX_MESSAGES_PER_SECOND = 4  # of five, because pongs count too
SOCKET_LIFETIME_MS: int | None = 86_400_000
ONE_BAD_SYMBOL_REFUSES_ALL = False
TRADE_IDS_CONTIGUOUS = True
DOCS = "https://developers.binance.com/docs/binance-spot-api-docs"

BUDGETS: Mapping[str, Budget] = {"weight": Budget(units=6000, window_ms=60_000)}
MAX_CANDLES_PER_CALL = 1000
MAX_CANDLES_BACK: int | None = None
MAX_TRADES_PER_CALL = 1000
MAX_SYMBOLS_PER_CALL = 100  # beyond, asking for all of them costs the same
MAX_STREAMS_PER_MESSAGE = 200

QUOTES = (
    *("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USDP", "PAX", "USDS", "DAI", "USD1", "UST"),
    *("BTC", "ETH", "BNB", "SOL", "XRP", "TRX", "DOGE", "DOT", "VAI"),
    *("EUR", "GBP", "TRY", "BRL", "JPY", "AUD", "RUB", "UAH", "NGN", "ZAR", "PLN", "RON"),
    *("ARS", "MXN", "COP", "CZK", "BIDR", "BVND", "IDRT", "EURI", "AEUR"),
)
INTERVALS = {"1m": "1m", "5m": "5m", "15m": "15m", "1h": "1h", "4h": "4h", "1d": "1d"}
TAKER_SIDE: Mapping[bool, Side] = {True: "sell", False: "buy"}  # by "the buyer is the maker"
ERROR_CODES = {
    -1121: ErrorCode.UNKNOWN_SYMBOL,
    -1003: ErrorCode.RATE_LIMIT,
    -1015: ErrorCode.RATE_LIMIT,
    -1034: ErrorCode.RATE_LIMIT,
    -1000: ErrorCode.BUSY,
    -1001: ErrorCode.BUSY,
    -1006: ErrorCode.BUSY,
    -1007: ErrorCode.BUSY,
    -1008: ErrorCode.BUSY,
    -1016: ErrorCode.BUSY,
}
_BANNED_UNTIL = re.compile(r"banned until ([0-9]{13})\b")


def to_native(symbol: str) -> str:
    """Spell ``BTC/USDT`` as ``BTCUSDT``."""
    return "".join(split_symbol(symbol))


def from_native(exchange_symbol: str) -> str | None:
    """Spell ``BTCUSDT`` as ``BTC/USDT``."""
    return from_concatenated(exchange_symbol, QUOTES)


def tickers_request(exchange_symbols: Sequence[str]) -> Request:
    """Ask for these tickers in one call; none, or more than 100: all of them.

    One unknown symbol fails the whole call.
    """
    symbols = tuple(exchange_symbols)
    if not 0 < len(symbols) <= MAX_SYMBOLS_PER_CALL:
        return Request(path="/api/v3/ticker/24hr", weight=80, budget="weight", symbols=symbols)
    return Request(
        path="/api/v3/ticker/24hr",
        params=(("symbols", json.dumps(symbols, separators=(",", ":"), ensure_ascii=False)),),
        weight=2 if len(symbols) <= 20 else 40,
        budget="weight",
        symbols=symbols,
    )


def parse_tickers(answer: Answer, symbols: Sequence[str] = ()) -> Parsed[Ticker]:
    """Read the 24 h tickers, a list of objects or, asked for a single ``symbol``, one object.

        [{"symbol":"BTCUSDT","lastPrice":"69624.00000000","volume":"33278.39129000",
          "quoteVolume":"2354076638.59660790","openTime":1730352618472,
          "closeTime":1730439018472,"count":5019250, ...}]

    ``closeTime`` ends the rolling window: the time of the figures, not of the last trade. Dead
    pairs stay listed with price 0.
    https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal, symbols=symbols, usage=_usage(answer))
    rows = [body] if isinstance(body, dict) else answers.listing(body)
    read = partial(_ticker, received_ms=answer.received_ms)
    return answers.read_tickers(
        answers.named(rows, "symbol"), read, symbols=symbols, usage=_usage(answer)
    )


def _ticker(name: str, row: Any, *, received_ms: int) -> Ticker:
    return Ticker(
        exchange_symbol=name,
        price=wire.price(row, "lastPrice"),
        volume=wire.volume(row, "volume"),
        quote_volume=wire.volume(row, "quoteVolume"),
        event_ms=wire.epoch_ms(row, "closeTime"),
        received_ms=received_ms,
    )


def candles_request(
    exchange_symbol: str, *, resolution_ms: int, from_ms: int, to_ms: int, now_ms: int
) -> Request:
    """Ask for the candles opening in ``[from_ms, to_ms)``: both bounds of Binance are inclusive."""
    word = answers.interval(INTERVALS, resolution_ms, exchange=NAME)
    first_ms, last_ms, limit = answers.candle_window(
        resolution_ms=resolution_ms, from_ms=from_ms, to_ms=to_ms, max_count=MAX_CANDLES_PER_CALL
    )
    return Request(
        path="/api/v3/klines",
        params=(
            ("symbol", exchange_symbol),
            ("interval", word),
            ("startTime", str(first_ms)),
            ("endTime", str(last_ms)),
            ("limit", str(limit)),
        ),
        weight=2,
        budget="weight",
        symbols=(exchange_symbol,),
    )


def parse_candles(answer: Answer, *, resolution_ms: int) -> Parsed[Candle]:
    """Read klines: open time, open, high, low, close, volume, close time, quote volume, trades.

        [[1588636800000,"8871.92000000","8888.00000000","8871.92000000","8887.62000000",
          "47.66737000",1588636859999,"423305.63773405",617,"25.94719700","230410.46415390","0"]]

    The close time is the last millisecond of the candle.
    https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal, usage=_usage(answer))
    read = partial(_candle, received_ms=answer.received_ms)
    return answers.read_candles(answers.listing(body), read, usage=_usage(answer))


def _candle(row: Any, *, received_ms: int) -> Candle:
    return Candle(
        open_ms=wire.epoch_ms(row, 0),
        open=wire.price(row, 1),
        high=wire.price(row, 2),
        low=wire.price(row, 3),
        close=wire.price(row, 4),
        volume=wire.volume(row, 5),
        quote_volume=wire.volume(row, 7),
        trade_count=wire.count(row, 8),
        closed=wire.epoch_ms(row, 6) < received_ms,
    )


def subscribe_messages(exchange_symbols: Sequence[str]) -> tuple[str, ...]:
    """Subscribe to trades, by lower-case stream names."""
    streams = [f"{symbol.lower()}@trade" for symbol in exchange_symbols]
    chunks = answers.chunks(streams, MAX_STREAMS_PER_MESSAGE)
    return tuple(
        json.dumps({"method": "SUBSCRIBE", "params": chunk, "id": number})
        for number, chunk in enumerate(chunks, start=1)
    )


def parse_message(message: str | bytes, state: Mapping[str, object], received_ms: int) -> Frames:
    """Read a ``trade`` or ``aggTrade`` event, bare or inside a combined stream's envelope.

        {"stream":"btcusdt@trade","data":{"e":"trade","E":1783465157897,"s":"BTCUSDT",
          "t":6486989273,"p":"63551.02000000","q":"0.00317000","T":1783465157897,
          "m":true,"M":true}}

    ``m``: the buyer is the maker, so the taker sold.
    https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams
    """
    body = answers.mapping(wire.decode(message))
    event = body.get("data", body)
    kind = event.get("e") if isinstance(event, dict) else None
    if kind in ("trade", "aggTrade"):
        read = _trade if kind == "trade" else _aggregate_trade
        return answers.read_trades(
            ((event.get("s"), event),), read, received_ms=received_ms, state=state
        )
    error = body.get("error")
    if isinstance(error, dict):
        return answers.refused_frame(state, ErrorCode.BAD_REQUEST, error.get("msg"))
    return Frames(state=state)


def _trade(name: str, row: Any, received_ms: int, *, id_key: str = "t") -> Trade:
    return Trade(
        exchange_symbol=name,
        price=wire.price(row, "p"),
        size=wire.size(row, "q"),
        side=wire.choice(row, "m", TAKER_SIDE),
        trade_id=wire.trade_id(row, id_key),
        event_ms=wire.epoch_ms(row, "T"),
        received_ms=received_ms,
    )


_aggregate_trade = partial(_trade, id_key="a")


def trades_request(exchange_symbol: str, *, after_id: str, after_ms: int) -> Request:
    """Ask for the trades from the next id on."""
    return Request(
        path="/api/v3/historicalTrades",
        params=(
            ("symbol", exchange_symbol),
            ("fromId", str(int(after_id) + 1)),
            ("limit", str(MAX_TRADES_PER_CALL)),
        ),
        weight=25,
        budget="weight",
        symbols=(exchange_symbol,),
    )


def parse_trades(answer: Answer, exchange_symbol: str) -> Parsed[Trade]:
    """Read past trades, oldest first; the rows do not name their symbol.

        [{"id":28457,"price":"4.00000100","qty":"12.00000000","quoteQty":"48.000012",
          "time":1499865549590,"isBuyerMaker":true,"isBestMatch":true}]

    https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal, usage=_usage(answer))
    rows = ((exchange_symbol, row) for row in answers.listing(body))
    return answers.read_past_trades(rows, _past_trade, answer, usage=_usage(answer))


def _past_trade(name: str, row: Any, received_ms: int) -> Trade:
    return Trade(
        exchange_symbol=name,
        price=wire.price(row, "price"),
        size=wire.size(row, "qty"),
        side=wire.choice(row, "isBuyerMaker", TAKER_SIDE),
        trade_id=wire.trade_id(row, "id"),
        event_ms=wire.epoch_ms(row, "time"),
        received_ms=received_ms,
    )


def _usage(answer: Answer) -> Usage | None:
    used = answers.header_int(answer, "x-mbx-used-weight-1m")
    return None if used is None else Usage(budget="weight", used=used)


def _refusal(body: dict[str, Any], answer: Answer) -> Refusal | None:
    """``{"code":-1121,"msg":"Invalid symbol."}``; a ban's end is only in its text."""
    if "code" not in body:
        return None
    number, detail = body["code"], body.get("msg")
    said = detail if isinstance(detail, str) else ""
    code = ERROR_CODES.get(number) if type(number) is int else None
    if code is None and type(number) is int and -1200 < number <= -1100:
        code = ErrorCode.BAD_REQUEST
    until = _BANNED_UNTIL.search(said)
    if until or answer.status == 418:
        code = ErrorCode.IP_BAN
    if answer.status == 451 or "restricted location" in said:
        code = ErrorCode.BLOCKED
    wait_ms = max(0, int(until[1]) - answer.received_ms) if until else None
    return answers.refused(
        answer, code or answers.code_by_status(answer), detail, retry_after_ms=wait_ms
    )
