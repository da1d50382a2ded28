from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.agreement import DISAGREE, FAR_FROM_LAST, FAR_FROM_MEDIAN, find_disagreeing

D = Decimal
THREE = D(3)


def find(*prices, factor=THREE, last=None):
    last_price = None if last is None else D(last)
    return find_disagreeing([D(price) for price in prices], factor=factor, last_price=last_price)


def test_exchanges_that_nearly_agree_are_all_believed():
    assert find("100", "250") == {}
    assert find("100", "300", last="1") == {}


@pytest.mark.parametrize("mad", ["1000", "10"])
@pytest.mark.parametrize("others", [["100", "101"], ["100", "101", "102"]])
def test_one_mad_exchange_of_three_or_four_is_outvoted(mad, others):
    """With four, the third quartile is the highest itself: the fences alone would let it in."""
    assert find(mad, *others) == {0: FAR_FROM_MEDIAN}


def test_of_two_the_last_price_tells_which():
    assert find("1000", "100", last="99") == {0: FAR_FROM_LAST}


@pytest.mark.parametrize("last", [None, "10000000", "1"])
def test_of_two_nobody_is_believed_where_the_last_price_does_not_tell(last):
    assert find("1000", "100", last=last) == {0: DISAGREE, 1: DISAGREE}


def test_one_alone_is_believed_unless_it_jumped():
    assert find("100") == {}
    assert find("100", last="50") == {}
    assert find("1000", last="99") == {0: FAR_FROM_LAST}


def test_rates_are_judged_more_strictly():
    assert find("1.00", "1.03", factor=D("1.02")) == {0: DISAGREE, 1: DISAGREE}
    assert find("1.00", "1.03", factor=D("1.02"), last="1.001") == {1: FAR_FROM_LAST}


@given(
    st.lists(st.integers(min_value=9_900, max_value=10_100), min_size=2, max_size=6),
    st.sampled_from([D(10), D("0.1")]),
    st.data(),
)
def test_one_exchange_times_ten_never_leaves_the_honest_out(levels, factor, data):
    prices = [D(level) for level in levels]
    mad = data.draw(st.integers(min_value=0, max_value=len(levels) - 1))
    prices[mad] *= factor
    assert set(find(*prices, last="10000")) == {mad}
