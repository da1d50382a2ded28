"""A number that is JSON and no price: it costs its own row, and no exception."""

from __future__ import annotations

import json

import pytest

from ingestion.adapter import Answer
from ingestion.exchanges import binance
from oracle.values import ErrorCode

NOW_MS = 1_790_000_000_000


@pytest.mark.parametrize("field", ["lastPrice", "volume", "quoteVolume"])
@pytest.mark.parametrize("digits", [51, 99])
def test_a_number_of_too_many_digits_costs_its_row_only(field: str, digits: int) -> None:
    good = {
        "symbol": "BTCUSDT",
        "lastPrice": "1.5",
        "volume": "2",
        "quoteVolume": "3",
        "closeTime": NOW_MS,
    }
    bad = {**good, "symbol": "ETHUSDT", field: "1." + "3" * (digits - 1)}
    body = json.dumps([good, bad]).encode()
    parsed = binance.parse_tickers(Answer(body=body, received_ms=NOW_MS))
    assert [ticker.exchange_symbol for ticker in parsed.values] == ["BTCUSDT"]
    [row] = parsed.unresolved
    assert row.exchange_symbol == "ETHUSDT"
    assert row.code in (ErrorCode.BAD_ROW, ErrorCode.BAD_PRICE, ErrorCode.BAD_VOLUME)
