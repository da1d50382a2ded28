"""Which exchanges to believe when they do not nearly agree.

Tukey's fences need four sources to judge by. Before that, and for less, this does: one exchange
that has gone mad must not set a price, nor a rate that others are converted with. What nobody can
decide is not decided: a price is missing rather than wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from oracle.aggregation import EXACT, median

FAR_FROM_MEDIAN = "far from the median"
FAR_FROM_LAST = "far from the last price, with no other exchange to confirm it"
DISAGREE = "sources disagree"


def find_disagreeing(
    prices: Sequence[Decimal], *, factor: Decimal, last_price: Decimal | None = None
) -> dict[int, str]:
    """The indexes of the sources to leave out, with the reason; one price for each exchange.

    Nothing while several agree: the highest is at most ``factor`` times the lowest. Else, of three
    or more, those beyond ``factor`` times the median, or below its inverse. Of two, the one that is
    so far from ``last_price``; without that to tell by, both. One alone is believed unless it is so
    far from ``last_price``.
    """
    if len(prices) == 1:
        return {} if last_price is None else _far(prices, last_price, factor, FAR_FROM_LAST)
    if max(prices) <= EXACT.multiply(min(prices), factor):
        return {}
    if len(prices) > 2:
        return _far(prices, median(sorted(prices)), factor, FAR_FROM_MEDIAN)
    if last_price is not None:
        far = _far(prices, last_price, factor, FAR_FROM_LAST)
        if len(far) == 1:
            return far
    return dict.fromkeys(range(len(prices)), DISAGREE)


def _far(
    prices: Sequence[Decimal], middle: Decimal, factor: Decimal, reason: str
) -> dict[int, str]:
    lowest, highest = EXACT.divide(middle, factor), EXACT.multiply(middle, factor)
    return {index: reason for index, price in enumerate(prices) if not lowest <= price <= highest}
