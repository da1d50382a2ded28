"""Fields of an order, read one by one: an error names the field, its value, what is accepted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from market.candles import epoch_ms

SHOWN = 80  # characters of a value that an error repeats
MOMENT = "unix seconds such as 1704067200, or ISO 8601 such as 2024-01-01T00:00Z"
# 2001-09-09 to 2286-11-20: a number outside is no unix seconds, but milliseconds or a mistake.
MIN_SECONDS, MAX_SECONDS = 1_000_000_000, 9_999_999_999


class OrderError(ValueError):
    """An order that cannot be carried out. ``field``: the one that is wrong; ``problem``: how."""

    retryable = False

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


def shown(value: object) -> str:
    """A value as an error repeats it."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def refuse(field: str, value: object, accepted: str) -> OrderError:
    """The error for a value that is none of the accepted ones."""
    return OrderError(field, f"must be {accepted}, got {shown(value)}")


def known(given: Mapping[str, Any], accepted: Collection[str], *, within: str = "") -> None:
    """Refuse fields that nobody would read: an option that changes nothing is a mistake."""
    for name in given:
        if name not in accepted:
            raise OrderError(
                f"{within}{name}"[:SHOWN], f"unknown; there are {', '.join(sorted(accepted))}"
            )


def section(given: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object; where it is missing, an empty one."""
    value = given.get(name, {})
    if not isinstance(value, Mapping):
        raise refuse(name, value, "an object")
    return value


def text(given: Mapping[str, Any], name: str, *, within: str = "", default: str = "") -> str:
    """A text that is not empty."""
    value = given.get(name, default)
    if type(value) is not str or not value.strip():
        if name not in given:
            raise OrderError(f"{within}{name}", "is missing")
        raise refuse(f"{within}{name}", value, "a text")
    return value.strip()


def choice(given: Mapping[str, Any], name: str, accepted: Collection[str], *, default: str) -> str:
    """One of the accepted texts."""
    value = given.get(name, default)
    if type(value) is not str or value not in accepted:
        raise refuse(name, value, f"one of {', '.join(accepted)}")
    return value


def flag(given: Mapping[str, Any], name: str, *, within: str = "", default: bool) -> bool:
    """True or false."""
    value = given.get(name, default)
    if type(value) is not bool:
        raise refuse(f"{within}{name}", value, "true or false")
    return value


def integer(
    given: Mapping[str, Any],
    name: str,
    *,
    least: int,
    most: int,
    within: str = "",
    default: int | None = None,
) -> int:
    """A whole number within its bounds."""
    value = given.get(name, default)
    if value is None:
        raise OrderError(f"{within}{name}", f"is missing: a whole number from {least} to {most}")
    if type(value) is not int or not least <= value <= most:
        raise refuse(f"{within}{name}", value, f"a whole number from {least} to {most}")
    return value


def share(given: Mapping[str, Any], name: str, *, default: float) -> float:
    """A share of a whole: above 0 and below 1."""
    value = given.get(name, default)
    if type(value) not in (int, float) or not 0 < value < 1:
        raise refuse(name, value, "a number above 0 and below 1")
    return float(value)


def moment_ms(given: Mapping[str, Any], name: str, *, within: str = "") -> int:
    """A point in time, in epoch milliseconds; text without a zone is UTC."""
    value = given.get(name)
    if value is None:
        raise OrderError(f"{within}{name}", f"is missing: {MOMENT}")
    if type(value) is int and MIN_SECONDS <= value <= MAX_SECONDS:
        return value * 1_000
    if type(value) is str:
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            raise refuse(f"{within}{name}", value, MOMENT) from None
        at_ms = epoch_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
        if MIN_SECONDS <= at_ms // 1_000 <= MAX_SECONDS:
            return at_ms // 1_000 * 1_000
    raise refuse(f"{within}{name}", value, MOMENT)
