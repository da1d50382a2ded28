"""The rates of fiat currencies that authorities publish, shared by all processes through Redis."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
from django.conf import settings

from oracle import keys
from oracle.connection import redis_client


class FxQuote(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One unit of ``base`` is ``rate`` of ``quote``, valid from ``as_of_ms`` on.

    ``date`` is the day that the authority names (ISO), ``nominal`` the units it quotes.
    """

    base: str
    quote: str
    rate: Decimal
    nominal: int
    date: str
    as_of_ms: int
    fetched_ms: int
    source: str
    simulated: bool

    @property
    def symbol(self) -> str:
        """``USD/RUB``."""
        return f"{self.base}/{self.quote}"


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(FxQuote).decode


def publish(source: str, quotes: Sequence[FxQuote]) -> None:
    """Make ``quotes`` the ones in force of a source; those it no longer names are gone."""
    if not quotes:
        return
    fields: dict[Any, Any] = {f"{source}|{quote.symbol}": _encode(quote) for quote in quotes}
    with redis_client().pipeline(transaction=True) as pipe:
        gone = [f"{source}|{quote.symbol}" for quote in read() if quote.source == source]
        pipe.hset(keys.fx(), mapping=fields)
        dropped = [field for field in gone if field not in fields]
        if dropped:
            pipe.hdel(keys.fx(), *dropped)
        pipe.execute()


def read() -> list[FxQuote]:
    """Every rate there is of this world, whatever its age."""
    rows: Any = redis_client().hvals(keys.fx())
    quotes = [_decode(row) for row in rows]
    return [quote for quote in quotes if quote.simulated == settings.SIMULATED]
