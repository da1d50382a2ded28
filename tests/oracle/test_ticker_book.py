import time
from decimal import Decimal

import pytest

from oracle import ticker_book
from oracle.connection import ClockError
from oracle.ticker_book import Feed, Quote
from oracle.values import ErrorCode, Ticker

D = Decimal
NOW = 1_800_000_000_000


def ticker(symbol="BTCUSDT", price="100.10", *, event_ms=NOW - 200, frame_ms=None, **other):
    return Ticker(
        exchange_symbol=symbol,
        price=D(price),
        volume=other.get("volume", D("5")),
        quote_volume=other.get("quote_volume"),
        event_ms=event_ms,
        received_ms=other.get("received_ms", NOW),
        frame_ms=frame_ms,
    )


def store(*tickers, digest="a", received_ms=NOW, token="0" * 16):
    return ticker_book.store(
        "binance", tickers, digest=digest, received_ms=received_ms, token=token
    )


def read():
    return ticker_book.read(["binance"])["binance"]


def test_what_is_stored_is_read_to_the_last_digit():
    store(ticker(price="0.00000123", volume=D("1.2300"), quote_volume=D("0.0000000001")))
    assert read() == {"BTCUSDT": Quote(D("0.00000123"), D("1.2300"), D("0.0000000001"), NOW - 200)}


def test_unknown_volumes_stay_unknown():
    store(ticker(volume=None))
    assert read()["BTCUSDT"].volume is None
    assert read()["BTCUSDT"].quote_volume is None


def test_without_a_time_of_its_own_a_row_is_as_old_as_its_answer():
    store(ticker(event_ms=None))
    assert read()["BTCUSDT"].as_of_ms == NOW


def test_the_same_answer_again_makes_nothing_newer():
    """A stuck exchange repeats its last answer: Kraken and Coinbase state no time to tell by."""
    store(ticker(event_ms=None))
    store(ticker(event_ms=None, received_ms=NOW + 5_000), received_ms=NOW + 5_000)
    assert read()["BTCUSDT"].as_of_ms == NOW
    store(ticker(event_ms=None, received_ms=NOW + 6_000), digest="b", received_ms=NOW + 6_000)
    assert read()["BTCUSDT"].as_of_ms == NOW + 6_000


def test_a_clock_that_is_ahead_does_not_make_a_price_newer():
    store(ticker(event_ms=NOW + 30_000))
    assert read()["BTCUSDT"].as_of_ms == NOW


def test_a_quiet_pair_is_as_new_as_its_frame():
    """Upbit: the last trade is minutes old, the answer is not."""
    store(ticker(event_ms=NOW - 300_000, frame_ms=NOW - 50))
    assert read()["BTCUSDT"].as_of_ms == NOW - 50


def test_a_paused_fetch_that_wakes_up_late_cannot_write():
    assert store(ticker(price="2"), token="0000000000000002")
    assert not store(ticker(price="1"), token="0000000000000001", digest="b")
    assert read()["BTCUSDT"].price == 2


def test_a_time_of_tomorrow_is_no_time():
    assert ticker_book.check_clock(ticker(event_ms=NOW + 3_600_001)) is not None
    assert ticker_book.check_clock(ticker(event_ms=NOW + 60_000)) is None
    assert ticker_book.check_clock(ticker(event_ms=None)) is None


def test_exchanges_without_rows_are_empty():
    assert ticker_book.read(["kraken", "okx"]) == {"kraken": {}, "okx": {}}


def test_feed_says_what_happened_last():
    assert ticker_book.read_feeds(["binance"]) == {"binance": Feed()}
    store(ticker(), digest="a")
    store(ticker(), digest="a", received_ms=NOW + 1_000)
    ticker_book.record_failure(
        "binance", code=ErrorCode.TIMEOUT, detail="no answer in 2 s", now_ms=NOW + 2_000
    )
    assert ticker_book.read_feeds(["binance"])["binance"] == Feed(
        received_ms=NOW + 1_000,
        changed_ms=NOW,
        as_of_ms=NOW - 200,
        failed_ms=NOW + 2_000,
        error="TIMEOUT",
        detail="no answer in 2 s",
    )


@pytest.mark.parametrize("symbol", ["BTC/USD", "KRW-BTC", "1000SHIBUSDT", "币安人生USDT"])
def test_any_spelling_is_a_key(symbol):
    store(ticker(symbol))
    assert list(read()) == [symbol]


def test_a_host_whose_clock_is_off_writes_nothing(settings):
    """It would make a dead exchange's prices look fresh for as long as it is ahead."""
    settings.MAX_CLOCK_OFF_MS = 5_000
    now_ms = time.time_ns() // 1_000_000
    for wrong in (now_ms + 60_000, now_ms - 60_000):
        with pytest.raises(ClockError, match="synchronised"):
            store(ticker(event_ms=None, received_ms=wrong), received_ms=wrong)
    assert read() == {}
    assert store(ticker(event_ms=None, received_ms=now_ms), received_ms=now_ms)
