"""In what form candles are read: as texts, a column each, or as JSON, which PostgreSQL writes.

Numbers are texts either way, with the digits that PostgreSQL writes: turning twelve thousand of
them into Decimals and back takes longer than reading them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, TypeVar

from market.tail import Minute
from oracle.jsontext import exact

# time in unix seconds, open, high, low, close, volume, quote_volume, vwap, trade_count,
# source_count, revision: prices and volumes as their exact digits, in plain notation.
Row = tuple[
    int, str, str, str, str, str | None, str | None, str | None, int | None, int, int
]  # fmt: skip
# time in unix seconds, and the candle as a JSON object that says it were closed.
JsonRow = tuple[int, str]
AnyRow = TypeVar("AnyRow", bound=tuple[Any, ...])

_PRICES = ("open", "high", "low", "close")
_VOLUMES = ("volume", "quote_volume", "vwap")
COLUMNS = ("time", *_PRICES, *_VOLUMES, "trade_count", "source_count", "revision")
_SECONDS = "extract(epoch FROM time)::bigint"
CLOSED, OPEN = '"closed":true', '"closed":false'


@dataclass(frozen=True, slots=True, kw_only=True)
class Form(Generic[AnyRow]):
    """Rows of one form: how PostgreSQL makes them, and how they are made of a minute at hand.

    ``select`` is a list of SQL expressions over the columns of a candle, the first of them when it
    opens, in unix seconds.
    """

    select: str
    of_minute: Callable[[Minute], AnyRow]


def _texts_of(minute: Minute) -> Row:
    return (
        minute.open_ms // 1_000,
        exact(minute.open),
        exact(minute.high),
        exact(minute.low),
        exact(minute.close),
        _exact(minute.volume),
        _exact(minute.quote_volume),
        _exact(minute.vwap),
        minute.trade_count,
        len(minute.sources),
        minute.revision,
    )


def _exact(value: Decimal | None) -> str | None:
    return None if value is None else exact(value)


def _json_of(minute: Minute) -> JsonRow:
    row = _texts_of(minute)
    values = ["null" if each is None else each for each in row]
    fields = [f'"{name}":{value}' for name, value in zip(COLUMNS, values, strict=True)]
    return row[0], f"{{{','.join([*fields[:-1], CLOSED, fields[-1]])}}}"


def _json_expression() -> str:
    numbers = {
        "time": _SECONDS,
        **{name: f"trim_scale({name})" for name in _PRICES},
        **{name: f"coalesce(trim_scale({name})::text, 'null')" for name in _VOLUMES},
        "trade_count": "coalesce(trade_count::text, 'null')",
        "source_count": "source_count",
    }
    # concat() writes a number as its type does, and is the fastest of what PostgreSQL has for it.
    fields = [f"'\"{name}\":', {number}, ','" for name, number in numbers.items()]
    return f"concat('{{', {', '.join(fields)}, '{CLOSED},\"revision\":', revision, '}}')"


TEXTS: Form[Row] = Form(
    select=", ".join(
        (
            _SECONDS,
            *(f"trim_scale({name})::text" for name in (*_PRICES, *_VOLUMES)),
            *COLUMNS[8:],
        )
    ),
    of_minute=_texts_of,
)
JSON: Form[JsonRow] = Form(select=f"{_SECONDS}, {_json_expression()}", of_minute=_json_of)
