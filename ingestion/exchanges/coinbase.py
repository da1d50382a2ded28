"""Coinbase Exchange. No documented bulk ticker; candles are LOW before HIGH; sides the maker's."""

from __future__ import annotations

import json
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
    Unresolved,
)
from ingestion.spelling import from_dashed, split_symbol
from oracle.values import Candle, ErrorCode, Side, Ticker, Trade

NAME = "coinbase"
REST_URL = "https://api.exchange.coinbase.com"
WS_URL = "wss://ws-feed.exchange.coinbase.com"
WS_PING: str | None = None  # the heartbeat channel keeps the socket busy
WS_PING_INTERVAL_MS = 0
WS_PROBE: str | None = None
MAX_SYMBOLS_PER_SOCKET = 200  # none is documented
MAX_MESSAGES_PER_SECOND = 50  # of a hundred
SOCKET_LIFETIME_MS: int | None = None
ONE_BAD_SYMBOL_REFUSES_ALL = True
TRADE_IDS_CONTIGUOUS = True
DOCS = "https://docs.cdp.coinbase.com/exchange"

BUDGETS: Mapping[str, Budget] = {"public": Budget(units=10, window_ms=1000)}
MAX_CANDLES_PER_CALL = 300
MAX_CANDLES_BACK: int | None = None
MAX_TRADES_PER_CALL = 1000

INTERVALS = {"1m": "60", "5m": "300", "15m": "900", "1h": "3600", "1d": "86400"}
TAKER_SIDE: Mapping[str, Side] = {"buy": "sell", "sell": "buy"}  # by the maker's side
ERROR_CODES = {
    "notfound": ErrorCode.UNKNOWN_SYMBOL,
    "not a valid product": ErrorCode.UNKNOWN_SYMBOL,
    "rate limit": ErrorCode.RATE_LIMIT,
    "granularity too small": ErrorCode.WINDOW_TOO_LARGE,
    "aggregations requested exceeds": ErrorCode.WINDOW_TOO_LARGE,
}
_SINGLE_FIELDS = {"price", "last", "open", "volume", "trade_id"}


def to_native(symbol: str) -> str:
    """Spell ``BTC/USD`` as ``BTC-USD``."""
    return "-".join(split_symbol(symbol))


def from_native(exchange_symbol: str) -> str | None:
    """Spell ``BTC-USD`` as ``BTC/USD``."""
    return from_dashed(exchange_symbol)


def tickers_request(exchange_symbols: Sequence[str]) -> Request:
    """Ask for every product's 24 h block: undocumented, and the only call for many at once.

    The body is cached for 5 s, so it trails the single ticker.
    """
    return Request(path="/products/stats", budget="public", symbols=tuple(exchange_symbols))


def parse_tickers(answer: Answer, symbols: Sequence[str] = ()) -> Parsed[Ticker]:
    """Read the bulk body, or that of one product: its ``/ticker`` or its ``/stats``.

        {"NEAR-USD":{"stats_30day":{"volume":"131512950.514"},"stats_24hour":{"open":"1.8",
          "high":"1.858","low":"1.786","last":"1.847","volume":"2183324.5"}}}
        {"ask":"25499.81","bid":"25499.8","volume":"17697.96099093","trade_id":539894971,
          "price":"25499.81","size":"0.00003172","time":"2023-06-16T02:26:52.037760Z"}
        {"open":"62605.56","high":"63351.3","low":"62159.76","last":"63212.41",
          "volume":"4918.33722403","volume_30day":"269980.64976703"}

    The single bodies name no product: it is the first of ``symbols``. Only ``/ticker`` has a
    time, and none has a quote volume.
    https://docs.cdp.coinbase.com/api-reference/exchange-api/rest-api/products/get-product-ticker
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal, symbols=symbols)
    rows = answers.mapping(body)
    if not _SINGLE_FIELDS.isdisjoint(rows):
        if not symbols:
            detail = "the body names no product: say which was asked for"
            return Parsed(unresolved=(Unresolved(code=ErrorCode.MISSING_FIELD, detail=detail),))
        read = partial(_single, received_ms=answer.received_ms)
        return answers.read_tickers([(symbols[0], rows)], read, symbols=symbols)
    read = partial(_bulk, received_ms=answer.received_ms)
    return answers.read_tickers(rows.items(), read, symbols=symbols)


def _bulk(name: str, row: Any, *, received_ms: int) -> Ticker:
    return _stats(name, wire.field(row, "stats_24hour"), received_ms=received_ms)


def _single(name: str, row: Any, *, received_ms: int) -> Ticker:
    if "price" not in row and "trade_id" not in row:
        return _stats(name, row, received_ms=received_ms)
    return Ticker(
        exchange_symbol=name,
        price=wire.price(row, "price"),
        volume=wire.volume(row, "volume"),
        quote_volume=None,
        event_ms=wire.iso_ms(row, "time"),
        received_ms=received_ms,
    )


def _stats(name: str, row: Any, *, received_ms: int) -> Ticker:
    return Ticker(
        exchange_symbol=name,
        price=wire.price(row, "last"),
        volume=wire.volume(row, "volume"),
        quote_volume=None,
        event_ms=None,
        received_ms=received_ms,
    )


def candles_request(
    exchange_symbol: str, *, resolution_ms: int, from_ms: int, to_ms: int, now_ms: int
) -> Request:
    """Ask for the candles opening in ``[from_ms, to_ms)``: both bounds, one alone is ignored.

    Whether ``end`` is inclusive differs between recordings, so it lies inside the last candle.
    """
    granularity = answers.interval(INTERVALS, resolution_ms, exchange=NAME)
    first_ms, last_ms, _ = answers.candle_window(
        resolution_ms=resolution_ms, from_ms=from_ms, to_ms=to_ms, max_count=MAX_CANDLES_PER_CALL
    )
    return Request(
        path=f"/products/{exchange_symbol}/candles",
        params=(
            ("granularity", granularity),
            ("start", wire.iso_text(first_ms)),
            ("end", wire.iso_text(last_ms + resolution_ms - 1000)),
        ),
        budget="public",
        symbols=(exchange_symbol,),
    )


def parse_candles(answer: Answer, *, resolution_ms: int) -> Parsed[Candle]:
    """Read candles: time s, LOW, HIGH, open, close, volume; newest first, minutes may lack.

        [[1788328800, 77598.58, 77681.16, 77606.33, 77609.01, 13.71681686], ...]

    https://docs.cdp.coinbase.com/api-reference/exchange-api/rest-api/products/get-product-candles
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal)
    read = partial(_candle, closed_until_ms=answer.received_ms - resolution_ms)
    return answers.read_candles(answers.listing(body), read)


def _candle(row: Any, *, closed_until_ms: int) -> Candle:
    open_ms = wire.seconds_ms(row, 0)
    return Candle(
        open_ms=open_ms,
        low=wire.price(row, 1),
        high=wire.price(row, 2),
        open=wire.price(row, 3),
        close=wire.price(row, 4),
        volume=wire.volume(row, 5),
        closed=open_ms <= closed_until_ms,
    )


def subscribe_messages(exchange_symbols: Sequence[str]) -> tuple[str, ...]:
    """Subscribe to matches, and to heartbeats, which tell a quiet product from a dead socket."""
    if not exchange_symbols:
        return ()
    channels = ["matches", "heartbeat"]
    products = list(exchange_symbols)
    return (json.dumps({"type": "subscribe", "product_ids": products, "channels": channels}),)


def parse_message(message: str | bytes, state: Mapping[str, object], received_ms: int) -> Frames:
    """Read a ``match``, or the ``last_match`` sent once after subscribing.

        {"type":"match","trade_id":1052119492,"maker_order_id":"27c0ce55-...",
          "taker_order_id":"817500b0-...","side":"buy","size":"0.00000004","price":"63513.33",
          "product_id":"BTC-USD","sequence":132235041555,"time":"2026-07-07T22:58:44.970433Z"}

    ``side`` is the MAKER's; the taker's is the other one.
    https://docs.cdp.coinbase.com/exchange/websocket-feed/channels
    """
    body = answers.mapping(wire.decode(message))
    kind = body.get("type")
    if kind in ("match", "last_match"):
        rows = ((body.get("product_id"), body),)
        return answers.read_trades(rows, _trade, received_ms=received_ms, state=state)
    if kind == "error":
        reason = body.get("reason") or body.get("message")
        return answers.refused_frame(state, _code(reason) or ErrorCode.BAD_REQUEST, reason)
    return Frames(state=state)


def _trade(name: str, row: Any, received_ms: int) -> Trade:
    return Trade(
        exchange_symbol=name,
        price=wire.price(row, "price"),
        size=wire.size(row, "size"),
        side=wire.choice(row, "side", TAKER_SIDE),
        trade_id=wire.trade_id(row, "trade_id"),
        event_ms=wire.iso_ms(row, "time"),
        received_ms=received_ms,
    )


def trades_request(exchange_symbol: str, *, after_id: str, after_ms: int) -> Request:
    """Ask for the page that ends a full page after this id: ``after`` means older than."""
    return Request(
        path=f"/products/{exchange_symbol}/trades",
        params=(
            ("after", str(int(after_id) + MAX_TRADES_PER_CALL + 1)),
            ("limit", str(MAX_TRADES_PER_CALL)),
        ),
        budget="public",
        symbols=(exchange_symbol,),
    )


def parse_trades(answer: Answer, exchange_symbol: str) -> Parsed[Trade]:
    """Read past trades, newest first on the wire; the rows do not name their product.

        [{"trade_id":1052119492,"side":"buy","size":"0.00000004","price":"63513.33",
          "time":"2026-07-07T22:58:44.970433Z"}]

    ``side`` is the MAKER's here too.
    https://docs.cdp.coinbase.com/api-reference/exchange-api/rest-api/products/get-product-trades
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal)
    rows = ((exchange_symbol, row) for row in reversed(answers.listing(body)))
    return answers.read_past_trades(rows, _trade, answer)


def _refusal(body: dict[str, Any], answer: Answer) -> Refusal | None:
    """``{"message":"NotFound"}`` with a 4xx: told apart by its text alone."""
    if "message" not in body:
        return None
    code = _code(body["message"])
    if code is None:
        code = ErrorCode.BAD_REQUEST if answers.is_ok(answer) else answers.code_by_status(answer)
    return answers.refused(answer, code, body["message"])


def _code(message: Any) -> ErrorCode | None:
    said = message.lower() if isinstance(message, str) else ""
    return next((code for part, code in ERROR_CODES.items() if part in said), None)
