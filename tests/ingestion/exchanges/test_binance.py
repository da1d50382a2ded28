from __future__ import annotations

import json
from decimal import Decimal

import pytest

from ingestion.adapter import Refusal, Unresolved, Usage
from ingestion.exchanges import binance
from oracle.values import ErrorCode, Ticker
from tests.ingestion.fixtures import RECEIVED_MS, answer, payload, url

MINUTE = 60_000


@pytest.mark.parametrize(
    ("exchange_symbol", "symbol"),
    [
        ("BTCUSDT", "BTC/USDT"),
        ("ETHBTC", "ETH/BTC"),
        ("BTCFDUSD", "BTC/FDUSD"),
        ("TUSDT", "T/USDT"),
        ("WBTCBTC", "WBTC/BTC"),
        ("USDTTRY", "USDT/TRY"),
        ("1INCHUSDT", "1INCH/USDT"),
        ("USDT", None),
        ("btcusdt", None),
        ("BTC-USDT", None),
        ("", None),
    ],
)
def test_from_native_splits_by_known_quote(exchange_symbol: str, symbol: str | None) -> None:
    assert binance.from_native(exchange_symbol) == symbol


def test_tickers_request_few_asks_for_them() -> None:
    request = binance.tickers_request(["BTCUSDT", "ETHUSDT"])

    assert url(binance, request) == (
        'https://api.binance.com/api/v3/ticker/24hr?symbols=["BTCUSDT","ETHUSDT"]'
    )
    assert request.symbols == ("BTCUSDT", "ETHUSDT")


@pytest.mark.parametrize(
    ("number", "weight", "all_of_them"),
    [
        (1, 2, False),
        (20, 2, False),
        (21, 40, False),
        (100, 40, False),
        (101, 80, True),
        (0, 80, True),
    ],
)
def test_tickers_request_weight_follows_number(number: int, weight: int, all_of_them: bool) -> None:
    request = binance.tickers_request([f"A{n}USDT" for n in range(number)])

    assert (request.weight, request.params == ()) == (weight, all_of_them)


def test_candles_request_bounds_are_inclusive() -> None:
    request = binance.candles_request(
        "BTCUSDT",
        resolution_ms=MINUTE,
        from_ms=1_588_740_120_000,
        to_ms=1_588_740_120_000 + 60 * MINUTE,
        now_ms=RECEIVED_MS,
    )

    assert url(binance, request) == (
        "https://api.binance.com/api/v3/klines?symbol=BTCUSDT&interval=1m"
        "&startTime=1588740120000&endTime=1588743660000&limit=60"
    )


def test_parse_tickers_unasked_rows_are_skipped_and_lacking_ones_said() -> None:
    body = payload("binance", "tickers_1.json").body

    parsed = binance.parse_tickers(answer(body), ["ETHUSDT", "SOLUSDT"])

    assert parsed.values == (
        Ticker(
            exchange_symbol="ETHUSDT",
            price=Decimal("2509.72000000"),
            volume=Decimal("442359.92720000"),
            quote_volume=Decimal("1131373139.26501100"),
            event_ms=1730439018420,
            received_ms=RECEIVED_MS,
        ),
    )
    assert parsed.unresolved == (
        Unresolved(
            code=ErrorCode.NOT_RETURNED, detail="not in the answer", exchange_symbol="SOLUSDT"
        ),
    )


def test_parse_tickers_reads_used_weight() -> None:
    parsed = binance.parse_tickers(answer("[]", x_mbx_used_weight_1m="1237"))

    assert parsed.usage == Usage(budget="weight", used=1237)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, '{"code":-1121,"msg":"Invalid symbol."}', ErrorCode.UNKNOWN_SYMBOL),
        (400, '{"code":-1102,"msg":"Mandatory parameter"}', ErrorCode.BAD_REQUEST),
        (429, '{"code":-1003,"msg":"Too many requests"}', ErrorCode.RATE_LIMIT),
        (418, '{"code":-1003,"msg":"Way too many"}', ErrorCode.IP_BAN),
        (451, '{"code":0,"msg":"... from a restricted location"}', ErrorCode.BLOCKED),
        (403, "<html>403 Forbidden</html>", ErrorCode.BLOCKED),
        (503, '{"code":-1008,"msg":"Server is overloaded"}', ErrorCode.BUSY),
        (502, "<html>Bad Gateway</html>", ErrorCode.BUSY),
        (200, '{"code":-9999,"msg":"?"}', ErrorCode.EXCHANGE_ERROR),
        (400, '{"code":"-1121","msg":5}', ErrorCode.BAD_REQUEST),
    ],
)  # fmt: skip
def test_refusal_has_its_code(status: int, body: str, code: ErrorCode) -> None:
    refusal = binance.parse_tickers(answer(body, status=status)).refusal

    assert refusal and refusal.code == code


def test_ban_waits_until_the_time_in_its_text() -> None:
    came = answer(payload("binance", "error_1.json").body, status=418, received_ms=1660090400000)

    parsed = binance.parse_tickers(came, ["BTCUSDT"])

    assert parsed.refusal == Refusal(
        code=ErrorCode.IP_BAN,
        detail="Way too much request weight used; IP banned until 1660090423228. "
        "Please use the websocket for live updates to avoid bans.",
        retry_after_ms=23_228,
    )


def test_retry_after_longer_than_the_text_is_kept() -> None:
    body = payload("binance", "error_1.json").body

    parsed = binance.parse_tickers(
        answer(body, status=418, received_ms=1660090400000, retry_after="60")
    )

    assert parsed.refusal and parsed.refusal.retry_after_ms == 60_000


def test_parse_candles_row_ending_later_is_not_closed() -> None:
    body = payload("binance", "candles_3.json").body

    [during, after] = [
        binance.parse_candles(answer(body, received_ms=now), resolution_ms=MINUTE)
        for now in (1588636859999, 1588636860000)
    ]

    assert [during.values[0].closed, after.values[0].closed] == [False, True]


def test_parse_candles_keeps_quote_volume_and_count() -> None:
    body = payload("binance", "candles_3.json").body

    [candle] = binance.parse_candles(answer(body), resolution_ms=MINUTE).values

    assert (candle.quote_volume, candle.trade_count) == (Decimal("423305.63773405"), 617)


def test_parse_message_without_envelope_is_the_same_trade() -> None:
    message = payload("binance", "ws_trades_1.jsonl").messages[0]
    bare = json.dumps(json.loads(message)["data"])

    assert binance.parse_message(bare, {}, RECEIVED_MS) == binance.parse_message(
        message, {}, RECEIVED_MS
    )


def test_subscribe_messages_are_lower_case_and_numbered() -> None:
    messages = binance.subscribe_messages([f"A{n}USDT" for n in range(201)])

    assert [json.loads(message)["id"] for message in messages] == [1, 2]
    assert json.loads(messages[1]) == {
        "method": "SUBSCRIBE",
        "params": ["a200usdt@trade"],
        "id": 2,
    }
