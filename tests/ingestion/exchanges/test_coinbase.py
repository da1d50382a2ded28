from __future__ import annotations

import json
from decimal import Decimal

import pytest

from ingestion.exchanges import coinbase
from oracle.values import ErrorCode
from tests.ingestion.fixtures import RECEIVED_MS, answer, payload, url

MINUTE = 60_000


def test_tickers_request_is_the_bulk_of_stats() -> None:
    request = coinbase.tickers_request(["BTC-USD"])

    assert url(coinbase, request) == "https://api.exchange.coinbase.com/products/stats"


@pytest.mark.parametrize("name", ["tickers_1.json", "tickers_3.json"])
def test_parse_tickers_single_body_is_of_the_symbol_asked_for(name: str) -> None:
    parsed = coinbase.parse_tickers(answer(payload("coinbase", name).body), ["BTC-USD", "ETH-USD"])

    assert [ticker.exchange_symbol for ticker in parsed.values] == ["BTC-USD"]
    assert [(row.exchange_symbol, row.code) for row in parsed.unresolved] == [
        ("ETH-USD", ErrorCode.NOT_RETURNED)
    ]


def test_parse_tickers_single_body_of_nobody_is_unresolved() -> None:
    parsed = coinbase.parse_tickers(answer(payload("coinbase", "tickers_1.json").body))

    assert parsed.values == ()
    assert [(row.exchange_symbol, row.code) for row in parsed.unresolved] == [
        (None, ErrorCode.MISSING_FIELD)
    ]


def test_parse_tickers_block_without_last_is_no_price() -> None:
    content = json.loads(payload("coinbase", "tickers_4.json").body)
    del content["NEAR-USD"]["stats_24hour"]["last"]

    [row] = coinbase.parse_tickers(answer(json.dumps(content))).unresolved

    assert (row.exchange_symbol, row.code) == ("NEAR-USD", ErrorCode.MISSING_FIELD)


def test_candles_request_ends_inside_the_last_candle() -> None:
    request = coinbase.candles_request(
        "BTC-USD",
        resolution_ms=MINUTE,
        from_ms=1_517_443_200_000,
        to_ms=1_517_443_200_000 + 300 * MINUTE,
        now_ms=RECEIVED_MS,
    )

    assert url(coinbase, request) == (
        "https://api.exchange.coinbase.com/products/BTC-USD/candles"
        "?granularity=60&start=2018-02-01T00:00:00Z&end=2018-02-01T04:59:59Z"
    )


def test_candles_request_four_hours_is_refused_naming_what_there_is() -> None:
    with pytest.raises(ValueError, match="coinbase has candles of 1m 5m 15m 1h 1d, not of 4h"):
        coinbase.candles_request(
            "BTC-USD", resolution_ms=14_400_000, from_ms=0, to_ms=1, now_ms=RECEIVED_MS
        )


def test_parse_candles_low_comes_before_high() -> None:
    body = "[[1788328800, 77598.58, 77681.16, 77606.33, 77609.01, 13.71681686]]"

    [candle] = coinbase.parse_candles(answer(body), resolution_ms=MINUTE).values

    assert (candle.low, candle.high, candle.open, candle.close) == (
        Decimal("77598.58"),
        Decimal("77681.16"),
        Decimal("77606.33"),
        Decimal("77609.01"),
    )


def test_parse_candles_newest_row_is_forming() -> None:
    body = payload("coinbase", "candles_1.json").body

    parsed = coinbase.parse_candles(
        answer(body, received_ms=1788328800_000 + 59 * MINUTE), resolution_ms=60 * MINUTE
    )

    assert [candle.closed for candle in parsed.values] == [True, True, True, True, False]


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (404, '{"message":"NotFound"}', ErrorCode.UNKNOWN_SYMBOL),
        (429, '{"message":"Public rate limit exceeded"}', ErrorCode.RATE_LIMIT),
        (429, "Too many requests", ErrorCode.RATE_LIMIT),
        (400, '{"message":"Unsupported granularity"}', ErrorCode.BAD_REQUEST),
        (503, '{"message":"Service unavailable"}', ErrorCode.BUSY),
        (200, '{"message":5}', ErrorCode.BAD_REQUEST),
    ],
)
def test_refusal_has_its_code(status: int, body: str, code: ErrorCode) -> None:
    refusal = coinbase.parse_tickers(answer(body, status=status)).refusal

    assert refusal and refusal.code == code


@pytest.mark.parametrize(("makers", "takers"), [("buy", "sell"), ("sell", "buy")])
def test_parse_message_side_is_the_takers(makers: str, takers: str) -> None:
    content = json.loads(payload("coinbase", "ws_trades_1.jsonl").messages[0])

    frames = coinbase.parse_message(json.dumps({**content, "side": makers}), {}, RECEIVED_MS)

    assert [trade.side for trade in frames.trades] == [takers]


def test_parse_message_refused_product_is_unknown_symbol() -> None:
    message = payload("coinbase", "ws_control_1.jsonl").messages[-1]

    [row] = coinbase.parse_message(message, {}, RECEIVED_MS).unresolved

    assert (row.code, row.detail) == (ErrorCode.UNKNOWN_SYMBOL, " is not a valid product")


def test_subscribe_messages_asks_for_heartbeats_too() -> None:
    [message] = coinbase.subscribe_messages(["BTC-USD", "ETH-USD"])

    assert json.loads(message) == {
        "type": "subscribe",
        "product_ids": ["BTC-USD", "ETH-USD"],
        "channels": ["matches", "heartbeat"],
    }
