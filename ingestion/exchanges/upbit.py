"""Upbit, Korea. The quote comes first (``KRW-BTC``); prices are bare JSON numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ingestion import answers, wire
from ingestion.adapter import (
    Answer,
    Budget,
    Frames,
    Parsed,
    Refusal,
    Request,
    UnreadableError,
    Usage,
)
from ingestion.spelling import joined, split_symbol
from oracle.values import Candle, ErrorCode, Side, Ticker, Trade

NAME = "upbit"
REST_URL = "https://api.upbit.com"
WS_URL = "wss://api.upbit.com/websocket/v1"
WS_PING: str | None = "PING"
WS_PING_INTERVAL_MS = 30_000  # an idle socket was closed after 60 s
WS_PROBE: str | None = "PING"
MAX_SYMBOLS_PER_SOCKET = 500  # 855 were seen to work
MAX_MESSAGES_PER_SECOND = 1  # five, but a hundred a minute
SOCKET_LIFETIME_MS: int | None = None
ONE_BAD_SYMBOL_REFUSES_ALL = False  # unknown ones are ignored without a word
TRADE_IDS_CONTIGUOUS = False  # they tell no order either
DOCS = "https://docs.upbit.com"

# Per address and group. An Origin header would cut it to one request in 10 s: never send it.
BUDGETS: Mapping[str, Budget] = {
    "ticker": Budget(units=10, window_ms=1000),
    "candles": Budget(units=10, window_ms=1000),
    "trades": Budget(units=10, window_ms=1000),
}
MAX_CANDLES_PER_CALL = 200
MAX_CANDLES_BACK: int | None = None
MAX_TRADES_PER_CALL = 500
MAX_SYMBOLS_PER_CALL = 300  # the URL must stay below some 8000 encoded characters
QUOTES = ("KRW", "BTC", "USDT")

INTERVALS = {
    "1m": "minutes/1",
    "5m": "minutes/5",
    "15m": "minutes/15",
    "1h": "minutes/60",
    "4h": "minutes/240",
    "1d": "days",
}
TAKER_SIDE: Mapping[str, Side] = {"ASK": "sell", "BID": "buy"}
ERROR_CODES = {
    400: ErrorCode.BAD_REQUEST,
    404: ErrorCode.UNKNOWN_SYMBOL,
    418: ErrorCode.IP_BAN,
    429: ErrorCode.RATE_LIMIT,
    500: ErrorCode.BUSY,
    "too_many_requests": ErrorCode.RATE_LIMIT,
}
_REMAINING = re.compile(r"group=([a-z-]+);.*\bsec=([0-9]{1,4})")
_BLOCKED_FOR = re.compile(r"([0-9]{1,6})\s*(sec|min|초|분)")
_UNIT_MS = {"sec": 1000, "min": 60_000, "초": 1000, "분": 60_000}


def to_native(symbol: str) -> str:
    """Spell ``BTC/KRW`` as ``KRW-BTC``."""
    base, quote = split_symbol(symbol)
    return f"{quote}-{base}"


def from_native(exchange_symbol: str) -> str | None:
    """Spell ``KRW-BTC`` as ``BTC/KRW``."""
    quote, _, base = exchange_symbol.partition("-")
    return joined(base, quote)


def tickers_request(exchange_symbols: Sequence[str]) -> Request:
    """Ask for these tickers in one call; none, or more than fit a URL: all of them."""
    symbols = tuple(exchange_symbols)
    if not 0 < len(symbols) <= MAX_SYMBOLS_PER_CALL:
        quotes = (("quote_currencies", ",".join(QUOTES)),)
        return Request(path="/v1/ticker/all", params=quotes, budget="ticker", symbols=symbols)
    markets = (("markets", ",".join(symbols)),)
    return Request(path="/v1/ticker", params=markets, budget="ticker", symbols=symbols)


def parse_tickers(answer: Answer, symbols: Sequence[str] = ()) -> Parsed[Ticker]:
    """Read the tickers: the fields ending in ``_24h`` roll, their namesakes count from 00:00 UTC.

        [{"market":"KRW-BTC","trade_timestamp":1753894995076,"trade_price":162876000.00000000,
          "acc_trade_price_24h":167740032580.71786000,"acc_trade_volume_24h":1029.27369910,
          "timestamp":1753894995113, ...}]

    A quiet pair has an old ``trade_timestamp`` and a new ``timestamp``.
    https://docs.upbit.com/kr/reference
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal, symbols=symbols, usage=_usage(answer))
    read = partial(_ticker, received_ms=answer.received_ms)
    return answers.read_tickers(
        answers.named(answers.listing(body), "market"), read, symbols=symbols, usage=_usage(answer)
    )


def _ticker(name: str, row: Any, *, received_ms: int) -> Ticker:
    return Ticker(
        exchange_symbol=name,
        price=wire.price(row, "trade_price"),
        volume=wire.volume(row, "acc_trade_volume_24h"),
        quote_volume=wire.volume(row, "acc_trade_price_24h"),
        event_ms=wire.epoch_ms(row, "trade_timestamp"),
        frame_ms=wire.epoch_ms(row, "timestamp"),
        received_ms=received_ms,
    )


def candles_request(
    exchange_symbol: str, *, resolution_ms: int, from_ms: int, to_ms: int, now_ms: int
) -> Request:
    """Ask for the candles before ``to_ms``, an exclusive bound; there is none below.

    Minutes without trades are not returned, so the answer may reach back before ``from_ms``.
    """
    interval = answers.interval(INTERVALS, resolution_ms, exchange=NAME)
    _, last_ms, count = answers.candle_window(
        resolution_ms=resolution_ms, from_ms=from_ms, to_ms=to_ms, max_count=MAX_CANDLES_PER_CALL
    )
    until = wire.iso_text(last_ms + resolution_ms)
    return Request(
        path=f"/v1/candles/{interval}",
        params=(("market", exchange_symbol), ("to", until), ("count", str(count))),
        budget="candles",
        symbols=(exchange_symbol,),
    )


def parse_candles(answer: Answer, *, resolution_ms: int) -> Parsed[Candle]:
    """Read candles, newest first on the wire; times are UTC without saying so.

        [{"market":"KRW-BTC","candle_date_time_utc":"2020-02-20T11:19:00",
          "opening_price":11509000.0,"high_price":11511000.0,"low_price":11489000.0,
          "trade_price":11498000.0,"timestamp":1582197598691,
          "candle_acc_trade_price":30279009.54681,"candle_acc_trade_volume":2.63267824,"unit":1}]

    ``timestamp`` is the last trade inside, neither open nor close.
    https://docs.upbit.com/kr/reference
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal, usage=_usage(answer))
    rows = answers.listing(body)
    market = rows[0].get("market") if rows and isinstance(rows[0], dict) else None
    read = partial(_candle, closed_until_ms=answer.received_ms - resolution_ms)
    return answers.read_candles(rows, read, exchange_symbol=market, usage=_usage(answer))


def _candle(row: Any, *, closed_until_ms: int) -> Candle:
    open_ms = wire.iso_ms(row, "candle_date_time_utc")
    return Candle(
        open_ms=open_ms,
        open=wire.price(row, "opening_price"),
        high=wire.price(row, "high_price"),
        low=wire.price(row, "low_price"),
        close=wire.price(row, "trade_price"),
        volume=wire.volume(row, "candle_acc_trade_volume"),
        quote_volume=wire.volume(row, "candle_acc_trade_price"),
        closed=open_ms <= closed_until_ms,
    )


def subscribe_messages(exchange_symbols: Sequence[str]) -> tuple[str, ...]:
    """Subscribe to trades: one message for all, because a second one would replace the first."""
    if not exchange_symbols:
        return ()
    trades = {"type": "trade", "codes": list(exchange_symbols), "is_only_realtime": True}
    return (json.dumps([{"ticket": "oracle"}, trades, {"format": "DEFAULT"}]),)


def parse_message(message: str | bytes, state: Mapping[str, object], received_ms: int) -> Frames:
    """Read a trade in the DEFAULT or the SIMPLE format, alone or in a list; frames are binary.

        {"type":"trade","code":"KRW-BTC","timestamp":1788335180423,
          "trade_timestamp":1788335180377,"trade_price":106691000.00000000,
          "trade_volume":0.00009372,"ask_bid":"ASK","sequential_id":17883351803770004,
          "stream_type":"SNAPSHOT", ...}

    ASK: the taker sold. ``timestamp`` is the frame's.
    https://docs.upbit.com/kr/reference/websocket-trade
    """
    body = wire.decode(message)
    rows = body if isinstance(body, list) else [body]
    if not all(isinstance(row, dict) for row in rows):
        raise UnreadableError("not an object")
    trades = [(row.get("code"), row) for row in rows if row.get("type") == "trade"]
    if trades:
        return answers.read_trades(trades, _trade, received_ms=received_ms, state=state)
    trades = [(row.get("cd"), row) for row in rows if row.get("ty") == "trade"]
    if trades:
        return answers.read_trades(trades, _simple_trade, received_ms=received_ms, state=state)
    for row in rows:
        if "error" in row:
            error = row["error"] if isinstance(row["error"], dict) else {}
            return answers.refused_frame(state, ErrorCode.BAD_REQUEST, error.get("message"))
    return Frames(state=state)


def _trade(name: str, row: Any, received_ms: int, *, time_key: str = "trade_timestamp") -> Trade:
    return Trade(
        exchange_symbol=name,
        price=wire.price(row, "trade_price"),
        size=wire.size(row, "trade_volume"),
        side=wire.choice(row, "ask_bid", TAKER_SIDE),
        trade_id=wire.trade_id(row, "sequential_id"),
        event_ms=wire.epoch_ms(row, time_key),
        received_ms=received_ms,
    )


def _simple_trade(name: str, row: Any, received_ms: int) -> Trade:
    return Trade(
        exchange_symbol=name,
        price=wire.price(row, "tp"),
        size=wire.size(row, "tv"),
        side=wire.choice(row, "ab", TAKER_SIDE),
        trade_id=wire.trade_id(row, "sid"),
        event_ms=wire.epoch_ms(row, "ttms"),
        received_ms=received_ms,
    )


def trades_request(exchange_symbol: str, *, after_id: str, after_ms: int) -> Request:
    """Ask for the newest trades."""
    return Request(
        path="/v1/trades/ticks",
        params=(("market", exchange_symbol), ("count", str(MAX_TRADES_PER_CALL))),
        budget="trades",
        symbols=(exchange_symbol,),
    )


def parse_trades(answer: Answer, exchange_symbol: str) -> Parsed[Trade]:
    """Read the newest trades, newest first on the wire.

        [{"market":"KRW-BTC","trade_date_utc":"2018-04-18","trade_time_utc":"10:19:58",
          "timestamp":1524046798000,"trade_price":8616000.0,"trade_volume":0.03060688,
          "prev_closing_price":8450000.0,"change_price":166000.0,"ask_bid":"ASK",
          "sequential_id":1524046798000000}]

    https://docs.upbit.com/kr/reference
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal, usage=_usage(answer))
    rows = answers.named(reversed(answers.listing(body)), "market")
    read = partial(_trade, time_key="timestamp")
    return answers.read_past_trades(rows, read, answer, usage=_usage(answer))


def _usage(answer: Answer) -> Usage | None:
    """``Remaining-Req: group=ticker; min=600; sec=9``: nine more in this second."""
    left = _REMAINING.search(answer.headers.get("remaining-req", ""))
    if left is None or left[1] not in BUDGETS:
        return None
    return Usage(budget=left[1], used=max(0, BUDGETS[left[1]].units - int(left[2])))


def _refusal(body: dict[str, Any], answer: Answer) -> Refusal | None:
    """``{"error":{"name":404,"message":"Code not found"}}``; a block's length is in its text."""
    error = body.get("error")
    if not isinstance(error, dict):
        return None
    name, detail = error.get("name"), error.get("message")
    code = ERROR_CODES.get(name) if type(name) in (int, str) else None
    if code is None or answer.status in (418, 429):
        code = answers.code_by_status(answer)
    wait_ms = None
    if code in (ErrorCode.IP_BAN, ErrorCode.RATE_LIMIT) and isinstance(detail, str):
        length = _BLOCKED_FOR.search(detail)
        wait_ms = int(length[1]) * _UNIT_MS[length[2]] if length else None
    return answers.refused(answer, code, detail, retry_after_ms=wait_ms)
