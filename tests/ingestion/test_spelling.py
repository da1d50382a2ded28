from __future__ import annotations

import pytest

from ingestion.spelling import from_concatenated, from_dashed


@pytest.mark.parametrize(
    ("exchange_symbol", "symbol"),
    [
        ("BTC-USDT", "BTC/USDT"),
        ("BTC-USD-SWAP", None),
        ("BTC-", None),
        ("-USDT", None),
        ("BTCUSDT", None),
        ("btc-usdt", None),
        ("B TC-USDT", None),
    ],
)
def test_from_dashed_takes_two_assets_only(exchange_symbol: str, symbol: str | None) -> None:
    assert from_dashed(exchange_symbol) == symbol


def test_from_concatenated_takes_the_longest_quote() -> None:
    assert from_concatenated("BTCFDUSD", ("USD", "FDUSD")) == "BTC/FDUSD"
