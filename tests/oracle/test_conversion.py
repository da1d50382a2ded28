from decimal import Decimal

from oracle.conversion import Leg, Rate, convert, find_path, walk

D = Decimal
USD_KRW = ["USDT/USD", "USDT/KRW"]


def test_find_path_divides_from_quote_to_base():
    assert find_path("KRW", "USDT", USD_KRW) == (
        Leg(symbol="USDT/KRW", multiply=False, name="KRW→USDT"),
    )


def test_find_path_multiplies_from_base_to_quote():
    assert find_path("USDT", "USD", USD_KRW) == (
        Leg(symbol="USDT/USD", multiply=True, name="USDT→USD"),
    )


def test_find_path_takes_two_legs_where_one_does_not_do():
    path = find_path("KRW", "USD", USD_KRW)
    assert path is not None
    assert [leg.name for leg in path] == ["KRW→USDT", "USDT→USD"]


def test_find_path_prefers_the_shorter_way():
    path = find_path("KRW", "USD", [*USD_KRW, "USD/KRW"])
    assert path is not None
    assert [leg.name for leg in path] == ["KRW→USD"]


def test_find_path_same_currency_needs_no_leg():
    assert find_path("USD", "USD", USD_KRW) == ()


def test_find_path_without_a_way_is_none():
    assert find_path("EUR", "USD", USD_KRW) is None


def test_find_path_gives_up_after_two_legs():
    assert find_path("A", "D", ["A/B", "B/C", "C/D"]) is None


def test_walk_multiplies_and_divides_and_takes_the_oldest_age():
    path = find_path("KRW", "USD", USD_KRW)
    assert path is not None
    rates = {
        "USDT/KRW": Rate(price=D(1250), as_of_ms=2_000),
        "USDT/USD": Rate(price=D("0.5"), as_of_ms=1_000),
    }
    rate = walk(path, rates)
    assert rate == Rate(price=D("0.0004"), as_of_ms=1_000)


def test_walk_names_the_rate_that_is_missing():
    path = find_path("KRW", "USD", USD_KRW)
    assert path is not None
    assert walk(path, {"USDT/KRW": Rate(price=D(1250), as_of_ms=1)}) == "USDT/USD"


def test_convert_keeps_tiny_prices():
    assert convert(D("0.0016425"), D("0.0008")) == D("0.000001314")
