"""The latest ticker of each exchange symbol, shared by all processes through Redis.

A row is stored with the time as of which it is true. That is the exchange's own time, but never a
later one than when the exchange's answer last changed: an exchange that repeats itself is stuck,
whatever its clock says, and one that states no time (Kraken, Coinbase) has no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import msgspec
from django.conf import settings

from oracle import keys
from oracle.connection import check_own_clock, redis_client, run_script
from oracle.values import ErrorCode, Ticker

MAX_AHEAD_MS = 3_600_000  # a clock that is further ahead tells no time at all
_SEPARATOR = "|"


class Quote(msgspec.Struct, frozen=True, gc=False):
    """A stored ticker, as the index reads it. ``as_of_ms``: see the module."""

    price: Decimal
    volume: Decimal | None
    quote_volume: Decimal | None
    as_of_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """What an exchange's ticker feed did last: outcomes, not attempts.

    ``changed_ms``: when its answer was last another one; ``as_of_ms``: the newest ticker's time.
    """

    received_ms: int | None = None
    changed_ms: int | None = None
    as_of_ms: int | None = None
    failed_ms: int | None = None
    error: str | None = None
    detail: str | None = None


def check_clock(ticker: Ticker) -> str | None:
    """Why the ticker's time cannot be true, or None: it is more than an hour ahead.

    One that is behind needs no check: its prices are old, and left out for that.
    """
    latest = max(ticker.frame_ms or 0, ticker.event_ms or 0)
    if latest - ticker.received_ms > MAX_AHEAD_MS:
        return f"{latest - ticker.received_ms} ms ahead of our clock"
    return None


def store(
    exchange: str,
    tickers: Sequence[Ticker],
    *,
    digest: str,
    received_ms: int,
    token: str,
) -> bool:
    """Write an answer's tickers; False when a newer fencing token has written before.

    Raises ClockError when this host's clock is off.
    ``digest`` names the answer's bytes: the same one again means that nothing changed.
    """
    rows: list[str] = []
    for ticker in tickers:
        stated = ticker.frame_ms or ticker.event_ms
        rows += (
            ticker.exchange_symbol,
            f"{ticker.price:f}|{_text(ticker.volume)}|{_text(ticker.quote_volume)}",
            "" if stated is None else str(stated),
        )
    stored = run_script(
        "tickers_store",
        [keys.fence(f"tickers:{exchange}"), keys.tickers(exchange), keys.feed(exchange)],
        [token, digest, received_ms, settings.MAX_CLOCK_OFF_MS, *rows],
    )
    check_own_clock(stored)
    return bool(stored)


def record_failure(exchange: str, *, code: ErrorCode, detail: str, now_ms: int) -> None:
    """Remember why the last fetch gave nothing."""
    redis_client().hset(
        keys.feed(exchange),
        mapping={"failed_ms": now_ms, "error": code.value, "detail": detail[:300]},
    )


def read(exchanges: Iterable[str]) -> dict[str, dict[str, Quote]]:
    """Every stored ticker of the exchanges by exchange symbol, in one round trip."""
    names = list(exchanges)
    pipe = redis_client().pipeline(transaction=False)
    for name in names:
        pipe.hgetall(keys.tickers(name))
    return dict(zip(names, map(decode_rows, pipe.execute()), strict=True))


def decode_rows(rows: Mapping[bytes, bytes]) -> dict[str, Quote]:
    """Redis's hash of an exchange to quotes by exchange symbol."""
    quotes = {}
    for field, row in rows.items():
        price, volume, quote_volume, as_of_ms = row.decode().split(_SEPARATOR)
        quotes[field.decode()] = Quote(
            Decimal(price),
            Decimal(volume) if volume else None,
            Decimal(quote_volume) if quote_volume else None,
            int(as_of_ms),
        )
    return quotes


def read_feeds(exchanges: Iterable[str]) -> dict[str, Feed]:
    """What the feeds did last, in one round trip."""
    names = list(exchanges)
    pipe = redis_client().pipeline(transaction=False)
    for name in names:
        pipe.hgetall(keys.feed(name))
    return dict(zip(names, map(_feed, pipe.execute()), strict=True))


def _feed(fields: Mapping[bytes, bytes]) -> Feed:
    texts = {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
    return Feed(
        received_ms=_optional_ms(texts.get("received_ms")),
        changed_ms=_optional_ms(texts.get("changed_ms")),
        as_of_ms=_optional_ms(texts.get("as_of_ms")),
        failed_ms=_optional_ms(texts.get("failed_ms")),
        error=texts.get("error"),
        detail=texts.get("detail"),
    )


def _optional_ms(text: str | None) -> int | None:
    return int(text) if text else None


def _text(number: Decimal | None) -> str:
    return "" if number is None else f"{number:f}"
