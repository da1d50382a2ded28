"""What a request asks for: a body, a number, a page, a choice or a symbol; or why it has none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from rest_framework.exceptions import APIException, ParseError
from rest_framework.request import Request

from market import catalog as stored
from market.symbols import UnknownSymbolError, resolve, slug
from oracle import catalog as published
from oracle.catalog import Catalog

# Where milliseconds begin and seconds end: the year 2286.
MAX_SECONDS = 9_999_999_999
MAX_SHOWN = 64
MAX_ROWS, MAX_OFFSET = 1_000, 1_000_000  # of a page of a list

# int() would also read "1_000", " 5 " and digits of other scripts.
_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)


class ApiError(APIException):
    """An answer that is an error: its HTTP status, code, message and details."""

    retryable = False

    def __init__(
        self, status: int, code: str, message: str, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, code)
        self.status_code = status
        self.code = code
        self.message = message
        self.details = dict(details or {})


def invalid(field: str, value: object, accepted: str) -> ApiError:
    """The 400 for a parameter, naming the field, its value and what is accepted."""
    shown = None if value is None else _clip(str(value))
    got = f"got {shown!r}" if shown is not None else "it is missing"
    details = {"field": field, "value": shown, "accepted": accepted}
    return ApiError(400, "INVALID_PARAMETER", f"{field} must be {accepted}: {got}", details)


def body(request: Request, *, max_bytes: int) -> Mapping[str, Any]:
    """The JSON object or form of a request; an empty one for no body.

    Raises ApiError before anything is read that is too large or of unknown length, and ParseError
    for what is no object.
    """
    meta = request.META
    try:
        length = int(meta.get("CONTENT_LENGTH") or 0)
    except ValueError:  # from a server that lets it pass: uvicorn does not
        raise ParseError("Content-Length must be a number of bytes") from None
    if not length and meta.get("HTTP_TRANSFER_ENCODING"):  # Django would read nothing of it
        raise ApiError(
            411, "LENGTH_REQUIRED", "a body sent in chunks is not read: send its Content-Length"
        )
    if length > max_bytes:
        raise ApiError(
            413,
            "TOO_LARGE",
            f"the body has {length} bytes, and at most {max_bytes} are read",
            {"bytes": length, "max_bytes": max_bytes},
        )
    try:
        data = request.data
    except RecursionError:
        raise ParseError("the body is nested too deeply") from None
    if not isinstance(data, Mapping):
        raise ParseError("the body must be a JSON object, such as {}")
    return data


def integer(
    params: Mapping[str, str], field: str, *, least: int, most: int, unit: str
) -> int | None:
    """The whole number ``field`` of ``least`` to ``most``; None when it is not asked for.

    ``unit`` says what it counts, for the error.
    """
    text = params.get(field)
    if text is None:
        return None
    if _INTEGER.fullmatch(text) and least <= int(text) <= most:
        return int(text)
    raise invalid(field, text, f"a whole number of {unit} from {least} to {most}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """``limit`` rows of a list at most, from ``offset`` on."""

    limit: int
    offset: int

    def of(self, rows: QuerySet[Any]) -> tuple[list[Any], dict[str, Any]]:
        """The rows, and what says where the next ones begin. Counts nothing."""
        found = list(rows[self.offset : self.offset + self.limit + 1])
        more = len(found) > self.limit
        meta = {
            "count": min(len(found), self.limit),
            "limit": self.limit,
            "offset": self.offset,
            "next": self.offset + self.limit if more else None,
        }
        return found[: self.limit], meta


def page(params: Mapping[str, str], *, default_limit: int) -> Page:
    """The page of a list that is asked for."""
    limit = row_limit(params, default=default_limit)
    offset = integer(params, "offset", least=0, most=MAX_OFFSET, unit="rows")
    return Page(limit=limit, offset=offset or 0)


def row_limit(params: Mapping[str, str], *, default: int) -> int:
    """How many rows to answer at most."""
    limit = integer(params, "limit", least=1, most=MAX_ROWS, unit="rows")
    return default if limit is None else limit


def choice(params: Mapping[str, str], field: str, accepted: Sequence[str], *, default: str) -> str:
    """The one of the ``accepted`` texts that ``field`` is."""
    text = params.get(field, default)
    if text not in accepted:
        raise invalid(field, text, f"one of {', '.join(accepted)}")
    return text


def symbol(text: str | None, catalog: Catalog) -> str:
    """The name of the symbol that ``text`` means. Raises ApiError: 400 for none, 404 unknown."""
    if not text:
        raise invalid("symbol", text, "a symbol such as BTC/USDT")
    try:
        return resolve(_clip(text), catalog.names)
    except UnknownSymbolError as error:
        raise ApiError(
            404,
            "SYMBOL_UNKNOWN",
            f"{error}. GET /api/v1/market/symbols lists what there is",
            {"field": "symbol", "value": _clip(text)},
        ) from None


def candle_symbol(text: str | None, catalog: Catalog) -> str:
    """The name of the symbol that ``text`` means, which has candles. Raises ApiError."""
    name = symbol(text, catalog)
    if name in catalog.spot_names:
        return name
    source = next(each.derived_from for each in catalog.symbols if each.name == name)
    raise ApiError(
        404,
        "NO_CANDLES",
        f"{name} has no candles: its rate is converted from that of {source}. Ask for the candles "
        f"of {source}, or for the rates: GET /api/v1/prices/{slug(name)}/history",
        {"field": "symbol", "value": name, "derived_from": source},
    )


def current_catalog() -> Catalog:
    """The catalogue in force; the database's where Redis has none. Raises RedisError."""
    catalog = published_catalog()
    return catalog if catalog.symbols else stored.load()


def published_catalog() -> Catalog:
    """The catalogue in force, from Redis; an empty one where there is none of this world."""
    found = published.current()
    return found if found.simulated == settings.SIMULATED else Catalog()


def _clip(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
