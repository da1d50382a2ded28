from __future__ import annotations

import json
from decimal import Decimal

import pytest

from ingestion.adapter import Usage
from ingestion.exchanges import kucoin
from oracle.values import ErrorCode
from tests.ingestion.fixtures import RECEIVED_MS, answer, payload, url

MINUTE = 60_000


def test_tickers_request_is_the_snapshot_of_all() -> None:
    request = kucoin.tickers_request(["BTC-USDT"])

    assert url(kucoin, request) == "https://api.kucoin.com/api/v1/market/allTickers"
    assert request.weight == 15


def test_candles_request_is_in_seconds_with_both_bounds() -> None:
    request = kucoin.candles_request(
        "BTC-USDT",
        resolution_ms=60 * MINUTE,
        from_ms=1_706_630_400_000,
        to_ms=1_706_630_400_000 + 3 * 60 * MINUTE,
        now_ms=RECEIVED_MS,
    )

    assert url(kucoin, request) == (
        "https://api.kucoin.com/api/v1/market/candles?symbol=BTC-USDT&type=1hour"
        "&startAt=1706630400&endAt=1706641199"
    )
    assert request.weight == 3


def test_parse_tickers_null_last_is_bad_price_and_costs_no_neighbour() -> None:
    content = json.loads(payload("kucoin", "tickers_1.json").body)
    content["data"]["ticker"][0]["last"] = None

    parsed = kucoin.parse_tickers(answer(json.dumps(content)))

    assert [ticker.exchange_symbol for ticker in parsed.values] == ["LOOM-BTC"]
    assert [(row.exchange_symbol, row.code) for row in parsed.unresolved] == [
        ("NKN-USDT", ErrorCode.BAD_PRICE)
    ]


def test_parse_tickers_keys_on_symbol_not_on_its_name() -> None:
    content = json.loads(payload("kucoin", "tickers_1.json").body)
    content["data"]["ticker"][0]["symbolName"] = "NEW-USDT"

    parsed = kucoin.parse_tickers(answer(json.dumps(content)), ["NKN-USDT"])

    assert [ticker.exchange_symbol for ticker in parsed.values] == ["NKN-USDT"]


def test_parse_tickers_reads_used_weight() -> None:
    body = payload("kucoin", "tickers_1.json").body

    parsed = kucoin.parse_tickers(
        answer(body, gw_ratelimit_limit="2000", gw_ratelimit_remaining="1550")
    )

    assert parsed.usage == Usage(budget="public", used=450)


def test_parse_candles_close_comes_before_high_and_low() -> None:
    body = (
        '{"code":"200000","data":[["1788328800","77625","77674.6","77689","77620",'
        '"7.04447437","547069.686194431"]]}'
    )

    [candle] = kucoin.parse_candles(answer(body), resolution_ms=MINUTE).values

    assert (candle.open, candle.close, candle.high, candle.low, candle.quote_volume) == (
        Decimal("77625"),
        Decimal("77674.6"),
        Decimal("77689"),
        Decimal("77620"),
        Decimal("547069.686194431"),
    )


def test_parse_candles_newest_row_is_forming() -> None:
    body = payload("kucoin", "candles_2.json").body

    parsed = kucoin.parse_candles(
        answer(body, received_ms=1706637600_000 + 1), resolution_ms=60 * MINUTE
    )

    assert [candle.closed for candle in parsed.values] == [True, True, False]


@pytest.mark.parametrize(
    ("status", "body", "code", "wait_ms"),
    [
        (200, '{"code":"900001","msg":"does not exist."}', ErrorCode.UNKNOWN_SYMBOL, None),
        (400, '{"code":"400100","msg":"bad"}', ErrorCode.BAD_REQUEST, None),
        (429, '{"code":429000,"msg":"Too Many Requests"}', ErrorCode.RATE_LIMIT, 1200),
        (429, "Too Many Requests", ErrorCode.RATE_LIMIT, None),
        (200, '{"code":"777777","msg":"?"}', ErrorCode.EXCHANGE_ERROR, None),
    ],
)
def test_refusal_has_its_code_and_wait(
    status: int, body: str, code: ErrorCode, wait_ms: int | None
) -> None:
    came = answer(body, status=status, gw_ratelimit_reset="1200")

    refusal = kucoin.parse_tickers(came).refusal

    assert refusal and (refusal.code, refusal.retry_after_ms) == (code, wait_ms)


def test_parse_message_nanoseconds_are_cut_to_milliseconds() -> None:
    message = payload("kucoin", "ws_trades_1.jsonl").messages[0]

    [trade] = kucoin.parse_message(message, {}, RECEIVED_MS).trades

    assert trade.event_ms == 1619378327739  # of 1619378327739050725


def test_parse_message_milliseconds_where_nanoseconds_belong_is_bad_time() -> None:
    message = payload("kucoin", "ws_trades_1.jsonl").messages[0]

    [row] = kucoin.parse_message(
        message.replace(b"1619378327739050725", b"1619378327739"), {}, RECEIVED_MS
    ).unresolved

    assert row.code == ErrorCode.BAD_TIME


def test_subscribe_messages_a_hundred_symbols_each() -> None:
    messages = kucoin.subscribe_messages([f"A{n}-USDT" for n in range(101)])

    assert len(messages) == 2
    assert json.loads(messages[1]) == {
        "id": "2",
        "type": "subscribe",
        "topic": "/market/match:A100-USDT",
        "privateChannel": False,
        "response": True,
    }


def past_trade(trade_id: str, time_ns: object, sequence: object) -> dict[str, object]:
    row = {"price": "1", "size": "1", "side": "buy", "time": time_ns, "tradeId": trade_id}
    return row if sequence is None else row | {"sequence": sequence}


EARLIER_NS, LATER_NS = 1_545_904_567_062_140_823, 1_545_904_567_063_000_000
PAST_TRADES = (
    past_trade("a", EARLIER_NS, "9"),
    past_trade("b", EARLIER_NS, 10),  # of one taker's order: all at one time
    past_trade("c", EARLIER_NS, "11"),
    past_trade("d", LATER_NS, "8"),
)


@pytest.mark.parametrize("step", [1, -1])
def test_parse_trades_are_oldest_first_whatever_their_order(step: int) -> None:
    body = json.dumps({"code": "200000", "data": PAST_TRADES[::step]})

    parsed = kucoin.parse_trades(answer(body), "BTC-USDT")

    assert [trade.trade_id for trade in parsed.values] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("sequence", [None, "x", {}, "9" * 200])
def test_parse_trades_without_a_sequence_are_ordered_by_time(sequence: object) -> None:
    rows = [past_trade("b", LATER_NS, sequence), past_trade("a", EARLIER_NS, sequence)]
    body = json.dumps({"code": "200000", "data": [*rows, past_trade("c", "soon", sequence), None]})

    parsed = kucoin.parse_trades(answer(body), "BTC-USDT")

    assert [trade.trade_id for trade in parsed.values] == ["a", "b"]
    assert {row.code for row in parsed.unresolved} == {ErrorCode.BAD_TIME, ErrorCode.BAD_ROW}
