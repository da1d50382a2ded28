"""What exchanges write, read exactly: JSON, and the fields of one row.

Readers take ``(row, key)`` and raise `RowError` with the code of what is wrong. Decimals keep the
digits they came with, trailing zeros too; nothing passes through a float.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import msgspec

from ingestion.adapter import UnreadableError
from oracle.values import MAX_MS, MIN_MS, ErrorCode

T = TypeVar("T")

# NUMERIC(38,18) holds nothing larger, and turns anything smaller into zero.
MAX_AMOUNT = Decimal("1e20")
MAX_COUNT = 2**63  # what a bigint holds
MIN_PRICE = Decimal("1e-18")
MAX_TEXT_CHARS = 100  # KuCoin has sent 30 decimals; a longer number or name is an attack or a bug

_NUMBER = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_DIGITS = re.compile(r"[0-9]{1,20}")
_DAY_MS = 86_400_000
_ZERO = Decimal(0)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RowError(ValueError):
    """One row, or one field of it, that cannot become a value."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def _exact(text: str) -> Decimal | str:
    # A number no Decimal can hold stays text, which every reader below refuses: one bad row.
    if len(text) > MAX_TEXT_CHARS:
        return text
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


_DECODER = msgspec.json.Decoder(float_hook=_exact)


def decode(message: bytes | str) -> Any:
    """Read JSON, numbers with a fraction or an exponent as Decimal.

    Raises `UnreadableError` on anything that is not JSON, or is too deep to be an answer.
    """
    try:
        return _DECODER.decode(message)
    except (ValueError, RecursionError) as error:  # msgspec's and Unicode's errors are ValueErrors
        raise UnreadableError(f"not JSON: {error}") from error


def field(row: Any, key: str | int) -> Any:
    """Return ``row[key]``; MISSING_FIELD where it is not there, BAD_ROW where ``row`` is no row."""
    try:
        if type(row) is not str:  # text[0] is a character, not a column
            return row[key]
    except (KeyError, IndexError):
        raise RowError(ErrorCode.MISSING_FIELD, f"no {key}") from None
    except TypeError:
        pass
    raise RowError(ErrorCode.BAD_ROW, f"{type(row).__name__} where a row should be")


def shown(value: Any) -> str:
    """Say ``value`` in a few characters, whatever it is."""
    if type(value) is str:
        return repr(value[:40])
    if value is None or type(value) in (bool, int, Decimal):
        return f"{value}"[:40]
    return type(value).__name__


def _number(value: Any) -> Decimal | None:
    """Return a finite Decimal of 0 or more below MAX_AMOUNT, or None."""
    kind = type(value)
    if kind is str:
        if len(value) > MAX_TEXT_CHARS:
            return None
        # Digits around one point, told without the pattern: what nearly all of them are.
        plain = value.isascii() and value.replace(".", "", 1).isdigit()
        if not plain and _NUMBER.fullmatch(value) is None:
            return None
        number = Decimal(value)
    elif kind is Decimal:
        number = value
    elif kind is int:
        number = Decimal(value)
    else:
        return None
    return number if _ZERO <= number < MAX_AMOUNT else None


def price(row: Any, key: str | int) -> Decimal:
    """Read a price above 0, else BAD_PRICE."""
    value = field(row, key)
    number = _number(value)
    if number is None or number < MIN_PRICE:
        raise RowError(ErrorCode.BAD_PRICE, f"{key} is {shown(value)}")
    return number


def size(row: Any, key: str | int) -> Decimal:
    """Read a size above 0, else BAD_VOLUME."""
    value = field(row, key)
    number = _number(value)
    if not number:
        raise RowError(ErrorCode.BAD_VOLUME, f"{key} is {shown(value)}")
    return number


def volume(row: Any, key: str | int) -> Decimal | None:
    """Read a volume of 0 or more; None where the exchange does not say; else BAD_VOLUME."""
    value = row.get(key) if type(row) is dict else field(row, key)
    if value is None:
        return None
    number = _number(value)
    if number is None:
        raise RowError(ErrorCode.BAD_VOLUME, f"{key} is {shown(value)}")
    return number


def count(row: Any, key: str | int) -> int:
    """Read a whole number of 0 or more below MAX_COUNT, else BAD_ROW."""
    value = field(row, key)
    if type(value) is int and 0 <= value < MAX_COUNT:
        return value
    raise RowError(ErrorCode.BAD_ROW, f"{key} is {shown(value)}")


def text(row: Any, key: str | int) -> str:
    """Read a name: some printable text, else BAD_ROW."""
    value = field(row, key)
    if is_name(value):
        return str(value)
    raise RowError(ErrorCode.BAD_ROW, f"{key} is {shown(value)}")


def is_name(value: Any) -> bool:
    """Tell whether ``value`` can be a name: printable, not empty, not a page of text."""
    return type(value) is str and 0 < len(value) <= MAX_TEXT_CHARS and value.isprintable()


def trade_id(row: Any, key: str | int) -> str:
    """Read a trade id, number or text, as text."""
    value = field(row, key)
    return str(value) if type(value) is int else text(row, key)


def choice(row: Any, key: str | int, choices: Mapping[Any, T]) -> T:
    """Read one of a closed list and return what it stands for, else BAD_ROW."""
    value = field(row, key)
    if type(value) in (str, bool) and value in choices:
        return choices[value]
    raise RowError(ErrorCode.BAD_ROW, f"{key} is {shown(value)}")


def epoch_ms(row: Any, key: str | int, *, ns_per_unit: int = 1_000_000) -> int:
    """Read a time counted from the epoch, as a whole number or its text; cut to milliseconds."""
    value = field(row, key)
    if type(value) is str and _DIGITS.fullmatch(value):
        value = int(value)
    if type(value) is int:
        return _checked_ms(value * ns_per_unit // 1_000_000, key, value)
    raise RowError(ErrorCode.BAD_TIME, f"{key} is {shown(value)}")


def seconds_ms(row: Any, key: str | int) -> int:
    """Read seconds since the epoch, with or without decimals; cut to milliseconds."""
    value = field(row, key)
    number = _number(value)
    if number is None:
        raise RowError(ErrorCode.BAD_TIME, f"{key} is {shown(value)}")
    return _checked_ms(int(number * 1000), key, value)


def iso_ms(row: Any, key: str | int) -> int:
    """Read an ISO 8601 date and time, UTC where it names no offset; cut to milliseconds."""
    value = field(row, key)
    try:
        if type(value) is not str or not 19 <= len(value) <= MAX_TEXT_CHARS:
            raise ValueError
        moment = datetime.fromisoformat(value)
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        raise RowError(ErrorCode.BAD_TIME, f"{key} is {shown(value)}") from None
    # Whole numbers all the way: a float of seconds loses the odd millisecond.
    ms = since.days * _DAY_MS + since.seconds * 1000 + since.microseconds // 1000
    return _checked_ms(ms, key, value)


def _checked_ms(ms: int, key: str | int, value: Any) -> int:
    if MIN_MS <= ms < MAX_MS:
        return ms
    raise RowError(ErrorCode.BAD_TIME, f"{key} is {shown(value)}")


def iso_text(ms: int) -> str:
    """Write a time as exchanges want it asked: ``2025-07-30T00:00:00Z``."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
