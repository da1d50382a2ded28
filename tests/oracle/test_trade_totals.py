from decimal import Decimal
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from oracle import keys, trade_log, trade_totals
from oracle.connection import redis_client
from oracle.trade_log import LoggedTrade
from oracle.trade_totals import Entry, SecondTotals, Sums

D = Decimal
NOW = 1_800_000_000_000 - 1_800_000_000_000 % 60_000
MINUTE = 60_000
BTC = "BTC/USDT"

tokens = count(1)


def trade(price="100", size="1", *, symbol="BTCUSDT", trade_id=None, at_ms=NOW, received_ms=None):
    return LoggedTrade(
        symbol, D(price), D(size), "buy", trade_id or str(next(tokens)), at_ms, received_ms or at_ms
    )


def log_trades(*trades, exchange="binance"):
    assert trade_log.append(exchange, trades, token=f"{next(tokens):016d}")


def delivered(consumer="a", exchange="binance"):
    """One entry that the group has given to ``consumer``."""
    trade_log.ensure_group(exchange)
    log_trades(trade(), exchange=exchange)
    stream = keys.trades_stream(exchange)
    found: Any = redis_client().xreadgroup(trade_log.GROUP, consumer, {stream: ">"}, count=1)
    [[_, [(entry_id, _)]]] = found
    return Entry(exchange=exchange, entry_id=entry_id.decode())


def sums(volume="1", quote_volume="100", trade_count=1):
    return Sums(volume=D(volume), quote_volume=D(quote_volume), trade_count=trade_count)


def commit(entries, minutes=None, seconds=None, consumer="a"):
    return trade_totals.commit(
        entries, consumer=consumer, seconds=seconds or {}, minutes=minutes or {}
    )


def put(volume="1", *, symbol=BTC, minute_ms=NOW, exchange="binance", **others):
    """Add a sum as an aggregator does."""
    minutes = {(exchange, symbol, minute_ms): sums(volume, **others)}
    return commit([delivered(exchange=exchange)], minutes)


def total(symbol=BTC, minute_ms=NOW):
    found = trade_totals.read([(symbol, minute_ms)])
    return found.get((symbol, minute_ms))


def due(now_ms=NOW + 2 * MINUTE, grace_ms=3_000):
    return trade_totals.due(now_ms=now_ms, grace_ms=grace_ms, limit=100)


def pending() -> int:
    answer: Any = redis_client().xpending(keys.trades_stream("binance"), trade_log.GROUP)
    return int(answer["pending"])


def entries_of(stream) -> list[tuple[bytes, dict[bytes, bytes]]]:
    answer: Any = redis_client().xrange(stream)
    return list(answer)


# --- one transaction ---


def test_sums_and_acknowledgement_are_written_together():
    entry = delivered()
    assert commit([entry], {("binance", BTC, NOW): sums("1.5", "0.00000123")}) == []
    assert total().sums == sums("1.5", "0.00000123")
    assert pending() == 0


def test_sums_of_exchanges_and_batches_add_up():
    put("0.1", quote_volume="10.00000001")
    put("0.2", quote_volume="5")
    put("3", exchange="okx", trade_count=7)
    assert total().sums == sums("3.3", "115.00000001", 9)
    assert total().version == "3"


def test_a_batch_sent_twice_counts_once():
    entry = delivered()
    minutes = {("binance", BTC, NOW): sums()}
    assert commit([entry], minutes) == []
    assert commit([entry], minutes) is None
    assert total().sums == sums()


def test_when_one_entry_belongs_to_another_nothing_is_added():
    ours, theirs = delivered("a"), delivered("b")
    before = dict.fromkeys([("binance", BTC, NOW)], sums())
    assert commit([ours, theirs], before, {("binance", BTC, NOW // 1_000): sums()}) is None
    assert total() is None
    assert pending() == 2
    assert trade_totals.read_window(from_second=NOW // 1_000, to_second=NOW // 1_000 + 1) == {}
    assert due() == []


def test_an_unreadable_entry_is_moved_aside_with_what_it_held():
    entry = delivered()
    wrong = Entry(exchange="binance", entry_id=entry.entry_id, wrong="DecodeError: no")
    assert commit([wrong]) == []
    assert pending() == 0
    [(_, fields)] = entries_of(keys.trades_poison())
    assert fields[b"wrong"] == b"DecodeError: no"
    assert fields[b"id"].decode() == entry.entry_id
    assert len(trade_log.decode(fields)) == 1


amounts = st.decimals(min_value=0, max_value=D(10) ** 25, allow_nan=False, allow_infinity=False)
long_amounts = st.builds(
    lambda whole, decimals, places: D((0, tuple(map(int, f"{whole}{decimals}")), -places)),
    st.integers(0, 10**40),
    st.integers(0, 10**40),
    st.integers(0, 40),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(amounts, long_amounts), min_size=2, max_size=6), st.integers(0, 10**12))
def test_the_script_adds_decimals_as_exactly_as_python(numbers, minute):
    # The minute tells the examples apart.
    minute_ms = minute * MINUTE
    redis_client().delete(keys.trades_minute(BTC, minute_ms))
    for number in numbers:
        both = Sums(volume=number, quote_volume=number, trade_count=1)
        assert commit([delivered()], {("binance", BTC, minute_ms): both}) == []
    expected = D(0)
    for number in numbers:
        expected = trade_totals.SUMS.add(expected, number)
    found = total(minute_ms=minute_ms).sums
    assert (found.volume, found.quote_volume, found.trade_count) == (
        expected,
        expected,
        len(numbers),
    )


def test_vwap_is_quote_volume_over_volume_to_fifteen_digits():
    assert sums("3", "10").vwap == D("3.33333333333333")
    assert sums("0", "0", 0).vwap is None


# --- seconds ---


def test_a_window_is_half_open_and_adds_its_seconds_up():
    second = NOW // 1_000
    for offset in (-1, 0, 1, 2):
        key = ("binance", BTC, second + offset)
        commit([delivered()], seconds={key: sums(str(offset + 2))})
    found = trade_totals.read_window(from_second=second, to_second=second + 2)
    assert found == {
        BTC: {"binance": SecondTotals(sums=sums("5", "200", 2), last_second=second + 1)}
    }


def test_seconds_expire():
    second = NOW // 1_000
    commit([delivered()], seconds={("binance", BTC, second): sums()})
    assert 120 <= redis_client().ttl(keys.trades_second(second)) <= 200


# --- flushing ---


def test_totals_are_due_once_their_minute_is_over():
    put()
    assert due(NOW + MINUTE + 2_999) == []
    assert due(NOW + MINUTE + 3_000) == [(BTC, NOW)]
    assert trade_totals.unflushed_from() == NOW


def test_flushed_totals_are_no_longer_due_and_stay():
    put()
    assert trade_totals.mark_flushed([total()], now_ms=NOW + 2 * MINUTE) == 1
    assert due() == []
    assert trade_totals.unflushed_from() is None
    assert total().sums == sums()


def test_totals_that_changed_since_they_were_read_stay_due():
    put()
    read_before = total()
    put()
    assert trade_totals.mark_flushed([read_before], now_ms=NOW) == 0
    assert due() == [(BTC, NOW)]


def test_a_late_trade_makes_its_minute_due_again():
    put()
    trade_totals.mark_flushed([total()], now_ms=NOW + 2 * MINUTE)
    put()
    assert due() == [(BTC, NOW)]
    trade_totals.forget(now_ms=NOW + 10 * trade_totals.KEEP_MS)
    assert total().sums == sums("2", "200", 2)


def test_totals_are_forgotten_two_hours_after_their_flush_and_later_trades_named():
    put()
    flushed_ms = NOW + 2 * MINUTE
    trade_totals.mark_flushed([total()], now_ms=flushed_ms)
    assert trade_totals.forget(now_ms=flushed_ms + trade_totals.KEEP_MS - 1) == 0
    assert trade_totals.horizon_ms() == -1
    assert trade_totals.forget(now_ms=flushed_ms + trade_totals.KEEP_MS) == 1
    assert trade_totals.horizon_ms() == NOW
    assert put() == [("binance", BTC, NOW)]
    assert total() is None
    assert pending() == 0
    assert put(minute_ms=NOW + MINUTE) == []


def test_what_was_never_flushed_is_never_too_late():
    put()
    trade_totals.forget(now_ms=NOW + 100 * trade_totals.KEEP_MS)
    assert put() == []
    assert total().sums == sums("2", "200", 2)


# --- listening and lag ---


def test_who_was_listened_to_is_known_by_minute():
    trade_totals.note_listening("okx", at_ms=NOW + 59_999)
    trade_totals.note_listening("kraken", at_ms=NOW + MINUTE)
    assert trade_totals.listening([NOW, NOW + MINUTE, NOW + 2 * MINUTE]) == {
        NOW: {"okx"},
        NOW + MINUTE: {"kraken"},
        NOW + 2 * MINUTE: frozenset(),
    }


def lag(now_ms):
    return trade_totals.lags_ms(["binance"], now_ms=now_ms)["binance"]


def test_lag_is_the_age_of_the_oldest_entry_not_counted():
    assert lag(NOW) == 0
    log_trades(trade())
    [(entry_id, _)] = entries_of(keys.trades_stream("binance"))
    written_ms = int(entry_id.split(b"-")[0])
    assert lag(written_ms + 700) == 700  # nobody has read it
    trade_log.ensure_group("binance")
    assert lag(written_ms + 700) == 700
    stream = keys.trades_stream("binance")
    redis_client().xreadgroup(trade_log.GROUP, "a", {stream: ">"})
    assert lag(written_ms + 700) == 700  # read, not counted
    entry = Entry(exchange="binance", entry_id=entry_id.decode())
    assert commit([entry]) == []
    assert lag(written_ms + 700) == 0
