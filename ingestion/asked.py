"""What a request to the admin API asks for: its body and its fields, or an error that teaches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework.request import Request

from market import query
from market.query import invalid

MAX_BODY_BYTES = 65_536
MAX_ITEMS = 50
MAX_CHARS = 64
DEFAULT_LIMIT = 100


def body(request: Request) -> Mapping[str, Any]:
    """The JSON object or form that was sent; an empty one for no body.

    Raises ApiError, and ParseError for what is neither.
    """
    return query.body(request, max_bytes=MAX_BODY_BYTES)


def fields(request: Request) -> dict[str, str]:
    """Query and body as one: a field of the body is read as it would be in the query."""
    found = {name: str(value) for name, value in request.query_params.items()}
    for name, value in body(request).items():
        if isinstance(value, bool):
            found[name] = "true" if value else "false"
        elif isinstance(value, (str, int)):
            found[name] = str(value)
        elif value is not None:
            raise invalid(name, value, "a text or a number")
    return found


def flag(params: Mapping[str, str], name: str) -> bool:
    """A yes or no that is no where it is not asked for."""
    text = params.get(name, "false").lower()
    if text not in ("true", "false", "1", "0"):
        raise invalid(name, text, "true or false")
    return text in ("true", "1")


def text(given: Mapping[str, Any], name: str, *, default: str | None = None) -> str:
    """A text of 1 to 64 printable characters: PostgreSQL stores no NUL."""
    value = given.get(name, default)
    stripped = value.strip() if isinstance(value, str) else ""
    if not (1 <= len(stripped) <= MAX_CHARS and stripped.isprintable()):
        raise invalid(name, value, f"a text of 1 to {MAX_CHARS} characters")
    return stripped


def texts(given: Mapping[str, Any], name: str, *, what: str) -> list[str]:
    """A list of 1 to 50 texts."""
    value = given.getlist(name) if hasattr(given, "getlist") else given.get(name)
    accepted = f"a list of 1 to {MAX_ITEMS} {what}"
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_ITEMS:
        shown = f"{len(value)} of them" if isinstance(value, list) else value
        raise invalid(name, shown, accepted)
    if not all(isinstance(item, str) and 1 <= len(item) <= MAX_CHARS for item in value):
        raise invalid(name, value, accepted)
    return value
