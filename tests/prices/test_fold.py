from collections import Counter
from fractions import Fraction as F

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.trade_totals import Sums
from prices.fold import BAD_TIME, BAD_VOLUME, MAX_CLOCK_OFF_MS, UNLISTED, Fold
from tests.oracle.test_trade_totals import BTC, MINUTE, NOW, sums, trade

SYMBOLS = {"BTCUSDT": BTC, "ETHUSDT": "ETH/USDT"}


def fold(*batches, now_ms=NOW, exchange="binance"):
    made = Fold()
    for trades in batches:
        made.add(exchange, trades, symbols=SYMBOLS, now_ms=now_ms)
    return made


def test_volume_quote_volume_and_count_are_exact_sums():
    made = fold([trade("0.00000123", "3"), trade("0.00000124", "0.5")])
    expected = sums("3.5", "0.00000431", 2)
    assert made.minutes == {("binance", BTC, NOW): expected}
    assert made.seconds == {("binance", BTC, NOW // 1_000): expected}
    assert made.counted == {"binance": 2}


def test_a_trade_belongs_to_the_second_and_minute_of_its_own_time():
    made = fold([trade(at_ms=NOW - 1, received_ms=NOW + 5_000)])
    assert list(made.minutes) == [("binance", BTC, NOW - MINUTE)]
    assert list(made.seconds) == [("binance", BTC, NOW // 1_000 - 1)]


def test_seconds_that_no_window_will_read_are_not_written():
    made = fold([trade(at_ms=NOW - 121_000), trade(at_ms=NOW + 61_000)])
    assert made.seconds == {}
    assert len(made.minutes) == 2


def test_an_unlisted_market_is_counted_and_left_out():
    made = fold([trade(symbol="DOGEUSDT"), trade()])
    assert made.refused == Counter({("binance", UNLISTED): 1})
    assert made.counted == {"binance": 1}


@pytest.mark.parametrize("off_ms", [MAX_CLOCK_OFF_MS + 1, -MAX_CLOCK_OFF_MS - 1])
def test_a_time_off_by_more_than_a_day_is_refused(off_ms):
    made = fold([trade(at_ms=NOW + off_ms, received_ms=NOW)])
    assert made.refused == Counter({("binance", BAD_TIME): 1})
    assert made.minutes == {}


@pytest.mark.parametrize(
    ("price", "size"),
    [
        ("100", "NaN"),
        ("Infinity", "1"),
        ("100", "0"),
        ("-1", "-1"),
        ("1", "1e19"),
        ("1e18", "100"),
        ("1e-18", "1e-30"),
        ("1." + "3" * 49, "1." + "3" * 49),
        ("1", "1e-999999"),
    ],
)
def test_an_amount_that_cannot_be_stored_is_refused_and_its_neighbours_are_not(price, size):
    made = fold([trade(price, size), trade()])
    assert made.refused == Counter({("binance", BAD_VOLUME): 1})
    assert made.minutes == {("binance", BTC, NOW): sums()}


decimals = st.decimals(min_value="1e-8", max_value="1e8", places=8)
trades = st.lists(
    st.builds(
        lambda price, size, symbol, offset: trade(
            f"{price:f}", f"{size:f}", symbol=symbol, at_ms=NOW + offset
        ),
        decimals,
        decimals,
        st.sampled_from(list(SYMBOLS)),
        st.integers(-90_000, 90_000),
    ),
    max_size=30,
)


@given(trades, st.integers(0, 30), st.randoms())
def test_any_order_and_partition_gives_the_same_sums(some, cut, random):
    shuffled = random.sample(some, len(some))
    assert fold(some).minutes == fold(shuffled[:cut], shuffled[cut:]).minutes
    total = Sums()
    for each in fold(some).minutes.values():
        total.add(each)
    assert total.trade_count == len(some)
    assert F(total.volume) == sum(F(each.size) for each in some)
    assert F(total.quote_volume) == sum(F(each.price) * F(each.size) for each in some)
