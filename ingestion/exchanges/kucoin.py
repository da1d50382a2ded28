"""KuCoin spot. Candles are CLOSE before HIGH before LOW; trade times are nanoseconds."""

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
    UnreadableError,
    Usage,
)
from ingestion.spelling import from_dashed, split_symbol
from oracle.values import Candle, ErrorCode, Side, Ticker, Trade

NAME = "kucoin"
REST_URL = "https://api.kucoin.com"
WS_URL = "wss://ws-api-spot.kucoin.com/"  # each connection needs a fresh token of bullet-public
WS_PING: str | None = '{"id":"1","type":"ping"}'
WS_PING_INTERVAL_MS = 18_000  # data that flows does not count
WS_PROBE: str | None = '{"id":"0","type":"ping"}'
MAX_SYMBOLS_PER_SOCKET = 300
MAX_MESSAGES_PER_SECOND = 8  # of a hundred in 10 s
SOCKET_LIFETIME_MS: int | None = 86_400_000  # that of the token
ONE_BAD_SYMBOL_REFUSES_ALL = True
TRADE_IDS_CONTIGUOUS = False
DOCS = "https://www.kucoin.com/docs-new"

BUDGETS: Mapping[str, Budget] = {"public": Budget(units=2000, window_ms=30_000)}
MAX_CANDLES_PER_CALL = 1500
MAX_CANDLES_BACK: int | None = None
MAX_TRADES_PER_CALL = 100
MAX_SYMBOLS_PER_MESSAGE = 100

INTERVALS = {"1m": "1min", "5m": "5min", "15m": "15min", "1h": "1hour", "4h": "4hour", "1d": "1day"}
TAKER_SIDE: Mapping[str, Side] = {"buy": "buy", "sell": "sell"}
ERROR_CODES = {
    "900001": ErrorCode.UNKNOWN_SYMBOL,
    "404": ErrorCode.UNKNOWN_SYMBOL,  # on the socket: no such topic
    "429000": ErrorCode.RATE_LIMIT,
    "509": ErrorCode.RATE_LIMIT,  # on the socket: too many messages from us
    "400100": ErrorCode.BAD_REQUEST,
    "405000": ErrorCode.BAD_REQUEST,
    "500000": ErrorCode.BUSY,
}


def to_native(symbol: str) -> str:
    """Spell ``BTC/USDT`` as ``BTC-USDT``."""
    return "-".join(split_symbol(symbol))


def from_native(exchange_symbol: str) -> str | None:
    """Spell ``BTC-USDT`` as ``BTC/USDT``."""
    return from_dashed(exchange_symbol)


def tickers_request(exchange_symbols: Sequence[str]) -> Request:
    """Ask for all tickers: one snapshot, renewed every 2 s."""
    return Request(
        path="/api/v1/market/allTickers",
        weight=15,
        budget="public",
        symbols=tuple(exchange_symbols),
    )


def parse_tickers(answer: Answer, symbols: Sequence[str] = ()) -> Parsed[Ticker]:
    """Read the snapshot of all tickers, or the ``/market/stats`` of one symbol.

        {"code":"200000","data":{"time":1672585595001,"ticker":[{"symbol":"NKN-USDT",
          "symbolName":"NKN-USDT","vol":"70811.9958","volValue":"5582.1354108166",
          "last":"0.079414", ...}]}}
        {"code":"200000","data":{"time":1709897710012,"symbol":"BTC-USDT",
          "vol":"6442.17728633","volValue":"433203364.463489651","last":"67400", ...}}

    One time for all rows. ``symbolName`` follows a coin's renaming, ``symbol`` stays. Rows of
    2019 have no ``volValue``, and ``last`` may be null.
    https://www.kucoin.com/docs-new/rest/spot-trading/market-data/get-all-tickers
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal, symbols=symbols, usage=_usage(answer))
    data = answers.mapping(body, "data")
    rows = [data] if "symbol" in data else answers.listing(data, "ticker")
    read = partial(_ticker, envelope=data, received_ms=answer.received_ms)
    return answers.read_tickers(
        answers.named(rows, "symbol"), read, symbols=symbols, usage=_usage(answer)
    )


def _ticker(name: str, row: Any, *, envelope: dict[str, Any], received_ms: int) -> Ticker:
    return Ticker(
        exchange_symbol=name,
        price=wire.price(row, "last"),
        volume=wire.volume(row, "vol"),
        quote_volume=wire.volume(row, "volValue"),
        event_ms=wire.epoch_ms(envelope, "time") if "time" in envelope else None,
        received_ms=received_ms,
    )


def candles_request(
    exchange_symbol: str, *, resolution_ms: int, from_ms: int, to_ms: int, now_ms: int
) -> Request:
    """Ask for the candles opening in ``[from_ms, to_ms)``, always with both bounds.

    Whether ``endAt`` is inclusive is not documented, so it lies inside the last candle.
    """
    word = answers.interval(INTERVALS, resolution_ms, exchange=NAME)
    first_ms, last_ms, _ = answers.candle_window(
        resolution_ms=resolution_ms, from_ms=from_ms, to_ms=to_ms, max_count=MAX_CANDLES_PER_CALL
    )
    return Request(
        path="/api/v1/market/candles",
        params=(
            ("symbol", exchange_symbol),
            ("type", word),
            ("startAt", str(first_ms // 1000)),
            ("endAt", str((last_ms + resolution_ms) // 1000 - 1)),
        ),
        weight=3,
        budget="public",
        symbols=(exchange_symbol,),
    )


def parse_candles(answer: Answer, *, resolution_ms: int) -> Parsed[Candle]:
    """Read candles, newest first: time s, open, CLOSE, HIGH, LOW, volume, quote volume.

        {"code":"200000","data":[["1788328800","77625","77674.6","77689","77625",
          "7.04447437","547069.686194431"], ...]}

    Minutes without trades are not there.
    https://www.kucoin.com/docs-new/rest/spot-trading/market-data/get-klines
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal, usage=_usage(answer))
    read = partial(_candle, closed_until_ms=answer.received_ms - resolution_ms)
    return answers.read_candles(answers.listing(body, "data"), read, usage=_usage(answer))


def _candle(row: Any, *, closed_until_ms: int) -> Candle:
    open_ms = wire.seconds_ms(row, 0)
    return Candle(
        open_ms=open_ms,
        open=wire.price(row, 1),
        close=wire.price(row, 2),
        high=wire.price(row, 3),
        low=wire.price(row, 4),
        volume=wire.volume(row, 5),
        quote_volume=wire.volume(row, 6),
        closed=open_ms <= closed_until_ms,
    )


def subscribe_messages(exchange_symbols: Sequence[str]) -> tuple[str, ...]:
    """Subscribe to matches, a hundred symbols to a message."""
    chunks = answers.chunks(exchange_symbols, MAX_SYMBOLS_PER_MESSAGE)
    return tuple(
        json.dumps(
            {
                "id": str(number),
                "type": "subscribe",
                "topic": f"/market/match:{','.join(chunk)}",
                "privateChannel": False,
                "response": True,
            }
        )
        for number, chunk in enumerate(chunks, start=1)
    )


def parse_message(message: str | bytes, state: Mapping[str, object], received_ms: int) -> Frames:
    """Read a match; the order of its keys differs between match engines.

        {"topic":"/market/match:BTC-USDT","type":"message","subject":"trade.l3match","data":{
          "symbol":"BTC-USDT","side":"sell","type":"match","sequence":"1629863091969",
          "size":"0.0006658","price":"29409.9","time":"1653167886422553108",
          "tradeId":"6289570e2e113d2923dfad6b", ...}}

    ``side`` is the taker's, ``time`` is in nanoseconds.
    https://www.kucoin.com/docs-new/3470072w0
    """
    body = answers.mapping(wire.decode(message))
    if body.get("type") == "message" and body.get("subject") == "trade.l3match":
        rows = answers.named([answers.mapping(body, "data")], "symbol")
        return answers.read_trades(rows, _trade, received_ms=received_ms, state=state)
    if body.get("type") == "error":
        code = ERROR_CODES.get(str(body.get("code")), ErrorCode.BAD_REQUEST)
        return answers.refused_frame(state, code, body.get("data"))
    return Frames(state=state)


def _trade(name: str, row: Any, received_ms: int) -> Trade:
    return Trade(
        exchange_symbol=name,
        price=wire.price(row, "price"),
        size=wire.size(row, "size"),
        side=wire.choice(row, "side", TAKER_SIDE),
        trade_id=wire.trade_id(row, "tradeId"),
        event_ms=wire.epoch_ms(row, "time", ns_per_unit=1),
        received_ms=received_ms,
    )


def trades_request(exchange_symbol: str, *, after_id: str, after_ms: int) -> Request:
    """Ask for the newest trades."""
    return Request(
        path="/api/v1/market/histories",
        params=(("symbol", exchange_symbol),),
        weight=3,
        budget="public",
        symbols=(exchange_symbol,),
    )


def parse_trades(answer: Answer, exchange_symbol: str) -> Parsed[Trade]:
    """Read the newest trades, in any order, oldest first; the rows do not name their symbol.

        {"code":"200000","data":[{"sequence":"1545896668571","price":"0.07","size":"0.004",
          "side":"buy","time":1545904567062140823,"tradeId":"6289570e2e113d2923dfad6b"}]}

    https://www.kucoin.com/docs-new/rest/spot-trading/market-data/get-trade-history
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal, usage=_usage(answer))
    rows = ((exchange_symbol, row) for row in sorted(answers.listing(body, "data"), key=_place))
    return answers.read_past_trades(rows, _trade, answer, usage=_usage(answer))


def _place(row: Any) -> tuple[int, int]:
    """Where a trade stands among others: its time, and of those at the same time its sequence."""
    try:
        event_ms = wire.epoch_ms(row, "time", ns_per_unit=1)
    except wire.RowError:
        return 0, 0  # it is no trade
    try:
        return event_ms, int(wire.trade_id(row, "sequence"))
    except ValueError:  # a RowError too
        return event_ms, 0


def token_request() -> Request:
    """Ask for a token and the address of a socket; a new one for each connection."""
    return Request(path="/api/v1/bullet-public", method="POST", weight=10, budget="public")


def parse_token(answer: Answer) -> Parsed[str]:
    """Read the address, the token in it.

        {"code":"200000","data":{"token":"2neAiuYvAU61ZDXANAGAsiL4...","instanceServers":[{
          "endpoint":"wss://ws-api-spot.kucoin.com/","encrypt":true,"protocol":"websocket",
          "pingInterval":18000,"pingTimeout":10000}]}}

    https://www.kucoin.com/docs-new/websocket-api/base-info/get-public-token-spot-margin
    """
    body, refusal = answers.opened(answer, _refusal)
    if refusal:
        return answers.refusal_parsed(refusal, usage=_usage(answer))
    data = answers.mapping(body, "data")
    servers = answers.listing(data, "instanceServers")
    try:
        token, endpoint = wire.field(data, "token"), wire.field(wire.field(servers, 0), "endpoint")
    except wire.RowError as error:
        raise UnreadableError(f"no socket in the answer: {error}") from None
    if not isinstance(token, str) or not isinstance(endpoint, str):
        raise UnreadableError("token and endpoint must be text")
    url = f"{endpoint.rstrip('/')}/?token={token}"
    return Parsed(values=(url,), usage=_usage(answer))


def _usage(answer: Answer) -> Usage | None:
    limit = answers.header_int(answer, "gw-ratelimit-limit")
    left = answers.header_int(answer, "gw-ratelimit-remaining")
    if limit is None or left is None:
        return None
    return Usage(budget="public", used=max(0, limit - left))


def _refusal(body: dict[str, Any], answer: Answer) -> Refusal | None:
    """``{"msg":"Trading pair NOTACOIN-USDT does not exist.","code":"900001"}``, HTTP 200 or 4xx."""
    if "code" not in body or body["code"] in ("200000", 200000):
        return None
    code = ERROR_CODES.get(str(body["code"])) or answers.code_by_status(answer)
    wait_ms = (
        answers.header_int(answer, "gw-ratelimit-reset") if code is ErrorCode.RATE_LIMIT else None
    )
    return answers.refused(answer, code, body.get("msg"), retry_after_ms=wait_ms)
