from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from ingestion import answers
from ingestion.adapter import UnreadableError
from oracle.values import ErrorCode, Ticker
from tests.ingestion.fixtures import answer

NOON_MS = 1_445_412_480_000  # Wed, 21 Oct 2015 07:28:00 GMT


@pytest.mark.parametrize(
    ("retry_after", "wait_ms"),
    [
        ("5", 5000),
        (" 120 ", 120_000),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30_000),
        ("Wed, 21 Oct 2015 07:28:30 -0000", 30_000),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("1e9", None),
        ("Wed, 21 Oct 99999999999999999999 07:28:30 GMT", None),
        ("", None),
    ],
)
def test_refused_waits_what_retry_after_says(retry_after: str, wait_ms: int | None) -> None:
    came = answer("", status=429, received_ms=NOON_MS, retry_after=retry_after)

    refusal = answers.refused(came, ErrorCode.RATE_LIMIT, "slow down")

    assert refusal.retry_after_ms == wait_ms


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (429, ErrorCode.RATE_LIMIT),
        (418, ErrorCode.IP_BAN),
        (451, ErrorCode.BLOCKED),
        (403, ErrorCode.BLOCKED),
        (408, ErrorCode.BUSY),
        (500, ErrorCode.BUSY),
        (503, ErrorCode.BUSY),
        (520, ErrorCode.BUSY),
        (400, ErrorCode.EXCHANGE_ERROR),
        (404, ErrorCode.EXCHANGE_ERROR),
        (302, ErrorCode.EXCHANGE_ERROR),
    ],
)
def test_opened_status_alone_refuses(status: int, code: ErrorCode) -> None:
    _, refusal = answers.opened(answer("<html>", status=status), lambda body, came: None)

    assert refusal and refusal.code == code


def test_opened_body_of_no_json_with_status_200_is_unreadable() -> None:
    with pytest.raises(UnreadableError):
        answers.opened(answer("<html>"), lambda body, came: None)


@pytest.mark.parametrize("body", [None, 5, {}, {"data": {}}, {"data": None}])
def test_listing_of_another_shape_is_unreadable(body: Any) -> None:
    with pytest.raises(UnreadableError, match="no list at data"):
        answers.listing(body, "data")


def test_read_tickers_later_row_of_a_name_wins() -> None:
    rows = [("A", "1"), ("A", "2")]

    def read(name: str, row: str) -> Ticker:
        return Ticker(
            exchange_symbol=name,
            price=Decimal(row),
            volume=None,
            quote_volume=None,
            event_ms=None,
            received_ms=NOON_MS,
        )

    assert [ticker.price for ticker in answers.read_tickers(rows, read).values] == [2]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (None, ErrorCode.MISSING_FIELD),
        ("", ErrorCode.BAD_ROW),
        (5, ErrorCode.BAD_ROW),
        ("\x00", ErrorCode.BAD_ROW),
        ("A" * 101, ErrorCode.BAD_ROW),
    ],
)
def test_read_tickers_row_without_a_name_is_unresolved(name: Any, code: ErrorCode) -> None:
    def read(name: str, row: Any) -> Ticker:
        raise AssertionError("an unnamed row is not read")

    [row] = answers.read_tickers([(name, {})], read).unresolved

    assert (row.exchange_symbol, row.code) == (None, code)


@pytest.mark.parametrize(
    ("resolution_ms", "name"), [(60_000, "1m"), (14_400_000, "4h"), (90_000, "90000 ms")]
)
def test_candle_window_without_a_bucket_is_refused(resolution_ms: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"holds 0 candles of {name}, one call"):
        answers.candle_window(
            resolution_ms=resolution_ms, from_ms=1, to_ms=resolution_ms, max_count=10
        )


def test_candle_window_is_half_open() -> None:
    assert answers.candle_window(
        resolution_ms=60_000, from_ms=60_000, to_ms=180_000, max_count=10
    ) == (60_000, 120_000, 2)
