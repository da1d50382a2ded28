from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.aggregation import OUTSIDE_FENCES, aggregate, median, weigh
from oracle.values import MAX_DIGITS

D = Decimal

# From a fraction of a satoshi's worth of PEPE to a won price of anything.
prices = st.decimals(
    min_value=D("1e-18"), max_value=D("1e19"), allow_nan=False, allow_infinity=False
).filter(lambda price: len(price.as_tuple().digits) <= MAX_DIGITS)
weights = st.decimals(min_value=0, max_value=D("1e15"), allow_nan=False, allow_infinity=False)
quotes = st.lists(st.tuples(prices, weights), min_size=1, max_size=12)
# Prices of one thing on several exchanges: within one per cent of each other.
agreeing = st.lists(
    st.integers(min_value=9_950, max_value=10_050).map(lambda n: D(n) / 100),
    min_size=4,
    max_size=4,
)


def split(pairs):
    return [price for price, _ in pairs], [weight for _, weight in pairs]


def texts(numbers):
    return [D(number) for number in numbers]


def test_vwap_weights_by_volume():
    result = aggregate(texts(["100", "102"]), texts(["3", "1"]))
    assert (result.price, result.method) == (D("100.5"), "vwap")


def test_no_volume_at_all_gives_the_median():
    result = aggregate(texts(["100", "103", "101"]), texts([0, 0, 0]))
    assert (result.price, result.method) == (D(101), "median")


def test_a_source_without_volume_has_no_say_beside_one_with():
    result = aggregate(texts(["100", "101"]), texts([0, 5]))
    assert (result.price, result.method) == (D(101), "vwap")


def test_a_lone_tiny_price_keeps_its_digits():
    result = aggregate([D("0.00000123")], [D("987654321.123456789")])
    assert str(result.price) == "0.00000123"


def test_a_lone_price_longer_than_we_publish_keeps_its_digits():
    price = D("12345678.123456789012")
    assert aggregate([price], [D(3)]).price == price


def test_fences_are_at_the_floor_ranks():
    # n = 5: Q1 = s[1] = 101, Q3 = s[3] = 103, fences [98, 106]
    result = aggregate(texts(["100", "101", "102", "103", "107"]), texts([1] * 5))
    assert result.rejected == {4: OUTSIDE_FENCES}
    inside = aggregate(texts(["100", "101", "102", "103", "106"]), texts([1] * 5))
    assert inside.rejected == {}


def test_rejected_names_the_index_as_given():
    result = aggregate(texts(["100", "900", "101", "99", "100.5"]), texts([1] * 5))
    assert result.rejected == {1: OUTSIDE_FENCES}


def test_three_sources_have_no_fences():
    assert aggregate(texts(["100", "101", "120"]), texts([1] * 3)).rejected == {}


def test_spread_confidence_variance_and_deviation_are_of_the_kept():
    result = aggregate(texts(["100", "101", "102", "103", "900"]), texts([1] * 5))
    assert result.price == D("101.5")
    assert result.variance == D("1.25")
    assert result.stdev == D("1.11803398874989")
    assert result.confidence == D("1.5")  # p75 = s[3] = 103, p50 = 101.5, p25 = s[1] = 101
    assert result.spread_bps == D("295.566502463054")  # 3 / 101.5


def test_one_source_has_no_spread():
    result = aggregate([D(5)], [D(1)])
    spreads = {result.confidence, result.spread_bps, result.variance, result.stdev}
    assert spreads == {D(0)}


@pytest.mark.parametrize(
    ("given_prices", "given_weights"),
    [
        ([], []),
        (["1"], []),
        (["0"], ["1"]),
        (["-1"], ["1"]),
        (["NaN"], ["1"]),
        (["Infinity"], ["1"]),
        (["1"], ["-1"]),
        (["1"], ["NaN"]),
    ],
)
def test_what_is_no_quote_is_refused(given_prices, given_weights):
    with pytest.raises(ValueError, match=r"must be|as many"):
        aggregate(texts(given_prices), texts(given_weights))


def test_median_of_even_and_odd():
    assert median(texts([1, 2, 9])) == 2
    assert median(texts([1, 2, 3, 9])) == D("2.5")


@given(quotes)
def test_the_price_lies_within_the_kept_prices(pairs):
    given_prices, given_weights = split(pairs)
    result = aggregate(given_prices, given_weights)
    kept = [p for index, p in enumerate(given_prices) if index not in result.rejected]
    assert kept
    assert min(kept) <= result.price <= max(kept)


@given(quotes, st.randoms(use_true_random=False))
def test_the_order_of_the_quotes_does_not_matter(pairs, random):
    shuffled = list(pairs)
    random.shuffle(shuffled)
    one, other = aggregate(*split(pairs)), aggregate(*split(shuffled))
    # Ties at a fence fall together, so even the outliers are the same prices.
    assert (one.price, one.method, one.confidence, one.spread_bps) == (
        other.price,
        other.method,
        other.confidence,
        other.spread_bps,
    )
    assert sorted(pairs[i][0] for i in one.rejected) == sorted(
        shuffled[i][0] for i in other.rejected
    )


@given(agreeing, st.lists(weights, min_size=4, max_size=4))
def test_weigh_is_the_price_of_quotes_that_are_all_believed(four, their_weights):
    result = aggregate(four, their_weights)
    kept = [n for n in range(4) if n not in result.rejected]
    assert weigh([four[n] for n in kept], [their_weights[n] for n in kept]) == result.price


@given(st.lists(st.tuples(prices, prices, weights), min_size=1, max_size=8))
def test_weigh_of_prices_nowhere_above_others_is_not_above_theirs(rows):
    lows = [min(one, other) for one, other, _ in rows]
    highs = [max(one, other) for one, other, _ in rows]
    by_volume = [weight for _, _, weight in rows]
    assert weigh(lows, by_volume) <= weigh(highs, by_volume)


@given(
    agreeing,
    st.one_of(
        st.decimals(min_value=D("0.0001"), max_value=D(50), allow_nan=False),
        st.decimals(min_value=D(200), max_value=D("1e9"), allow_nan=False),
    ),
    st.integers(min_value=0, max_value=4),
    st.lists(weights, min_size=5, max_size=5),
)
def test_one_wild_source_of_five_never_moves_the_price_outside_the_others(
    others, wild, position, five_weights
):
    given_prices = [*others[:position], wild, *others[position:]]
    result = aggregate(given_prices, five_weights)
    assert min(others) <= result.price <= max(others)
    assert position in result.rejected


@given(quotes)
def test_nothing_that_is_published_is_ever_not_a_number(pairs):
    result = aggregate(*split(pairs))
    for number in (
        result.price,
        result.confidence,
        result.spread_bps,
        result.variance,
        result.stdev,
    ):
        assert number.is_finite()
        assert number >= 0
    assert result.price > 0
