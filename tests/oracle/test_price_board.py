import time
from decimal import Decimal

import msgspec
import pytest

from oracle import candle_book, keys, price_board
from oracle.connection import ClockError, redis_client
from oracle.values import Price, Source

D = Decimal
NOW = 1_800_000_000_000 - 1_800_000_000_000 % 60_000
T1, T2, T3 = (f"{n:016d}" for n in (1, 2, 3))


def price(value="100", *, symbol="BTC/USDT", now_ms=NOW, exchanges=("okx", "binance"), **other):
    sources = tuple(
        Source(
            exchange=name,
            exchange_symbol="x",
            price=D(value),
            native_price=D(value),
            weight=D(1),
            volume=D(1),
            as_of_ms=now_ms - 40,
            kept=True,
        )
        for name in exchanges
    )
    fields = {
        "symbol": symbol,
        "price": D(value),
        "method": "vwap",
        "status": "fresh",
        "timestamp_ms": now_ms,
        "as_of_ms": now_ms - 40,
        "confidence": D(0),
        "spread_bps": D(0),
        "stdev": D(0),
        "variance": D(0),
        "source_count": len(exchanges),
        "outliers_removed": 0,
        "sources": sources,
    }
    return Price(**{**fields, **other})


def publish(*prices, now_ms=NOW, token=T1):
    return price_board.publish(prices, now_ms=now_ms, token=token)


def candle(symbol="BTC/USDT", minute_ms=NOW):
    found = candle_book.read([(symbol, minute_ms)])
    return found[0] if found else None


def ohlc(each):
    return tuple(str(getattr(each, name)) for name in ("open", "high", "low", "close"))


def test_a_price_is_read_as_it_was_published():
    one = price("0.00000123")
    assert publish(one) == 1
    assert price_board.read(["BTC/USDT", "ETH/USDT"]) == {"BTC/USDT": one}


def test_more_prices_than_one_script_takes():
    many = [price(symbol=f"C{n}/USDT") for n in range(price_board.PRICES_PER_SCRIPT * 2 + 1)]
    assert publish(*many) == len(many)
    assert len(price_board.read([each.symbol for each in many])) == len(many)


def test_subscribers_get_each_price():
    with redis_client().pubsub() as listener:
        listener.subscribe(keys.channel("prices"))
        assert listener.get_message(timeout=2)["type"] == "subscribe"
        publish(price("7"))
        message = listener.get_message(timeout=2)
    assert msgspec.json.decode(message["data"])["price"] == "7"


def test_a_paused_writer_that_wakes_up_late_changes_nothing():
    publish(price("2"), token=T2)
    assert publish(price("1", now_ms=NOW + 1_000), now_ms=NOW + 1_000, token=T1) == 0
    assert price_board.read(["BTC/USDT"])["BTC/USDT"].price == 2
    assert ohlc(candle()) == ("2", "2", "2", "2")


def test_a_price_folds_into_the_candle_of_its_minute():
    for second, value in enumerate(["100", "103.5", "99.25", "101"]):
        at = NOW + second * 1_000
        publish(price(value, now_ms=at), now_ms=at)
    assert ohlc(candle()) == ("100", "103.5", "99.25", "101")


def test_the_next_minute_is_another_candle():
    publish(price("1", now_ms=NOW + 59_999), now_ms=NOW + 59_999)
    publish(price("2", now_ms=NOW + 60_000), now_ms=NOW + 60_000)
    assert ohlc(candle()) == ("1", "1", "1", "1")
    assert ohlc(candle(minute_ms=NOW + 60_000)) == ("2", "2", "2", "2")


def test_high_and_low_compare_exactly_where_doubles_cannot():
    for second, value in enumerate(
        ["12345678901234567890.1", "12345678901234567890.3", "12345678901234567890.2"]
    ):
        at = NOW + second * 1_000
        publish(price(value, now_ms=at), now_ms=at)
    each = candle()
    assert (str(each.high), str(each.low)) == ("12345678901234567890.3", "12345678901234567890.1")


def test_high_and_low_compare_across_lengths():
    for second, value in enumerate(["9.5", "10", "0.00000123", "0.0000012"]):
        at = NOW + second * 1_000
        publish(price(value, now_ms=at), now_ms=at)
    assert ohlc(candle()) == ("9.5", "10", "0.0000012", "0.0000012")


def test_the_same_tick_twice_counts_once():
    publish(price("5"))
    before = candle().version
    publish(price("5"))
    assert candle().version == before


def test_a_candle_names_every_exchange_of_its_minute():
    publish(price(exchanges=("okx",)))
    publish(price(now_ms=NOW + 1_000, exchanges=("binance", "okx")), now_ms=NOW + 1_000)
    publish(price(now_ms=NOW + 2_000, exchanges=("kraken",)), now_ms=NOW + 2_000)
    assert sorted(candle().sources) == ["binance", "kraken", "okx"]


def test_stale_keeps_the_times_and_the_time_to_live():
    publish(price("5"))
    redis_client().expire(keys.price("BTC/USDT"), 1_000)
    assert price_board.mark_stale(["BTC/USDT", "ETH/USDT"], token=T2) == 1
    one = price_board.read(["BTC/USDT"])["BTC/USDT"]
    assert (one.status, one.timestamp_ms, one.as_of_ms) == ("stale", NOW, NOW - 40)
    assert redis_client().ttl(keys.price("BTC/USDT")) <= 1_000
    assert price_board.mark_stale(["BTC/USDT"], token=T3) == 0


def test_stale_is_fenced_too():
    publish(price("5"), token=T2)
    assert price_board.mark_stale(["BTC/USDT"], token=T1) == 0
    assert price_board.read(["BTC/USDT"])["BTC/USDT"].status == "fresh"


def test_stale_does_not_touch_the_candle():
    publish(price("5"))
    before = candle()
    price_board.mark_stale(["BTC/USDT"], token=T2)
    assert candle() == before


def test_freshness_is_a_matter_of_age(settings):
    settings.TICKER_MAX_AGE_MS = 10_000
    one = price("5")
    assert price_board.freshness(one, now_ms=NOW + 9_000).status == "fresh"
    late = price_board.freshness(one, now_ms=NOW + 10_001)
    assert (late.status, late.age_ms) == ("stale", 10_041)
    assert price_board.freshness(one, now_ms=NOW + 5_000, max_age_ms=4_000).status == "stale"


def test_simulated_prices_are_not_there_for_a_live_oracle(settings):
    publish(price("5", simulated=True))
    settings.SIMULATED = False
    assert price_board.read(["BTC/USDT"]) == {}
    settings.SIMULATED = True
    assert list(price_board.read(["BTC/USDT"])) == ["BTC/USDT"]


def test_after_redis_forgot_its_scripts_they_are_loaded_again():
    publish(price("5"))
    redis_client().script_flush()
    assert publish(price("6", now_ms=NOW + 1_000), now_ms=NOW + 1_000) == 1


def test_a_host_whose_clock_is_off_publishes_nothing(settings):
    """One tick a year ahead would open candles that no flush takes for a year."""
    settings.MAX_CLOCK_OFF_MS = 5_000
    wrong = time.time_ns() // 1_000_000 + 3_600_000
    with pytest.raises(ClockError):
        publish(price(now_ms=wrong), now_ms=wrong)
    assert price_board.read(["BTC/USDT"]) == {}
    assert candle_book.waiting() == 0


def test_no_fresh_price_is_older_than_its_legs_may_be(settings):
    settings.TICKER_MAX_AGE_MS = 10_000
    one = price("5", as_of_ms=NOW - 9_900)
    assert price_board.freshness(one, now_ms=NOW + 1_000).status == "fresh"
    assert price_board.freshness(one, now_ms=NOW + 2_200).status == "stale"
