"""Every recorded payload, read whole, against what its recorder says it means."""

from __future__ import annotations

import json
from typing import Any

import pytest

from oracle.values import ErrorCode
from tests.ingestion.fixtures import (
    RECEIVED_MS,
    Payload,
    answer,
    candle_row,
    payloads,
    ticker_row,
    trade_row,
)


def expected_tickers(payload: Payload) -> list[dict[str, Any]]:
    """Return the expected rows that have a price, with the envelope's time where it is theirs."""
    rows = [row for row in payload.expected["rows"] if row["price"] is not None]
    if payload.exchange == "bybit":
        envelope = json.loads(payload.body)
        rows = [{**row, "timestamp_ms": envelope.get("time", envelope.get("ts"))} for row in rows]
    return rows


@pytest.mark.parametrize("payload", payloads("tickers"))
def test_parse_tickers_recorded_gives_expected(payload: Payload) -> None:
    symbols = [row["symbol"] for row in payload.expected["rows"]]

    parsed = payload.adapter.parse_tickers(answer(payload.body), symbols)

    assert [ticker_row(ticker) for ticker in parsed.values] == expected_tickers(payload)


@pytest.mark.parametrize("payload", payloads("tickers"))
def test_parse_tickers_recorded_without_price_is_unresolved(payload: Payload) -> None:
    rows = payload.expected["rows"]

    parsed = payload.adapter.parse_tickers(answer(payload.body), [row["symbol"] for row in rows])

    assert [(row.exchange_symbol, row.code) for row in parsed.unresolved] == [
        (row["symbol"], ErrorCode.BAD_PRICE) for row in rows if row["price"] is None
    ]


@pytest.mark.parametrize("payload", payloads("candles"))
def test_parse_candles_recorded_gives_expected(payload: Payload) -> None:
    parsed = payload.adapter.parse_candles(answer(payload.body), resolution_ms=60_000)

    assert ([candle_row(candle) for candle in parsed.values], parsed.unresolved) == (
        payload.expected["rows"],
        (),
    )


@pytest.mark.parametrize("payload", payloads("ws_trades"))
def test_parse_message_recorded_gives_expected(payload: Payload) -> None:
    lines = {line["line"]: line["trades"] for line in payload.expected["lines"]}

    read = {}
    for number, message in enumerate(payload.messages, start=1):
        frames = payload.adapter.parse_message(message, {}, RECEIVED_MS)
        assert frames.unresolved == ()
        read[number] = [trade_row(trade) for trade in frames.trades]

    assert read == {
        number: [
            {name: value for name, value in trade.items() if name != "frame_timestamp_ms"}
            for trade in lines.get(number, [])
        ]
        for number in range(1, len(payload.messages) + 1)
    }


@pytest.mark.parametrize("payload", payloads("ws_control"))
def test_parse_message_control_gives_no_trades(payload: Payload) -> None:
    state = {"kept": 1}

    frames = [payload.adapter.parse_message(line, state, RECEIVED_MS) for line in payload.messages]

    assert [(frame.trades, frame.replies, frame.state) for frame in frames] == [
        ((), (), state) for _ in frames
    ]


@pytest.mark.parametrize("payload", payloads("error"))
@pytest.mark.parametrize("known_status", [True, False], ids=["its-status", "status-200"])
def test_parse_error_recorded_has_its_meaning(payload: Payload, known_status: bool) -> None:
    expected = payload.expected
    status = expected["http_status"] if known_status else 200

    tickers = payload.adapter.parse_tickers(answer(payload.body, status=status), ["A", "B"])
    candles = payload.adapter.parse_candles(
        answer(payload.body, status=status), resolution_ms=60_000
    )

    meaning = ErrorCode[expected["meaning"].upper()]
    assert tickers.refusal and candles.refusal
    assert (tickers.refusal.code, candles.refusal.code) == (meaning, meaning)
    assert (tickers.values, candles.values) == ((), ())
    assert [(row.exchange_symbol, row.code) for row in tickers.unresolved] == [
        ("A", meaning),
        ("B", meaning),
    ]
