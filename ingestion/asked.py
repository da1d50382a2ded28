"""What a request to the admin API asks for: its body and its fields, or an error that teaches."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from rest_framework.exceptions import ParseError
from rest_framework.request import Request

from market import query
from market.query import ApiError, invalid

MAX_BODY_BYTES = 65_536
MAX_ITEMS = 50
MAX_CHARS = 64
DEFAULT_LIMIT = 100
# What is no field of ours: the browsable API asks for its renderer in the query, and a form of a
# session carries Django's token.
_NOT_OURS_IN_QUERY, _NOT_OURS_IN_FORM = "format", "csrfmiddlewaretoken"


def params(request: Request, *accepted: str) -> Mapping[str, str]:
    """The query, which has the ``accepted`` fields and no others. Raises ApiError."""
    _known(request.query_params, accepted, apart_from=_NOT_OURS_IN_QUERY)
    return request.query_params


def body(request: Request, *accepted: str) -> Mapping[str, Any]:
    """The JSON object or form that was sent, for a request whose query says nothing.

    An empty one for no body. Raises ApiError, also for a field that is none of the ``accepted``
    ones, and ParseError for what is neither an object nor a form.
    """
    params(request)
    return _body(request, accepted)


def fields(request: Request, *accepted: str) -> dict[str, str]:
    """Query and body as one: a field of the body is read as it would be in the query.

    Raises as `body` does.
    """
    found = {name: str(value) for name, value in params(request, *accepted).items()}
    for name, value in _body(request, accepted).items():
        if isinstance(value, bool):
            found[name] = "true" if value else "false"
        elif isinstance(value, (str, int)):
            found[name] = str(value)
        elif value is not None:
            raise invalid(name, value, "a text or a whole number")
    return found


def _body(request: Request, accepted: Collection[str]) -> Mapping[str, Any]:
    found = query.body(request, max_bytes=MAX_BODY_BYTES)
    for text in (each for item in found.items() for each in item if isinstance(each, str)):
        try:
            text.encode()
        except UnicodeEncodeError:  # no error could repeat it, and no row hold it
            raise ParseError("the body has half a surrogate pair, which is no text") from None
    is_form = hasattr(found, "getlist")
    _known(found, accepted, apart_from=_NOT_OURS_IN_FORM if is_form else None)
    return found


def _known(given: Mapping[str, Any], accepted: Collection[str], *, apart_from: str | None) -> None:
    """Refuse fields that nobody would read: an option that changes nothing is a mistake."""
    there_are = ", ".join(sorted(accepted)) or "none"
    for name in given:
        if name not in accepted and name != apart_from:
            shown = name[:MAX_CHARS]
            raise ApiError(
                400,
                "INVALID_PARAMETER",
                f"{shown}: unknown; there are {there_are}",
                {"field": shown, "accepted": there_are},
            )


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
