from __future__ import annotations

import json

import pytest

from ingestion.adapter import Usage
from ingestion.exchanges import upbit
from oracle.values import ErrorCode
from tests.ingestion.fixtures import RECEIVED_MS, answer, payload, url

MINUTE = 60_000


def test_spelling_puts_the_quote_first() -> None:
    assert (upbit.to_native("BTC/KRW"), upbit.from_native("KRW-BTC")) == ("KRW-BTC", "BTC/KRW")
    assert upbit.from_native("KRWBTC") is None


def test_tickers_request_names_the_markets() -> None:
    assert url(upbit, upbit.tickers_request(["KRW-BTC", "KRW-ETH"])) == (
        "https://api.upbit.com/v1/ticker?markets=KRW-BTC,KRW-ETH"
    )


@pytest.mark.parametrize("number", [0, 301])
def test_tickers_request_none_or_too_many_asks_for_all(number: int) -> None:
    request = upbit.tickers_request([f"KRW-A{n}" for n in range(number)])

    assert url(upbit, request) == (
        "https://api.upbit.com/v1/ticker/all?quote_currencies=KRW,BTC,USDT"
    )


def test_candles_request_bound_is_exclusive() -> None:
    day = 86_400_000
    request = upbit.candles_request(
        "KRW-BTC",
        resolution_ms=day,
        from_ms=1_753_660_800_000,
        to_ms=1_753_660_800_000 + 2 * day,
        now_ms=RECEIVED_MS,
    )

    assert url(upbit, request) == (
        "https://api.upbit.com/v1/candles/days?market=KRW-BTC&to=2025-07-30T00:00:00Z&count=2"
    )


def test_candles_request_minutes_are_in_the_path() -> None:
    request = upbit.candles_request(
        "KRW-BTC", resolution_ms=4 * 60 * MINUTE, from_ms=0, to_ms=1, now_ms=RECEIVED_MS
    )

    assert request.path == "/v1/candles/minutes/240"


def test_parse_tickers_keeps_trade_and_frame_time() -> None:
    body = payload("upbit", "tickers_1.json").body

    [ticker] = upbit.parse_tickers(answer(body), ["KRW-BTC"]).values

    assert (ticker.event_ms, ticker.frame_ms) == (1753894995076, 1753894995113)


def test_parse_tickers_empty_list_is_not_returned() -> None:
    [row] = upbit.parse_tickers(answer("[]"), ["KRW-NOPE"]).unresolved

    assert (row.exchange_symbol, row.code) == ("KRW-NOPE", ErrorCode.NOT_RETURNED)


def test_parse_tickers_reads_what_remains_of_this_second() -> None:
    parsed = upbit.parse_tickers(answer("[]", remaining_req="group=ticker; min=600; sec=9"))

    assert parsed.usage == Usage(budget="ticker", used=1)


def test_parse_candles_newest_row_is_forming_and_time_is_utc() -> None:
    body = payload("upbit", "candles_1.json").body
    newest_ms = 1582197540000  # 2020-02-20T11:19:00 UTC

    parsed = upbit.parse_candles(
        answer(body, received_ms=newest_ms + MINUTE - 1), resolution_ms=MINUTE
    )

    assert parsed.exchange_symbol == "KRW-BTC"
    assert [(c.open_ms, c.closed) for c in parsed.values[-2:]] == [
        (newest_ms - MINUTE, True),
        (newest_ms, False),
    ]


@pytest.mark.parametrize(
    ("status", "body", "code", "wait_ms"),
    [
        (429, '{"error":{"name":"too_many_requests","message":"x"}}', ErrorCode.RATE_LIMIT, None),
        (418, '{"error":{"name":418,"message":"for 15 seconds"}}', ErrorCode.IP_BAN, 15_000),
        (418, '{"error":{"name":"x","message":"2분 후"}}', ErrorCode.IP_BAN, 120_000),
        (418, "I am a teapot", ErrorCode.IP_BAN, None),
        (404, '{"error":{"name":"not_found","message":"no route"}}', ErrorCode.BAD_REQUEST, None),
        (500, '{"error":{"name":500,"message":"oops"}}', ErrorCode.BUSY, None),
    ],
)  # fmt: skip
def test_refusal_has_its_code_and_wait(
    status: int, body: str, code: ErrorCode, wait_ms: int | None
) -> None:
    refusal = upbit.parse_tickers(answer(body, status=status)).refusal

    assert refusal and (refusal.code, refusal.retry_after_ms) == (code, wait_ms)


def test_parse_message_list_holds_every_trade() -> None:
    messages = payload("upbit", "ws_trades_1.jsonl").messages[:3]
    one_by_one = [upbit.parse_message(each, {}, RECEIVED_MS).trades[0] for each in messages]

    together = upbit.parse_message(b"[" + b",".join(messages) + b"]", {}, RECEIVED_MS)

    assert list(together.trades) == one_by_one


def test_parse_message_exponent_price_is_exact() -> None:
    message = payload("upbit", "ws_trades_2.jsonl").messages[0]

    frames = upbit.parse_message(
        message.replace(b"106691000.00000000", b"1.06691E8"), {}, RECEIVED_MS
    )

    assert f"{frames.trades[0].price:f}" == "106691000"


def test_subscribe_messages_is_one_for_all() -> None:
    [message] = upbit.subscribe_messages(["KRW-BTC", "KRW-ETH"])

    assert json.loads(message) == [
        {"ticket": "oracle"},
        {"type": "trade", "codes": ["KRW-BTC", "KRW-ETH"], "is_only_realtime": True},
        {"format": "DEFAULT"},
    ]
