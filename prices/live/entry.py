"""A published price or rate in memory, with its JSON, which is made when first asked for."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

import msgspec
from django.conf import settings

from market.symbols import slug
from oracle import price_board, rate_board
from oracle.jsontext import exact
from oracle.price_board import Freshness
from oracle.rate_board import Rate
from oracle.values import Price, Status
from prices import published
from prices.published import Published

KEEP_MS = price_board.KEEP_SECONDS * 1_000
# In place of the two fields that change by themselves; no symbol or exchange is called so.
_STATUS, _AGE = "@status@", "@age@"

Kind = Literal["price", "rate"]
Render = Callable[[Any], bytes]


class _Head(msgspec.Struct, frozen=True, gc=False):
    """What is needed of every price or rate at once; the rest is decoded when somebody asks."""

    symbol: str
    status: Status
    timestamp_ms: int
    as_of_ms: int
    derived_from: str | None = None
    simulated: bool = False


_decode_head = msgspec.json.Decoder(_Head).decode
_decoders: dict[Kind, Callable[[bytes], Published]] = {
    "price": msgspec.json.Decoder(Price).decode,
    "rate": msgspec.json.Decoder(Rate).decode,
}


class Entry:
    """The spot index of a symbol (a ``price``) or its trade ``rate``, as it was last published."""

    __slots__ = ("_parts", "_published", "_quote", "head", "kind", "text")

    def __init__(self, kind: Kind, text: bytes) -> None:
        self.head = _decode_head(text)
        self.kind = kind
        self.text = text
        self._published: Published | None = None
        self._parts: tuple[bytes, bytes, bytes] | None = None
        self._quote: msgspec.Raw | None = None

    @property
    def published(self) -> Published:
        """All of it, with its receipt."""
        if self._published is None:
            self._published = _decoders[self.kind](self.text)
        return self._published

    @property
    def is_answer(self) -> bool:
        """Is it what REST and the streams answer? Of rates, only those of derived symbols are."""
        return self.kind == "price" or self.head.derived_from is not None

    def is_kept(self, now_ms: int) -> bool:
        """Would Redis still have it, and is it of this world?"""
        head = self.head
        return now_ms - head.timestamp_ms <= KEEP_MS and head.simulated == settings.SIMULATED

    def freshness(self, now_ms: int) -> Freshness:
        """`published.freshness`, by the head alone."""
        if self.kind == "price":
            return price_board.freshness(self.head, now_ms=now_ms)
        return rate_board.freshness(self.head, now_ms=now_ms)

    def status(self, now_ms: int) -> Status:
        """Its status at ``now_ms``."""
        return self.freshness(now_ms).status

    def body(self, now_ms: int, *, away: bool) -> dict[str, Any]:
        """`published.body`; ``away``: nobody can say whether it is still current."""
        body = published.body(self.published, now_ms)
        return body | {"status": "stale"} if away else body

    def json(self, now_ms: int, render: Render, *, away: bool) -> bytes:
        """`body` rendered: made once for each price, with status and age filled in."""
        if self._parts is None:
            marked = published.body(self.published, now_ms) | {"status": _STATUS, "age_ms": _AGE}
            head, rest = render(marked).split(f'"{_STATUS}"'.encode())
            middle, tail = rest.split(f'"{_AGE}"'.encode())
            self._parts = head, middle, tail
        head, middle, tail = self._parts
        fresh = self.freshness(now_ms)
        status = "stale" if away else fresh.status
        return b'%b"%b"%b%d%b' % (head, status.encode(), middle, fresh.age_ms, tail)

    def quote(self) -> msgspec.Raw:
        """``{pair, price, timestamp}`` as JSON-RPC gives it."""
        if self._quote is None:
            price = self.published.price
            self._quote = quote_json(self.head.symbol, price, self.head.timestamp_ms)
        return self._quote


def quote_json(symbol: str, price: Decimal, timestamp_ms: int) -> msgspec.Raw:
    """A quote's JSON; the price keeps its digits, without the zeros that end a fraction."""
    return msgspec.Raw(
        b'{"pair":"%b","price":%b,"timestamp":%d}'
        % (slug(symbol).encode(), exact(price).encode(), timestamp_ms)
    )
