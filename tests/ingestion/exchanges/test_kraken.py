from __future__ import annotations

import json
from decimal import Decimal

import pytest

from ingestion.exchanges import kraken
from oracle.values import ErrorCode
from tests.ingestion.fixtures import RECEIVED_MS, answer, payload, url

MINUTE = 60_000


@pytest.mark.parametrize(
    ("exchange_symbol", "symbol"),
    [
        ("BTC/USD", "BTC/USD"),
        ("XBT/USD", "BTC/USD"),
        ("XBTUSDT", "BTC/USDT"),
        ("XXBTZUSD", "BTC/USD"),
        ("XETHZUSD", "ETH/USD"),
        ("XETHXXBT", "ETH/BTC"),
        ("XXRPZJPY", "XRP/JPY"),
        ("XDGUSD", "DOGE/USD"),
        ("XXDGXXBT", "DOGE/BTC"),
        ("XTZUSD", "XTZ/USD"),
        ("USDTZUSD", "USDT/USD"),
        ("ZEURZUSD", "EUR/USD"),
        ("ALGOUSDT", "ALGO/USDT"),
        ("SOLUSD", "SOL/USD"),
        ("XBTUSD.d", None),
        ("last", None),
        ("USD", None),
        ("/USD", None),
        ("", None),
    ],
)
def test_from_native_knows_all_its_spellings(exchange_symbol: str, symbol: str | None) -> None:
    assert kraken.from_native(exchange_symbol) == symbol


def test_from_native_agrees_with_recorded_asset_pairs() -> None:
    pairs = json.loads(payload("kraken", "symbols_1.json").body)["result"]

    for key, pair in pairs.items():
        spelled = {kraken.from_native(name) for name in (key, pair["altname"], pair["wsname"])}
        assert len(spelled) == 1 and None not in spelled


def test_tickers_request_asks_in_slash_style() -> None:
    assert url(kraken, kraken.tickers_request(["BTC/USD", "ETH/USDT"])) == (
        "https://api.kraken.com/0/public/Ticker?pair=BTC/USD,ETH/USDT"
    )


@pytest.mark.parametrize("number", [0, 301])
def test_tickers_request_none_or_too_many_asks_for_all(number: int) -> None:
    request = kraken.tickers_request([f"A{n}/USD" for n in range(number)])

    assert url(kraken, request) == "https://api.kraken.com/0/public/Ticker"


def test_parse_tickers_maps_the_answers_keys_to_what_was_asked() -> None:
    body = payload("kraken", "tickers_1.json").body

    parsed = kraken.parse_tickers(answer(body), ["BTC/USD", "ETH/USD", "SOL/USD"])

    assert [(t.exchange_symbol, t.price) for t in parsed.values] == [
        ("ETH/USD", Decimal("1888.00000")),
        ("BTC/USD", Decimal("29207.50000")),
    ]
    assert [(row.exchange_symbol, row.code) for row in parsed.unresolved] == [
        ("SOL/USD", ErrorCode.NOT_RETURNED)
    ]


def test_parse_tickers_last_as_text_is_a_bad_row() -> None:
    body = payload("kraken", "tickers_2.json").body
    content = json.loads(body)
    content["result"]["XBTUSDT"]["c"] = "73380.60000"

    [row] = kraken.parse_tickers(answer(json.dumps(content))).unresolved

    assert (row.exchange_symbol, row.code) == ("XBTUSDT", ErrorCode.BAD_ROW)


def test_parse_tickers_warning_is_no_refusal() -> None:
    body = payload("kraken", "tickers_2.json").body

    parsed = kraken.parse_tickers(answer(body.replace(b'"error":[]', b'"error":["WSlow: x"]')))

    assert len(parsed.values) == 1


def test_candles_request_since_lies_before_the_first_candle() -> None:
    request = kraken.candles_request(
        "BTC/USD",
        resolution_ms=60 * MINUTE,
        from_ms=1_716_526_800_000,
        to_ms=1_716_530_400_000,
        now_ms=RECEIVED_MS,
    )

    assert url(kraken, request) == (
        "https://api.kraken.com/0/public/OHLC?pair=BTC/USD&interval=60&since=1716526799"
    )


def test_parse_candles_row_after_last_is_forming() -> None:
    body = payload("kraken", "candles_2.json").body

    parsed = kraken.parse_candles(answer(body), resolution_ms=60 * MINUTE)

    assert parsed.exchange_symbol == "XBTUSDT"
    assert [(c.open_ms // 1000, c.closed) for c in parsed.values[-2:]] == [
        (1716544800, True),
        (1716548400, False),
    ]


def test_parse_candles_empty_minute_has_no_vwap() -> None:
    body = payload("kraken", "candles_1.json").body

    empty = [
        (candle.vwap, candle.trade_count)
        for candle in kraken.parse_candles(answer(body), resolution_ms=MINUTE).values
        if not candle.volume
    ]

    assert empty == [(None, 0)] * 17


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("EQuery:Unknown asset pair", ErrorCode.UNKNOWN_SYMBOL),
        ("EAPI:Rate limit exceeded", ErrorCode.RATE_LIMIT),
        ("EGeneral:Temporary lockout", ErrorCode.RATE_LIMIT),
        ("EService:Unavailable", ErrorCode.BUSY),
        ("EService:Busy", ErrorCode.BUSY),
        ("EGeneral:Invalid arguments", ErrorCode.BAD_REQUEST),
        ("ENew:Never seen", ErrorCode.EXCHANGE_ERROR),
    ],
)
def test_refusal_has_its_code(error: str, code: ErrorCode) -> None:
    refusal = kraken.parse_tickers(answer(json.dumps({"error": [error]}))).refusal

    assert refusal and (refusal.code, refusal.detail) == (code, error)


def test_parse_message_refused_pair_is_unknown_symbol() -> None:
    message = '{"error":"Currency pair not supported XBT/USD","method":"subscribe","success":false}'

    [row] = kraken.parse_message(message, {}, RECEIVED_MS).unresolved

    assert row.code == ErrorCode.UNKNOWN_SYMBOL


def test_parse_message_bad_trade_leaves_its_neighbours() -> None:
    message = payload("kraken", "ws_trades_1.jsonl").messages[2]
    content = json.loads(message)
    content["data"][1]["qty"] = 0

    frames = kraken.parse_message(json.dumps(content), {}, RECEIVED_MS)

    assert [trade.trade_id for trade in frames.trades] == ["103436769", "103436771"]
    assert [(row.exchange_symbol, row.code) for row in frames.unresolved] == [
        ("BTC/USD", ErrorCode.BAD_VOLUME)
    ]


def test_subscribe_messages_wants_no_snapshot() -> None:
    [message] = kraken.subscribe_messages(["BTC/USD"])

    assert json.loads(message) == {
        "method": "subscribe",
        "params": {"channel": "trade", "symbol": ["BTC/USD"], "snapshot": False},
    }


def test_parse_tickers_absurd_volumes_do_not_cost_the_price() -> None:
    body = '{"error":[],"result":{"XBTUSDT":{"c":["7"],"v":["1","9e18"],"p":["1","9e18"]}}}'
    [ticker] = kraken.parse_tickers(answer(body)).values
    assert ticker.price == 7
    assert ticker.quote_volume is None
