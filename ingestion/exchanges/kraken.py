"""Kraken spot. It answers in its own pair names (``XXBTZUSD``) unless asked in slash style."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Context
from functools import partial
from typing import Any

from ingestion import answers, wire
from ingestion.adapter import Answer, Budget, Frames, Parsed, Refusal, Request
from ingestion.spelling import from_concatenated, joined, split_symbol
from oracle.values import MAX_AMOUNT, MAX_DIGITS, Candle, ErrorCode, Side, Ticker, Trade

NAME = "kraken"
REST_URL = "https://api.kraken.com"
WS_URL = "wss://ws.kraken.com/v2"
WS_PING: str | None = '{"method":"ping"}'
WS_PING_INTERVAL_MS = 30_000  # a silent socket is closed after about a minute
WS_PROBE: str | None = '{"method":"ping"}'
MAX_SYMBOLS_PER_SOCKET = 200  # none is documented
MAX_MESSAGES_PER_SECOND = 10  # none is documented
SOCKET_LIFETIME_MS: int | None = None
ONE_BAD_SYMBOL_REFUSES_ALL = False
TRADE_IDS_CONTIGUOUS = True
DOCS = "https://docs.kraken.com/api"

# About one call a second is safe; three in three leave room for a tick that comes early.
# OHLC and trades are counted apart, per address and pair.
BUDGETS: Mapping[str, Budget] = {
    "ticker": Budget(units=3, window_ms=3000),
    "ohlc": Budget(units=1, window_ms=2000),
    "trades": Budget(units=1, window_ms=1000),
}
MAX_CANDLES_PER_CALL = 720
MAX_TRADES_PER_CALL = 1000
MAX_CANDLES_BACK: int | None = 720  # asked for older ones, it gives the newest 720 all the same
MAX_SYMBOLS_PER_CALL = 300  # beyond, all of them: one request line must not grow without end

QUOTES = (
    *("USDT", "USDC", "PYUSD", "RLUSD", "USDG", "USDQ", "USDR", "DAI", "EURC", "EURQ", "EURR"),
    *("USD", "EUR", "GBP", "CAD", "JPY", "AUD", "CHF", "AED", "XBT", "BTC", "ETH", "DOT", "SOL"),
)
ALIASES = {"XBT": "BTC", "XDG": "DOGE"}
# Assets listed before 2017 carry X (coins) or Z (money) in front; only in eight-letter pairs.
LEGACY_COINS = (
    *("ETC", "ETH", "ICN", "LTC", "MLN", "NMC", "REP"),
    *("XBT", "XDG", "XLM", "XMR", "XRP", "XVN", "ZEC"),
)
LEGACY_MONEY = ("AUD", "CAD", "EUR", "GBP", "JPY", "KRW", "USD")
LEGACY = {f"X{coin}": coin for coin in LEGACY_COINS} | {
    f"Z{money}": money for money in LEGACY_MONEY
}
INTERVALS = {"1m": "1", "5m": "5", "15m": "15", "1h": "60", "4h": "240", "1d": "1440"}
TAKER_SIDE: Mapping[str, Side] = {"buy": "buy", "sell": "sell", "b": "buy", "s": "sell"}
ERROR_CODES = {
    "EQuery:Unknown asset pair": ErrorCode.UNKNOWN_SYMBOL,
    "EGeneral:Too many requests": ErrorCode.RATE_LIMIT,
    "EAPI:Rate limit exceeded": ErrorCode.RATE_LIMIT,
    "EGeneral:Temporary lockout": ErrorCode.RATE_LIMIT,
    "EService:": ErrorCode.BUSY,
    "EGeneral:Invalid arguments": ErrorCode.BAD_REQUEST,
    "EGeneral:Unknown method": ErrorCode.BAD_REQUEST,
}
_EXACT = Context(prec=MAX_DIGITS)


def to_native(symbol: str) -> str:
    """Check ``BTC/USD``: Kraken takes, and then answers with, the slash style."""
    return "/".join(split_symbol(symbol))


def from_native(exchange_symbol: str) -> str | None:
    """Spell ``XXBTZUSD``, ``XBTUSDT``, ``XBT/USD`` or ``BTC/USD`` as we do."""
    symbol: str | None = exchange_symbol
    base, quote = exchange_symbol[:4], exchange_symbol[4:]
    if quote in LEGACY and (base in LEGACY or base == "USDT"):
        symbol = f"{LEGACY.get(base, base)}/{LEGACY[quote]}"
    elif "/" not in exchange_symbol:
        symbol = from_concatenated(exchange_symbol, QUOTES)
    if symbol is None:
        return None
    base, _, quote = symbol.partition("/")
    return joined(ALIASES.get(base, base), ALIASES.get(quote, quote))


def tickers_request(exchange_symbols: Sequence[str]) -> Request:
    """Ask for these tickers in one call; none, or too many: all of them.

    One unknown pair fails the whole call.
    """
    symbols = tuple(exchange_symbols)
    pairs = symbols if len(symbols) <= MAX_SYMBOLS_PER_CALL else ()
    return Request(
        path="/0/public/Ticker",
        params=(("pair", ",".join(pairs)),) if pairs else (),
        budget="ticker",
        symbols=symbols,
    )


def parse_tickers(answer: Answer, symbols: Sequence[str] = ()) -> Parsed[Ticker]:
    """Read the tickers by the names the answer itself uses, never by position.

        {"error":[],"result":{"XBTUSDT":{"a":["73380.70000","1","1.000"],
          "b":["73380.60000","1","1.000"],"c":["73380.60000","0.00160710"],
          "v":["165.16072288","598.03698452"],"p":["72647.97204","71501.57520"],
          "t":[6405,21103],"l":[...],"h":[...],"o":"71450.70000"}}}

    ``c`` is the last price, ``p`` the VWAP; the second of each pair covers 24 h, the first the
    day so far. No quote volume (volume times VWAP is it) and no time.
    https://docs.kraken.com/api/docs/rest-api/get-ticker-information
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal, symbols=symbols)
    asked = {from_native(symbol): symbol for symbol in symbols}
    rows = (
        (key if key in symbols else asked.get(from_native(key), key), row)
        for key, row in answers.mapping(body, "result").items()
    )
    return answers.read_tickers(
        rows, partial(_ticker, received_ms=answer.received_ms), symbols=symbols
    )


def _ticker(name: str, row: Any, *, received_ms: int) -> Ticker:
    volume = wire.volume(wire.field(row, "v"), 1)
    vwap = wire.volume(wire.field(row, "p"), 1)
    quote_volume = None
    if volume is not None and vwap is not None:
        # A product has no digits of the wire's to keep: without its trailing zeros.
        product = _EXACT.multiply(volume, vwap).normalize(_EXACT)
        # The price is good without: a product of two absurd figures must not cost it.
        quote_volume = product if product < MAX_AMOUNT else None
    return Ticker(
        exchange_symbol=name,
        price=wire.price(wire.field(row, "c"), 0),
        volume=volume,
        quote_volume=quote_volume,
        event_ms=None,
        received_ms=received_ms,
    )


def candles_request(
    exchange_symbol: str, *, resolution_ms: int, from_ms: int, to_ms: int, now_ms: int
) -> Request:
    """Ask for the candles from ``from_ms`` on; there is no upper bound.

    The candle that contains ``since`` is left out, so ``since`` is one second before the first.
    """
    minutes = answers.interval(INTERVALS, resolution_ms, exchange=NAME)
    first_ms, _, _ = answers.candle_window(
        resolution_ms=resolution_ms, from_ms=from_ms, to_ms=to_ms, max_count=MAX_CANDLES_PER_CALL
    )
    since = str(first_ms // 1000 - 1)
    return Request(
        path="/0/public/OHLC",
        params=(("pair", exchange_symbol), ("interval", minutes), ("since", since)),
        budget="ohlc",
        symbols=(exchange_symbol,),
    )


def parse_candles(answer: Answer, *, resolution_ms: int) -> Parsed[Candle]:
    """Read candles: time s, open, high, low, close, VWAP, volume, trades.

        {"error":[],"result":{"XBTUSDT":[[1716526800,"67692.8","67692.8","67132.0","67307.3",
          "67330.9","20.92610534",399], ...],"last":1716544800}}

    ``last`` is the newest closed candle; the row after it is still forming. A minute without
    trades has VWAP 0. https://docs.kraken.com/api/docs/rest-api/get-ohlc-data
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal)
    result = answers.mapping(body, "result")
    pair = next((key for key, rows in result.items() if isinstance(rows, list)), "")
    closed_until_ms = answer.received_ms - resolution_ms
    if type(result.get("last")) is int:
        closed_until_ms = result["last"] * 1000
    read = partial(_candle, closed_until_ms=closed_until_ms)
    return answers.read_candles(answers.listing(result, pair), read, exchange_symbol=pair)


def _candle(row: Any, *, closed_until_ms: int) -> Candle:
    open_ms = wire.seconds_ms(row, 0)
    return Candle(
        open_ms=open_ms,
        open=wire.price(row, 1),
        high=wire.price(row, 2),
        low=wire.price(row, 3),
        close=wire.price(row, 4),
        vwap=wire.volume(row, 5) or None,
        volume=wire.volume(row, 6),
        trade_count=wire.count(row, 7),
        closed=open_ms <= closed_until_ms,
    )


def subscribe_messages(exchange_symbols: Sequence[str]) -> tuple[str, ...]:
    """Subscribe to trades, without the last 50. Here too BTC/USD, not XBT/USD."""
    if not exchange_symbols:
        return ()
    params = {"channel": "trade", "symbol": list(exchange_symbols), "snapshot": False}
    return (json.dumps({"method": "subscribe", "params": params}),)


def parse_message(message: str | bytes, state: Mapping[str, object], received_ms: int) -> Frames:
    """Read trades, several to a message, of the second socket version or the first.

        {"channel":"trade","type":"update","data":[{"symbol":"ETH/USD","side":"buy",
          "price":1774.14,"qty":0.00147959,"ord_type":"limit","trade_id":64175815,
          "timestamp":"2026-07-07T23:00:04.585581Z"}]}
        [993,[["354.11000000","0.89594024","1618678142.557535","s","l",""]],"trade","XMR/USD"]

    Prices are bare numbers in the second version; the first has no trade ids.
    https://docs.kraken.com/api/docs/websocket-v2/trade
    """
    body = wire.decode(message)
    if isinstance(body, list):
        if len(body) != 4 or body[2] != "trade":
            return Frames(state=state)
        rows = [(body[3], row) for row in answers.listing(body[1])]
        return answers.read_trades(rows, _trade_v1, received_ms=received_ms, state=state)
    body = answers.mapping(body)
    if body.get("channel") == "trade":
        rows = answers.named(answers.listing(body, "data"), "symbol")
        return answers.read_trades(rows, _trade, received_ms=received_ms, state=state)
    error = body.get("error") or body.get("errorMessage")
    if isinstance(error, str):
        unknown = "not supported" in error
        code = ErrorCode.UNKNOWN_SYMBOL if unknown else ErrorCode.BAD_REQUEST
        return answers.refused_frame(state, code, error)
    return Frames(state=state)


def _trade(name: str, row: Any, received_ms: int) -> Trade:
    return Trade(
        exchange_symbol=name,
        price=wire.price(row, "price"),
        size=wire.size(row, "qty"),
        side=wire.choice(row, "side", TAKER_SIDE),
        trade_id=wire.trade_id(row, "trade_id"),
        event_ms=wire.iso_ms(row, "timestamp"),
        received_ms=received_ms,
    )


def _trade_v1(name: str, row: Any, received_ms: int) -> Trade:
    return Trade(
        exchange_symbol=name,
        price=wire.price(row, 0),
        size=wire.size(row, 1),
        side=wire.choice(row, 3, TAKER_SIDE),
        trade_id=None,
        event_ms=wire.seconds_ms(row, 2),
        received_ms=received_ms,
    )


def trades_request(exchange_symbol: str, *, after_id: str, after_ms: int) -> Request:
    """Ask for the trades from a millisecond on: Kraken pages by nanosecond, not by id.

    ``since`` is exclusive, and the trade itself may not have been the last of its millisecond.
    """
    return Request(
        path="/0/public/Trades",
        params=(
            ("pair", exchange_symbol),
            ("since", str(after_ms * 1_000_000 - 1)),
            ("count", str(MAX_TRADES_PER_CALL)),
        ),
        budget="trades",
        symbols=(exchange_symbol,),
    )


def parse_trades(answer: Answer, exchange_symbol: str) -> Parsed[Trade]:
    """Read past trades: price, volume, time s, side, type, -, id; oldest first.

        {"error":[],"result":{"XXBTZUSD":[["30243.40000","0.34507674",1688669597.8277369,
          "b","m","",61044952], ...],"last":"1688671969993150842"}}

    https://docs.kraken.com/api/docs/rest-api/get-recent-trades
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal)
    result = answers.mapping(body, "result")
    pair = next((key for key, rows in result.items() if isinstance(rows, list)), "")
    rows = ((exchange_symbol, row) for row in answers.listing(result, pair))
    return answers.read_past_trades(rows, _past_trade, answer)


def _past_trade(name: str, row: Any, received_ms: int) -> Trade:
    return replace(_trade_v1(name, row, received_ms), trade_id=wire.trade_id(row, 6))


def _refusal(body: dict[str, Any], answer: Answer) -> Refusal | None:
    """``{"error":["EQuery:Unknown asset pair"]}`` with HTTP 200; ``W...`` only warns."""
    errors = body.get("error")
    for error in errors if isinstance(errors, list) else [errors]:
        if isinstance(error, str) and error.startswith("E"):
            for start, code in ERROR_CODES.items():
                if error.startswith(start):
                    return answers.refused(answer, code, error)
            return answers.refused(answer, ErrorCode.EXCHANGE_ERROR, error)
    return None
