"""A published price or rate in memory, with its JSON, which is made when first asked for."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
from django.conf import settings

from market.symbols import slug
from oracle import price_board, rate_board
from oracle.jsontext import plain
from oracle.rate_board import Rate
from oracle.values import Price, Status
from prices import api

KEEP_MS = price_board.KEEP_SECONDS * 1_000
# In place of the two fields that change by themselves; no symbol or exchange is called so.
_STATUS, _AGE = "@status@", "@age@"

Render = Callable[[Any], bytes]


class _Head(msgspec.Struct, frozen=True, gc=False):
    """What is needed of every price or rate at once; the rest is decoded when somebody asks."""

    symbol: str
    status: Status
    timestamp_ms: int
    as_of_ms: int
    simulated: bool = False


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_price = msgspec.json.Decoder(Price).decode
_decode_rate = msgspec.json.Decoder(Rate).decode


class PriceEntry:
    """The spot index of a symbol as it was last published."""

    __slots__ = ("_parts", "_price", "_quote", "head", "text")

    def __init__(self, text: bytes) -> None:
        self.head = _decode_head(text)
        self.text = text
        self._price: Price | None = None
        self._parts: tuple[bytes, bytes, bytes] | None = None
        self._quote: msgspec.Raw | None = None

    @property
    def price(self) -> Price:
        """The price with its receipt."""
        if self._price is None:
            self._price = _decode_price(self.text)
        return self._price

    def is_kept(self, now_ms: int) -> bool:
        """Would Redis still have it, and is it of this world?"""
        head = self.head
        return now_ms - head.timestamp_ms <= KEEP_MS and head.simulated == settings.SIMULATED

    def age_ms(self, now_ms: int) -> int:
        """The age of its oldest leg, as `price_board.freshness` counts it."""
        return max(0, now_ms - self.head.as_of_ms)

    def status(self, now_ms: int) -> Status:
        """Its status, as `price_board.freshness` judges it."""
        head = self.head
        stale = now_ms - head.timestamp_ms > settings.TICKER_MAX_AGE_MS
        return "stale" if stale else head.status

    def body(self, now_ms: int, *, away: bool) -> dict[str, Any]:
        """`api.price_body`; ``away``: nobody can say whether it is still current."""
        body = api.price_body(self.price, now_ms)
        return body | {"status": "stale"} if away else body

    def json(self, now_ms: int, render: Render, *, away: bool) -> bytes:
        """`body` rendered: made once for each price, with status and age filled in."""
        if self._parts is None:
            marked = api.price_body(self.price, now_ms) | {"status": _STATUS, "age_ms": _AGE}
            head, rest = render(marked).split(f'"{_STATUS}"'.encode())
            middle, tail = rest.split(f'"{_AGE}"'.encode())
            self._parts = head, middle, tail
        head, middle, tail = self._parts
        status = "stale" if away else self.status(now_ms)
        return b'%b"%b"%b%d%b' % (head, status.encode(), middle, self.age_ms(now_ms), tail)

    def quote(self) -> msgspec.Raw:
        """``{pair, price, timestamp}`` as JSON-RPC gives it."""
        if self._quote is None:
            self._quote = quote_json(self.head.symbol, self.price.price, self.head.timestamp_ms)
        return self._quote


class RateEntry:
    """The trade rate of a symbol as it was last published."""

    __slots__ = ("_quote", "head", "text")

    def __init__(self, text: bytes) -> None:
        self.head = _decode_head(text)
        self.text = text
        self._quote: msgspec.Raw | None = None

    def is_kept(self, now_ms: int) -> bool:
        """Would Redis still have it, and is it of this world?"""
        head = self.head
        return now_ms - head.timestamp_ms <= KEEP_MS and head.simulated == settings.SIMULATED

    def status(self, now_ms: int) -> Status:
        """Its status, as `rate_board.freshness` judges it."""
        stale = now_ms - self.head.timestamp_ms > rate_board.STALE_MS
        return "stale" if stale else self.head.status

    def quote(self) -> msgspec.Raw:
        """``{pair, price, timestamp}`` as JSON-RPC gives it."""
        if self._quote is None:
            rate = _decode_rate(self.text)
            self._quote = quote_json(rate.symbol, rate.price, rate.timestamp_ms)
        return self._quote


def quote_json(symbol: str, price: Decimal, timestamp_ms: int) -> msgspec.Raw:
    """A quote's JSON; the price keeps its digits, without the zeros that end a fraction."""
    text = plain(price)
    digits = text.rstrip("0").rstrip(".") if "." in text else text
    return msgspec.Raw(
        b'{"pair":"%b","price":%b,"timestamp":%d}'
        % (slug(symbol).encode(), digits.encode(), timestamp_ms)
    )
