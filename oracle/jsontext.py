"""JSON with exact decimals: numbers keep their stored digits and are never written as ``1e-07``."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

import msgspec


def plain(number: Decimal) -> str:
    """``number`` in plain notation with all its digits: ``0.00000123``."""
    return format(number, "f")


def exact(number: Decimal) -> str:
    """All digits of ``number`` in plain notation, without the zeros that end a fraction."""
    text = plain(number)
    return text.rstrip("0").rstrip(".") if "." in text else text


def encode(value: Any) -> bytes:
    """``value`` as JSON; a Decimal becomes a JSON number in plain notation, a NaN is refused.

    A msgspec.Raw is JSON already.
    """
    return msgspec.json.encode(_exact(value))


def decode(text: bytes | str) -> Any:
    """JSON to Python, numbers with a fraction to Decimal. Raises ValueError."""
    try:
        return _DECODER.decode(text)
    except InvalidOperation:
        raise ValueError("a number beyond any decimal") from None


_DECODER = msgspec.json.Decoder(float_hook=Decimal)


def _exact(value: Any) -> Any:
    match value:
        case Decimal():
            if not value.is_finite():
                raise ValueError(f"{value} has no JSON number")
            return msgspec.Raw(plain(value).encode())
        case str() | int() | None | UUID() | datetime() | msgspec.Raw():
            return value
        case float():
            return _exact(Decimal(repr(value)))
        case dict():
            return {str(key): _exact(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_exact(item) for item in value]
    return str(value)  # Django's lazy texts and error details
