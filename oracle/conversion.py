"""From one quote currency to another, by way of the rates of the same tick.

A rate is itself a price: ``USDT/KRW`` 1390 says that 1 USDT is 1390 KRW. A path is found once per
catalogue and walked each tick; a rate that is missing or stale breaks it, and no price is better
than one converted with a rate of any age.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from oracle.aggregation import publishable

MAX_LEGS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A rate symbol's price at this tick; ``as_of_ms`` is the time of its oldest leg."""

    price: Decimal
    as_of_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One step: by the rate ``symbol``, multiplying (base → quote) or dividing (quote → base)."""

    symbol: str
    multiply: bool
    name: str  # "KRW→USDT"


def find_path(native: str, wanted: str, rate_symbols: Iterable[str]) -> tuple[Leg, ...] | None:
    """The shortest way from currency ``native`` to ``wanted``, at most MAX_LEGS; None: no way.

    Of several as short, the first in the order of ``rate_symbols``.
    """
    steps: dict[str, list[tuple[str, Leg]]] = {}
    for symbol in rate_symbols:
        base, quote = symbol.split("/")
        forward = Leg(symbol=symbol, multiply=True, name=f"{base}→{quote}")
        back = Leg(symbol=symbol, multiply=False, name=f"{quote}→{base}")
        steps.setdefault(base, []).append((quote, forward))
        steps.setdefault(quote, []).append((base, back))
    queue: deque[tuple[str, tuple[Leg, ...]]] = deque([(native, ())])
    while queue:
        currency, path = queue.popleft()
        if currency == wanted:
            return path
        if len(path) < MAX_LEGS:
            queue.extend((reached, (*path, leg)) for reached, leg in steps.get(currency, ()))
    return None


def walk(path: Sequence[Leg], rates: Mapping[str, Rate]) -> Rate | str:
    """The factor of a path at this tick with the age of its oldest rate, or the rate it lacks."""
    factor, as_of_ms = Decimal(1), 0
    for number, leg in enumerate(path):
        rate = rates.get(leg.symbol)
        if rate is None:
            return leg.symbol
        step = rate.price if leg.multiply else 1 / rate.price
        factor *= step
        as_of_ms = rate.as_of_ms if number == 0 else min(as_of_ms, rate.as_of_ms)
    return Rate(price=factor, as_of_ms=as_of_ms)


def convert(amount: Decimal, factor: Decimal) -> Decimal:
    """``amount`` times a path's factor, rounded as it is published: a receipt can be recomputed."""
    return publishable(amount * factor)
