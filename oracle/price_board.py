"""The published prices: written once a second by the index, read by everyone.

Freshness is a matter of age, not of expiry: a price is kept for an hour and says how old it is. A
price that was not renewed within the ticker's maximum age is stale, whatever is stored with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
from django.conf import settings

from oracle import keys
from oracle.connection import check_own_clock, redis_client, run_script, run_scripts
from oracle.values import Price, Status

KEEP_SECONDS = 3_600
# Redis does one script at a time: a chunk is what others may have to wait for.
PRICES_PER_SCRIPT = 250
RESOURCE = "prices"
MAX_TICK_MS = 2_000  # from one price to the next, with room for a tick that is late

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Price).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """How old a price is at a moment, and what that makes it."""

    status: Status
    age_ms: int


class Stamped(Protocol):
    """What the freshness of a price or rate is judged by."""

    @property
    def status(self) -> Status: ...
    @property
    def timestamp_ms(self) -> int: ...
    @property
    def as_of_ms(self) -> int: ...


def publish(prices: Sequence[Price], *, now_ms: int, token: str) -> int:
    """Publish prices made at ``now_ms`` and fold them into their minute's candles.

    Returns how many were taken: 0 when a newer fencing token has written before. Raises ClockError
    when this host's clock is off.
    """
    if not prices:
        return 0
    calls = script_calls(prices, now_ms=now_ms, token=token)
    counts = run_scripts("prices_publish", calls)
    for count in counts:
        check_own_clock(count)
    return sum(counts)


def script_calls(
    prices: Sequence[Price], *, now_ms: int, token: str
) -> list[tuple[list[str], list[object]]]:
    """What `publish` sends: keys and arguments of each script call."""
    minute_ms = now_ms - now_ms % 60_000
    clock_ms = settings.MAX_CLOCK_OFF_MS
    head = [token, keys.channel("prices"), KEEP_SECONDS, now_ms, minute_ms, clock_ms]
    calls = []
    for start in range(0, len(prices), PRICES_PER_SCRIPT):
        script_keys = [keys.fence(RESOURCE), keys.open_candles()]
        args: list[object] = [*head]
        for price in prices[start : start + PRICES_PER_SCRIPT]:
            script_keys += (keys.price(price.symbol), keys.candle(price.symbol, minute_ms))
            args += (price.symbol, _encode(price), f"{price.price:f}", _kept_exchanges(price))
        calls.append((script_keys, args))
    return calls


def mark_stale(symbols: Iterable[str], *, token: str) -> int:
    """Mark the prices of symbols without any source as stale; their times stay. How many turned."""
    turned = [
        msgspec.structs.replace(price, status="stale")
        for price in read(symbols).values()
        if price.status != "stale"
    ]
    if not turned:
        return 0
    marked = run_script(
        "prices_stale",
        [keys.fence(RESOURCE), *(keys.price(price.symbol) for price in turned)],
        [token, keys.channel("prices"), *map(_encode, turned)],
    )
    return max(0, int(marked))


def read(symbols: Iterable[str]) -> dict[str, Price]:
    """The prices there are of these symbols, by symbol, in one round trip.

    Simulated prices are not there for a live oracle, nor live ones for a simulated.
    """
    names = list(symbols)
    if not names:
        return {}
    texts = redis_client().mget([keys.price(name) for name in names])
    prices = {name: _decode(text) for name, text in zip(names, texts, strict=True) if text}
    return {n: price for n, price in prices.items() if price.simulated == settings.SIMULATED}


def freshness(price: Stamped, *, now_ms: int, max_age_ms: int | None = None) -> Freshness:
    """The status and age of a price at ``now_ms``.

    Stale when it was marked so, or not made anew for ``max_age_ms`` (default: the setting).
    """
    limit = settings.TICKER_MAX_AGE_MS if max_age_ms is None else max_age_ms
    # Made in time of legs that were in time: no fresh price is older than the two together.
    stale = now_ms - price.timestamp_ms > limit or now_ms - price.as_of_ms > limit + MAX_TICK_MS
    return Freshness(
        status="stale" if stale else price.status, age_ms=max(0, now_ms - price.as_of_ms)
    )


def _kept_exchanges(price: Price) -> str:
    return ",".join(sorted({source.exchange for source in price.sources if source.kept}))
