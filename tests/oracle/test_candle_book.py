from oracle import candle_book, keys
from oracle.connection import redis_client
from tests.oracle.test_price_board import NOW, T2, price, publish

MINUTE = 60_000


def fill(minutes, symbol="BTC/USDT"):
    for minute in range(minutes):
        at = NOW + minute * MINUTE
        publish(price(str(minute + 1), symbol=symbol, now_ms=at), now_ms=at)


def due(now_ms, limit=100):
    return [
        (candle.symbol, candle.open_ms)
        for candle in candle_book.due(now_ms=now_ms, grace_ms=3_000, limit=limit)
    ]


def test_a_minute_is_due_after_its_end_and_the_grace():
    fill(1)
    assert due(NOW + MINUTE + 2_999) == []
    assert due(NOW + MINUTE + 3_000) == [("BTC/USDT", NOW)]


def test_the_oldest_come_first_and_no_more_than_asked_for():
    fill(5)
    assert due(NOW + 10 * MINUTE, limit=2) == [("BTC/USDT", NOW), ("BTC/USDT", NOW + MINUTE)]


def test_a_flushed_candle_is_no_longer_due_and_expires():
    fill(1)
    candles = candle_book.due(now_ms=NOW + 2 * MINUTE, grace_ms=0, limit=10)
    assert candle_book.mark_flushed(candles, now_ms=NOW + 2 * MINUTE) == 1
    assert due(NOW + 2 * MINUTE) == []
    assert 0 < redis_client().ttl(keys.candle("BTC/USDT", NOW)) <= candle_book.KEEP_SECONDS


def test_until_it_is_flushed_a_candle_never_expires():
    fill(1)
    assert redis_client().ttl(keys.candle("BTC/USDT", NOW)) == -1


def test_a_candle_that_changed_while_it_was_flushed_is_due_again():
    fill(1)
    read_before = candle_book.due(now_ms=NOW + 2 * MINUTE, grace_ms=0, limit=10)
    publish(price("9", now_ms=NOW + 30_000), now_ms=NOW + 30_000, token=T2)
    assert candle_book.mark_flushed(read_before, now_ms=NOW + 2 * MINUTE) == 0
    assert due(NOW + 2 * MINUTE) == [("BTC/USDT", NOW)]


def test_a_change_after_the_flush_makes_it_due_again_and_keeps_it():
    fill(1)
    candle_book.mark_flushed(
        candle_book.due(now_ms=NOW + 2 * MINUTE, grace_ms=0, limit=10), now_ms=NOW + 2 * MINUTE
    )
    publish(price("9", now_ms=NOW + 30_000), now_ms=NOW + 30_000, token=T2)
    assert due(NOW + 2 * MINUTE) == [("BTC/USDT", NOW)]
    assert redis_client().ttl(keys.candle("BTC/USDT", NOW)) == -1


def test_unflushed_gives_one_symbols_candles_of_a_range():
    fill(3)
    fill(3, symbol="ETH/USDT")
    found = candle_book.unflushed("ETH/USDT", from_ms=NOW + 1, to_ms=NOW + 2 * MINUTE + 1)
    assert [candle.open_ms for candle in found] == [NOW + MINUTE, NOW + 2 * MINUTE]
    assert candle_book.unflushed("XRP/USDT", from_ms=NOW, to_ms=NOW + 9 * MINUTE) == []
    assert candle_book.unflushed("ETH/USDT", from_ms=NOW + 9 * MINUTE, to_ms=NOW) == []


def test_waiting_counts_what_only_redis_has():
    assert candle_book.waiting() == 0
    fill(2)
    assert candle_book.waiting() == 2
