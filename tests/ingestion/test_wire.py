from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from ingestion import wire
from ingestion.adapter import UnreadableError
from ingestion.wire import RowError
from oracle.values import ErrorCode

BAD_NUMBERS: list[Any] = [
    *(None, True, False, "", " 1", "1_0", "+1", "-1", "NaN", "Infinity", "0x1", "\u0661", [], {}),
    *("1e20", "1e400", "9" * 101, 10**20, Decimal("1e20"), Decimal("-1"), -1, "1.2.3", "1e", "."),
]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("69624.00000000", "69624.00000000"),
        (Decimal("162876000.00000000"), "162876000.00000000"),
        (7050000, "7050000"),
        (Decimal("1.16539E8"), "116539000"),
        ("1e-7", "0.0000001"),
        (".5", "0.5"),
        ("0.000000000000000001", "0.000000000000000001"),
        ("99999999999999999999", "99999999999999999999"),
    ],
)
def test_price_keeps_the_digits_it_came_with(value: Any, text: str) -> None:
    assert f"{wire.price({'p': value}, 'p'):f}" == text


@pytest.mark.parametrize("value", [*BAD_NUMBERS, 0, "0", "0.00000000", "1e-19"], ids=repr)
def test_price_of_anything_else_is_bad_price(value: Any) -> None:
    with pytest.raises(RowError) as caught:
        wire.price({"p": value}, "p")

    assert caught.value.code == ErrorCode.BAD_PRICE


@pytest.mark.parametrize("value", [each for each in BAD_NUMBERS if each is not None], ids=repr)
def test_volume_of_anything_else_is_bad_volume(value: Any) -> None:
    with pytest.raises(RowError) as caught:
        wire.volume({"v": value}, "v")

    assert caught.value.code == ErrorCode.BAD_VOLUME


@pytest.mark.parametrize("row", [{}, {"v": None}, [None]])
def test_volume_not_said_is_none(row: Any) -> None:
    assert wire.volume(row, "v" if isinstance(row, dict) else 0) is None


def test_volume_of_zero_is_zero() -> None:
    assert wire.volume({"v": "0.00"}, "v") == 0


@pytest.mark.parametrize("value", ["0", "0.0", "-1", None, True], ids=repr)
def test_size_without_any_is_bad_volume(value: Any) -> None:
    with pytest.raises(RowError) as caught:
        wire.size({"q": value}, "q")

    assert caught.value.code == ErrorCode.BAD_VOLUME


@pytest.mark.parametrize(
    ("row", "key", "code"),
    [
        ({}, "p", ErrorCode.MISSING_FIELD),
        (["1"], 1, ErrorCode.MISSING_FIELD),
        (None, "p", ErrorCode.BAD_ROW),
        (["1"], "p", ErrorCode.BAD_ROW),
        ("123", 0, ErrorCode.BAD_ROW),
        (5, 0, ErrorCode.BAD_ROW),
    ],
)
def test_field_that_is_not_there_has_its_code(row: Any, key: Any, code: ErrorCode) -> None:
    with pytest.raises(RowError) as caught:
        wire.field(row, key)

    assert caught.value.code == code


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2023-06-16T02:26:52.037760Z", 1686882412037),
        ("2026-06-19T16:43:33.016274911Z", 1781887413016),
        ("2020-02-20T11:19:00", 1582197540000),
        ("2020-02-20T20:19:00+09:00", 1582197540000),
        ("2026-07-07T22:58:19.999999Z", 1783465099999),
    ],
)
def test_iso_ms_is_cut_never_rounded(text: str, ms: int) -> None:
    assert wire.iso_ms({"t": text}, "t") == ms


@pytest.mark.parametrize(
    "value",
    [None, 5, "", "yesterday", "2026-06-19", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59"],
)
def test_iso_ms_of_anything_else_is_bad_time(value: Any) -> None:
    with pytest.raises(RowError) as caught:
        wire.iso_ms({"t": value}, "t")

    assert caught.value.code == ErrorCode.BAD_TIME


@pytest.mark.parametrize("value", [1730439018472, "1730439018472"])
def test_epoch_ms_reads_number_and_text(value: Any) -> None:
    assert wire.epoch_ms({"t": value}, "t") == 1730439018472


@pytest.mark.parametrize(
    "value", [None, True, 0, -1, 1730439018, 1730439018472000, "", "-5", "1e12", "\u0661", 10**30]
)
def test_epoch_ms_of_anything_else_is_bad_time(value: Any) -> None:
    with pytest.raises(RowError) as caught:
        wire.epoch_ms({"t": value}, "t")

    assert caught.value.code == ErrorCode.BAD_TIME


def test_seconds_ms_keeps_the_milliseconds() -> None:
    assert wire.seconds_ms(["1618678142.557535"], 0) == 1618678142557


@pytest.mark.parametrize("value", [1, 0, "true", None, []])
def test_choice_of_another_type_is_bad_row(value: Any) -> None:
    with pytest.raises(RowError) as caught:
        wire.choice({"m": value}, "m", {True: "sell", False: "buy"})

    assert caught.value.code == ErrorCode.BAD_ROW


def test_decode_duplicate_key_takes_the_last() -> None:
    assert wire.decode('{"a":1,"a":2}') == {"a": 2}


def test_decode_keeps_integers_beyond_64_bits() -> None:
    assert wire.decode("18446744073709551616") == 18446744073709551616


@pytest.mark.parametrize("message", ["{", '"\ud800"', b"\xff", "[" * 100_000, "1" * 5000])
def test_decode_of_no_json_is_unreadable(message: str | bytes) -> None:
    with pytest.raises(UnreadableError):
        wire.decode(message)


def test_shown_is_short_whatever_it_is() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    shown = [wire.shown(each) for each in ("x" * 1000, 10**39, deep, Decimal(1).scaleb(-99999))]
    assert all(len(each) <= 42 for each in shown)


@pytest.mark.parametrize("value", [-1, 2**63, 1.0, "5", True, None], ids=repr)
def test_count_is_what_a_bigint_holds(value: Any) -> None:
    assert wire.count({"n": 2**63 - 1}, "n") == 2**63 - 1
    with pytest.raises(RowError) as caught:
        wire.count({"n": value}, "n")
    assert caught.value.code == ErrorCode.BAD_ROW
