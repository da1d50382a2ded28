from __future__ import annotations

import json

import pytest

from ingestion.exchanges import okx
from oracle.values import ErrorCode
from tests.ingestion.fixtures import RECEIVED_MS, answer, payload, url

MINUTE = 60_000
DAY = 86_400_000


def test_from_native_swap_is_none_of_ours() -> None:
    assert (okx.from_native("BTC-USDT"), okx.from_native("BTC-USD-SWAP")) == ("BTC/USDT", None)


def test_tickers_request_asks_for_spot() -> None:
    assert url(okx, okx.tickers_request(["BTC-USDT"])) == (
        "https://www.okx.com/api/v5/market/tickers?instType=SPOT"
    )


def test_candles_request_bounds_are_exclusive() -> None:
    request = okx.candles_request(
        "BTC-USDT",
        resolution_ms=DAY,
        from_ms=1_632_009_600_000,
        to_ms=1_632_009_600_000 + 3 * DAY,
        now_ms=RECEIVED_MS,
    )

    assert url(okx, request) == (
        "https://www.okx.com/api/v5/market/history-candles?instId=BTC-USDT&bar=1Dutc"
        "&after=1632268800000&before=1632009599999&limit=3"
    )
    assert request.budget == "history"


@pytest.mark.parametrize(
    ("minutes_ago", "path", "budget"),
    [
        (10, "/api/v5/market/candles", "candles"),
        (1438, "/api/v5/market/candles", "candles"),
        (1440, "/api/v5/market/history-candles", "history"),
    ],
)
def test_candles_request_endpoint_follows_age(minutes_ago: int, path: str, budget: str) -> None:
    now_ms = 1_788_083_280_000
    from_ms = now_ms - minutes_ago * MINUTE

    request = okx.candles_request(
        "BTC-USDT",
        resolution_ms=MINUTE,
        from_ms=from_ms,
        to_ms=from_ms + MINUTE,
        now_ms=now_ms,
    )

    assert (request.path, request.budget) == (path, budget)


def test_parse_candles_unconfirmed_row_is_not_closed() -> None:
    body = payload("okx", "candles_1.json").body

    parsed = okx.parse_candles(answer(body), resolution_ms=MINUTE)

    assert [candle.closed for candle in parsed.values] == [True, True, True, True, False]


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (429, '{"msg":"Too Many Requests","code":"50011"}', ErrorCode.RATE_LIMIT),
        (429, '{"msg":"Too Many Requests","code":50011}', ErrorCode.RATE_LIMIT),
        (200, '{"code":"51001","data":[],"msg":"gone"}', ErrorCode.UNKNOWN_SYMBOL),
        (200, '{"code":"51000","data":[],"msg":"Parameter bar error"}', ErrorCode.BAD_REQUEST),
        (200, '{"code":"50013","data":[],"msg":"Systems are busy"}', ErrorCode.BUSY),
        (200, '{"code":"59999","data":[],"msg":"?"}', ErrorCode.EXCHANGE_ERROR),
        (200, '{"code":{},"data":[]}', ErrorCode.EXCHANGE_ERROR),
        (503, "<html></html>", ErrorCode.BUSY),
    ],
)
def test_refusal_has_its_code(status: int, body: str, code: ErrorCode) -> None:
    refusal = okx.parse_tickers(answer(body, status=status)).refusal

    assert refusal and refusal.code == code


@pytest.mark.parametrize("message", ["pong", b"pong"])
def test_parse_message_pong_is_text(message: str | bytes) -> None:
    assert okx.parse_message(message, {}, RECEIVED_MS).trades == ()


def test_parse_message_several_entries_are_several_trades() -> None:
    messages = payload("okx", "ws_trades_1.jsonl").messages[:2]
    first, second = (json.loads(message) for message in messages)

    both = okx.parse_message(
        json.dumps({**first, "data": first["data"] + second["data"]}), {}, RECEIVED_MS
    )

    assert [trade.trade_id for trade in both.trades] == ["338476307", "338476308"]


def test_subscribe_messages_names_channel_and_instrument() -> None:
    [message] = okx.subscribe_messages(["BTC-USDT"])

    assert json.loads(message) == {
        "op": "subscribe",
        "args": [{"channel": "trades", "instId": "BTC-USDT"}],
    }
