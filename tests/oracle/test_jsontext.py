from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.jsontext import decode, encode, exact

D = Decimal


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (D("0.00000123"), b"0.00000123"),
        (D("1.23E-7"), b"0.000000123"),
        (D("1E+3"), b"1000"),
        (D("42150.50"), b"42150.50"),
        (1e-7, b"0.0000001"),
        (0.1, b"0.1"),
        (12345678901234567890, b"12345678901234567890"),
    ],
)
def test_numbers_are_plain_with_their_digits(number, text):
    assert encode(number) == text


@pytest.mark.parametrize("number", [D("NaN"), D("Infinity"), float("nan"), float("inf")])
def test_what_is_no_number_is_refused(number):
    with pytest.raises(ValueError, match="no JSON number"):
        encode({"price": [number]})


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("1.50", "1.5"),
        ("100", "100"),
        ("100.00", "100"),
        ("1E+3", "1000"),
        ("1.20E-7", "0.00000012"),
    ],
)
def test_exact_is_without_the_zeros_that_end_a_fraction(number, text):
    assert exact(D(number)) == text


@given(
    st.decimals(allow_nan=False, allow_infinity=False, min_value=D("1e-18"), max_value=D("1e18"))
)
def test_a_decimal_survives_the_wire(number):
    assert D(decode(encode({"n": number}))["n"]) == number


def test_decode_keeps_digits():
    assert (
        decode(b'{"p": 162876000.00000000}')["p"].as_tuple() == D("162876000.00000000").as_tuple()
    )


@pytest.mark.parametrize("text", [b"{", b"", b"NaN", b"[1e99999999999999999999]", b"[" * 100_000])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises((ValueError, RecursionError)):
        decode(text)


def test_nested_values_and_lazy_texts():
    from django.utils.translation import gettext_lazy

    assert encode({"a": (1, None, True, {"b": gettext_lazy("late")})}) == (
        b'{"a":[1,null,true,{"b":"late"}]}'
    )
