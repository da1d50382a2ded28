from __future__ import annotations

import json

import pytest

from ingestion.exchanges import bybit
from oracle.values import ErrorCode
from tests.ingestion.fixtures import RECEIVED_MS, answer, payload, url

MINUTE = 60_000


def test_from_native_splits_by_known_quote() -> None:
    names = ["BTCUSDT", "ETHBTC", "USDEUSDT", "BTC-USDT", "XYZ"]

    assert [bybit.from_native(name) for name in names] == [
        *("BTC/USDT", "ETH/BTC", "USDE/USDT", None, None)
    ]


def test_tickers_request_names_the_category() -> None:
    assert url(bybit, bybit.tickers_request(["BTCUSDT"])) == (
        "https://api.bybit.com/v5/market/tickers?category=spot"
    )


def test_candles_request_names_the_category_and_inclusive_bounds() -> None:
    request = bybit.candles_request(
        "BTCUSDT",
        resolution_ms=MINUTE,
        from_ms=1_788_080_940_000,
        to_ms=1_788_080_940_000 + 5 * MINUTE,
        now_ms=RECEIVED_MS,
    )

    assert url(bybit, request) == (
        "https://api.bybit.com/v5/market/kline?category=spot&symbol=BTCUSDT&interval=1"
        "&start=1788080940000&end=1788081180000&limit=5"
    )


def test_parse_tickers_time_is_the_envelopes() -> None:
    whole = bybit.parse_tickers(answer(payload("bybit", "doc_tickers_1.json").body))
    pushed = bybit.parse_tickers(answer(payload("bybit", "tickers_2.json").body))
    without = bybit.parse_tickers(answer(payload("bybit", "tickers_1.json").body))

    assert [parsed.values[0].event_ms for parsed in (whole, pushed, without)] == [
        1673859087947,
        1749185744881,
        None,
    ]


def test_parse_tickers_bad_envelope_time_is_bad_time() -> None:
    body = payload("bybit", "doc_tickers_1.json").body.replace(b"1673859087947", b"0")

    [row] = bybit.parse_tickers(answer(body)).unresolved

    assert (row.exchange_symbol, row.code) == ("BTCUSDT", ErrorCode.BAD_TIME)


def test_parse_candles_closed_by_the_envelopes_time() -> None:
    body = payload("bybit", "candles_1.json").body
    end_of_newest = b"1788081240000"

    forming = bybit.parse_candles(answer(body), resolution_ms=MINUTE)
    ended = bybit.parse_candles(
        answer(body.replace(b"1788081203987", end_of_newest)), resolution_ms=MINUTE
    )

    assert [forming.values[-1].closed, ended.values[-1].closed] == [False, True]
    assert forming.exchange_symbol == "BTCUSDT"


@pytest.mark.parametrize(
    ("status", "body", "code", "wait_ms"),
    [
        (200, '{"retCode":10001,"retMsg":"symbol invalid"}', ErrorCode.UNKNOWN_SYMBOL, None),
        (200, '{"retCode":10001,"retMsg":"params error: limit"}', ErrorCode.BAD_REQUEST, None),
        (200, '{"retCode":10016,"retMsg":"Server error"}', ErrorCode.BUSY, None),
        (200, '{"retCode":99999,"retMsg":"?"}', ErrorCode.EXCHANGE_ERROR, None),
        (403, '{"retCode":10006,"retMsg":"Access too frequent"}', ErrorCode.RATE_LIMIT, 600_000),
        (403, "access too frequent", ErrorCode.RATE_LIMIT, 600_000),
        (403, "<HTML>The request could not be satisfied</HTML>", ErrorCode.BLOCKED, None),
    ],
)  # fmt: skip
def test_refusal_has_its_code_and_wait(
    status: int, body: str, code: ErrorCode, wait_ms: int | None
) -> None:
    refusal = bybit.parse_tickers(answer(body, status=status)).refusal

    assert refusal and (refusal.code, refusal.retry_after_ms) == (code, wait_ms)


def test_rate_limit_waits_until_the_reset() -> None:
    came = answer(
        payload("bybit", "error_2.json").body,
        received_ms=1693924869000,
        x_bapi_limit_reset_timestamp="1693924870500",
    )

    refusal = bybit.parse_tickers(came).refusal

    assert refusal and refusal.retry_after_ms == 1500


def test_parse_message_reads_every_trade_of_the_list() -> None:
    message = payload("bybit", "ws_trades_1.jsonl").messages[0]

    frames = bybit.parse_message(message, {}, RECEIVED_MS)

    assert [trade.trade_id for trade in frames.trades] == [
        f"22900000000507037{number}" for number in (89, 90, 91, 92)
    ]


def test_subscribe_messages_ten_topics_each() -> None:
    messages = bybit.subscribe_messages([f"A{n}USDT" for n in range(11)])

    assert [len(json.loads(message)["args"]) for message in messages] == [10, 1]
    assert json.loads(messages[1]) == {"op": "subscribe", "args": ["publicTrade.A10USDT"]}
