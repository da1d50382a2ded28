"""OKX spot. Everything is text, milliseconds too."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ingestion import answers, wire
from ingestion.adapter import Answer, Budget, Frames, Parsed, Refusal, Request
from ingestion.spelling import from_dashed, split_symbol
from oracle.values import Candle, ErrorCode, Side, Ticker, Trade

NAME = "okx"
REST_URL = "https://www.okx.com"
WS_URL = "wss://ws.okx.com:8443/ws/v5/public"
WS_PING: str | None = "ping"
WS_PING_INTERVAL_MS = 20_000  # closed after 30 s with nothing pushed
WS_PROBE: str | None = "ping"
MAX_SYMBOLS_PER_SOCKET = 400  # a connection may ask 480 times an hour
MAX_MESSAGES_PER_SECOND = 3
SOCKET_LIFETIME_MS: int | None = None
ONE_BAD_SYMBOL_REFUSES_ALL = False
TRADE_IDS_CONTIGUOUS = True  # counting the fills that a message merges
DOCS = "https://www.okx.com/docs-v5/en/"

BUDGETS: Mapping[str, Budget] = {
    "tickers": Budget(units=20, window_ms=2000),
    "candles": Budget(units=40, window_ms=2000),
    "history": Budget(units=20, window_ms=2000),
}
MAX_CANDLES_PER_CALL = 100  # what the history endpoint was seen to give; 300 are documented
MAX_CANDLES_BACK: int | None = None
MAX_TRADES_PER_CALL = 100
RECENT_CANDLES = 1440  # older ones are with the history endpoint
MAX_CHANNELS_PER_MESSAGE = 200  # a request may have 64 KB

# 1Dutc, because a plain 1D begins at 16:00 UTC.
INTERVALS = {"1m": "1m", "5m": "5m", "15m": "15m", "1h": "1H", "4h": "4H", "1d": "1Dutc"}
TAKER_SIDE: Mapping[str, Side] = {"buy": "buy", "sell": "sell"}
CLOSED = {"1": True, "0": False}
ERROR_CODES = {
    "50011": ErrorCode.RATE_LIMIT,
    "50061": ErrorCode.RATE_LIMIT,
    "60014": ErrorCode.RATE_LIMIT,
    "51001": ErrorCode.UNKNOWN_SYMBOL,
    "60018": ErrorCode.UNKNOWN_SYMBOL,
    "51000": ErrorCode.BAD_REQUEST,
    "50014": ErrorCode.BAD_REQUEST,
    "60012": ErrorCode.BAD_REQUEST,
    "50001": ErrorCode.BUSY,
    "50004": ErrorCode.BUSY,
    "50013": ErrorCode.BUSY,
    "50026": ErrorCode.BUSY,
}
_SMALL = re.compile(r"[1-9][0-9]{0,3}")


def to_native(symbol: str) -> str:
    """Spell ``BTC/USDT`` as ``BTC-USDT``."""
    return "-".join(split_symbol(symbol))


def from_native(exchange_symbol: str) -> str | None:
    """Spell ``BTC-USDT`` as ``BTC/USDT``; None: a swap, an option (``BTC-USD-SWAP``)."""
    return from_dashed(exchange_symbol)


def tickers_request(exchange_symbols: Sequence[str]) -> Request:
    """Ask for all spot tickers: one call whatever the number of symbols."""
    return Request(
        path="/api/v5/market/tickers",
        params=(("instType", "SPOT"),),
        budget="tickers",
        symbols=tuple(exchange_symbols),
    )


def parse_tickers(answer: Answer, symbols: Sequence[str] = ()) -> Parsed[Ticker]:
    """Read the spot tickers.

        {"code":"0","msg":"","data":[{"instType":"SPOT","instId":"BTC-USDT","last":"76624",
          "vol24h":"2045.4695125","volCcy24h":"157946208.103004577","ts":"1789291902975", ...}]}

    ``volCcy24h`` is in quote currency on spot, in base on swaps.
    https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-tickers
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal, symbols=symbols)
    rows = answers.named(answers.listing(body, "data"), "instId")
    return answers.read_tickers(
        rows, partial(_ticker, received_ms=answer.received_ms), symbols=symbols
    )


def _ticker(name: str, row: Any, *, received_ms: int) -> Ticker:
    return Ticker(
        exchange_symbol=name,
        price=wire.price(row, "last"),
        volume=wire.volume(row, "vol24h"),
        quote_volume=wire.volume(row, "volCcy24h"),
        event_ms=wire.epoch_ms(row, "ts"),
        received_ms=received_ms,
    )


def candles_request(
    exchange_symbol: str, *, resolution_ms: int, from_ms: int, to_ms: int, now_ms: int
) -> Request:
    """Ask for the candles opening in ``[from_ms, to_ms)``, of the endpoint that still has them.

    ``after`` gives rows older than it and ``before`` rows newer, both without their own.
    """
    bar = answers.interval(INTERVALS, resolution_ms, exchange=NAME)
    first_ms, last_ms, limit = answers.candle_window(
        resolution_ms=resolution_ms, from_ms=from_ms, to_ms=to_ms, max_count=MAX_CANDLES_PER_CALL
    )
    recent = (now_ms - first_ms) // resolution_ms < RECENT_CANDLES - 1
    return Request(
        path="/api/v5/market/candles" if recent else "/api/v5/market/history-candles",
        params=(
            ("instId", exchange_symbol),
            ("bar", bar),
            ("after", str(last_ms + resolution_ms)),
            ("before", str(first_ms - 1)),
            ("limit", str(limit)),
        ),
        budget="candles" if recent else "history",
        symbols=(exchange_symbol,),
    )


def parse_candles(answer: Answer, *, resolution_ms: int) -> Parsed[Candle]:
    """Read candles, newest first: time, open, high, low, close, volume, -, quote volume, confirm.

        {"code":"0","data":[["1788083280000","78044.7","78056.2","78044.7","78056.1",
          "0.84606466","66037.286538674","66037.286538674","0"], ...],"msg":""}

    ``confirm`` is 0 while the candle is forming.
    https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-candlesticks
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal)
    return answers.read_candles(answers.listing(body, "data"), _candle)


def _candle(row: Any) -> Candle:
    return Candle(
        open_ms=wire.epoch_ms(row, 0),
        open=wire.price(row, 1),
        high=wire.price(row, 2),
        low=wire.price(row, 3),
        close=wire.price(row, 4),
        volume=wire.volume(row, 5),
        quote_volume=wire.volume(row, 7),
        closed=wire.choice(row, 8, CLOSED),
    )


def subscribe_messages(exchange_symbols: Sequence[str]) -> tuple[str, ...]:
    """Subscribe to trades. https://www.okx.com/docs-v5/en/#websocket-api-subscribe"""
    channels = [{"channel": "trades", "instId": symbol} for symbol in exchange_symbols]
    chunks = answers.chunks(channels, MAX_CHANNELS_PER_MESSAGE)
    return tuple(json.dumps({"op": "subscribe", "args": chunk}) for chunk in chunks)


def parse_message(message: str | bytes, state: Mapping[str, object], received_ms: int) -> Frames:
    """Read a push of the trades channel, one or more trades; the text ``pong`` is not JSON.

        {"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT",
          "tradeId":"1051102132","px":"78808.8","sz":"0.00504905","side":"sell",
          "ts":"1788118931677","count":"1","source":"0","seqId":80559459948}]}

    Fills of one taker order at one price are merged: ``count`` of them, under the last one's id.
    https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-trades-channel
    """
    if message in ("pong", b"pong"):
        return Frames(state=state)
    body = answers.mapping(wire.decode(message))
    arg = body.get("arg")
    if "data" in body and isinstance(arg, dict) and arg.get("channel") == "trades":
        rows = answers.named(answers.listing(body, "data"), "instId")
        frames = answers.read_trades(rows, _trade, received_ms=received_ms, state=state)
        fills = _fills(rows)
        return replace(frames, fills=fills) if fills else frames
    if body.get("event") == "error":
        code = ERROR_CODES.get(str(body.get("code")), ErrorCode.BAD_REQUEST)
        return answers.refused_frame(state, code, body.get("msg"))
    return Frames(state=state)


def _fills(rows: Sequence[tuple[Any, Any]]) -> dict[str, int]:
    """How many executions a row stands for, by its id, where it is more than one."""
    merged = ((row, row.get("count")) for _, row in rows if isinstance(row, dict))
    return {
        str(row.get("tradeId")): int(count)
        for row, count in merged
        if type(count) is str and _SMALL.fullmatch(count) and count != "1"
    }


def _trade(name: str, row: Any, received_ms: int) -> Trade:
    return Trade(
        exchange_symbol=name,
        price=wire.price(row, "px"),
        size=wire.size(row, "sz"),
        side=wire.choice(row, "side", TAKER_SIDE),
        trade_id=wire.trade_id(row, "tradeId"),
        event_ms=wire.epoch_ms(row, "ts"),
        received_ms=received_ms,
    )


def trades_request(exchange_symbol: str, *, after_id: str, after_ms: int) -> Request:
    """Ask for a page that begins after this id: to OKX ``after`` means older than."""
    return Request(
        path="/api/v5/market/history-trades",
        params=(
            ("instId", exchange_symbol),
            ("type", "1"),
            ("after", str(int(after_id) + MAX_TRADES_PER_CALL + 1)),
            ("limit", str(MAX_TRADES_PER_CALL)),
        ),
        budget="history",
        symbols=(exchange_symbol,),
    )


def parse_trades(answer: Answer, exchange_symbol: str) -> Parsed[Trade]:
    """Read past trades, newest first on the wire, none of them merged.

        {"code":"0","msg":"","data":[{"instId":"BTC-USDT","side":"sell","sz":"0.00001",
          "px":"29963.2","tradeId":"242720720","ts":"1654161646974"}]}

    https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-trades-history
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal)
    rows = answers.named(reversed(answers.listing(body, "data")), "instId")
    return answers.read_past_trades(rows, _trade, answer)


def _refusal(body: dict[str, Any], answer: Answer) -> Refusal | None:
    """``{"code":"51001","data":[],"msg":"Instrument ID ... doesn't exist."}``; also a number."""
    if "code" not in body or body["code"] in ("0", 0):
        return None
    code = ERROR_CODES.get(str(body["code"])) or answers.code_by_status(answer)
    return answers.refused(answer, code, body.get("msg"))
