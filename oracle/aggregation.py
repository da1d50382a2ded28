"""Many quotes in, one price out: outliers, volume-weighted mean, and how far the sources agree.

Pure arithmetic in `Decimal`. The price of any set of quotes lies within the lowest and the highest
kept one, whatever the weights and in whatever order they come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import NamedTuple

from oracle.values import MAX_DIGITS, Method

MIN_FOR_FENCES = 4  # quartiles of fewer say nothing

OUTSIDE_FENCES = "outside IQR fences"

# Twice the digits that a price may have: fences and sums are exact, and what is published is
# rounded once, at the end. With fewer, rounding can put every one of equal prices outside.
EXACT = Context(prec=2 * MAX_DIGITS, rounding=ROUND_HALF_EVEN)
PUBLISHED = Context(prec=15, rounding=ROUND_HALF_EVEN)
# Decimals beyond these are not stored: what is published is what a candle will hold.
_QUANTUM_EXPONENT = -18
_QUANTUM = Decimal("1e-18")
_FENCE = Decimal("1.5")
_BPS = Decimal(10_000)
_ZERO = Decimal(0)
_TWO = Decimal(2)
_TINY = Decimal("0.001")  # 15 significant digits of anything larger end before the 18th decimal


class Dispersion(NamedTuple):
    """How far quotes agree: all in quote currency but ``spread_bps``."""

    confidence: Decimal
    spread_bps: Decimal
    variance: Decimal
    stdev: Decimal


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The price of a set of quotes. ``rejected`` maps the index of each outlier to its reason."""

    price: Decimal
    method: Method
    confidence: Decimal
    spread_bps: Decimal
    variance: Decimal
    stdev: Decimal
    rejected: dict[int, str]


def aggregate(prices: Sequence[Decimal], weights: Sequence[Decimal]) -> Aggregate:
    """The price of ``prices`` weighted by ``weights`` (24 h quote volumes, 0 where unknown).

    VWAP of what is left without the outliers; the median when nothing that is left has volume.
    Raises ValueError for no prices, for lists of two lengths, and for a price that is not above 0
    or a weight below 0.
    """
    _check(prices, weights)
    order = sorted(range(len(prices)), key=prices.__getitem__)
    rejected = find_outliers([prices[i] for i in order])
    kept = [i for rank, i in enumerate(order) if rank not in rejected] if rejected else order
    values = [prices[i] for i in kept]  # ascending
    price, method = _weigh(values, [weights[i] for i in kept])
    agreement = dispersion(values, price)
    return Aggregate(
        price=price,
        method=method,
        confidence=agreement.confidence,
        spread_bps=agreement.spread_bps,
        variance=agreement.variance,
        stdev=agreement.stdev,
        rejected={order[rank]: reason for rank, reason in rejected.items()},
    )


def dispersion(ascending: Sequence[Decimal], price: Decimal) -> Dispersion:
    """How far the kept quotes, ascending and at least one, agree about ``price``."""
    variance = _variance(ascending)
    return Dispersion(
        confidence=_confidence(ascending),
        spread_bps=PUBLISHED.plus((ascending[-1] - ascending[0]) * _BPS / price),
        variance=PUBLISHED.plus(variance),
        stdev=PUBLISHED.sqrt(variance),
    )


def find_outliers(ascending: Sequence[Decimal]) -> dict[int, str]:
    """Ranks of the outliers among ascending prices, with the reason.

    Tukey's fences [Q1 - 1.5·IQR, Q3 + 1.5·IQR] with four or more, Q1 and Q3 being the values at
    floor(n·0.25) and floor(n·0.75). With four, Q3 is the highest itself, and any price passes on
    that side: `oracle.agreement` has looked at the quotes before.
    """
    count = len(ascending)
    if count < MIN_FOR_FENCES:
        return {}
    q1, q3 = ascending[count // 4], ascending[count * 3 // 4]
    reach = EXACT.multiply(EXACT.subtract(q3, q1), _FENCE)
    lowest, highest = EXACT.subtract(q1, reach), EXACT.add(q3, reach)
    if lowest <= ascending[0] and ascending[-1] <= highest:
        return {}
    return {
        rank: OUTSIDE_FENCES
        for rank, price in enumerate(ascending)
        if not lowest <= price <= highest
    }


def publishable(number: Decimal) -> Decimal:
    """``number`` to 15 significant digits, and to no more than 18 decimals."""
    rounded = PUBLISHED.plus(number)
    if rounded >= _TINY or rounded.as_tuple().exponent >= _QUANTUM_EXPONENT:  # type: ignore[operator]
        return rounded
    return rounded.quantize(_QUANTUM)


def median(ascending: Sequence[Decimal]) -> Decimal:
    """The middle one of ascending values, or the mean of the middle two."""
    half, odd = divmod(len(ascending), 2)
    if odd:
        return ascending[half]
    return EXACT.divide(EXACT.add(ascending[half - 1], ascending[half]), _TWO)


def weigh(prices: Sequence[Decimal], weights: Sequence[Decimal]) -> Decimal:
    """The price of `aggregate`, of prices that are all believed and come in any order.

    Prices that are nowhere above others, weighted alike, have a price that is not above theirs.
    """
    pairs = sorted(zip(prices, weights, strict=True))
    return _weigh([price for price, _ in pairs], [weight for _, weight in pairs])[0]


def _check(prices: Sequence[Decimal], weights: Sequence[Decimal]) -> None:
    if not prices or len(prices) != len(weights):
        raise ValueError(f"need as many weights as prices, got {len(prices)} and {len(weights)}")
    for price in prices:
        if not price.is_finite() or price <= 0:
            raise ValueError(f"a price must be finite and above 0, got {price}")
    for weight in weights:
        if not weight.is_finite() or weight < 0:
            raise ValueError(f"a weight must be finite and at least 0, got {weight}")


def _weigh(ascending: Sequence[Decimal], weights: Sequence[Decimal]) -> tuple[Decimal, Method]:
    total = _ZERO
    weighted = _ZERO
    for price, weight in zip(ascending, weights, strict=True):
        total = EXACT.add(total, weight)
        weighted = EXACT.fma(price, weight, weighted)
    method: Method
    if total:
        exact, method = EXACT.divide(weighted, total), "vwap"
    else:
        exact, method = median(ascending), "median"
    # Rounding may step over the edge: a lone source's price would lose its last digits.
    return min(max(publishable(exact), ascending[0]), ascending[-1]), method


def _variance(values: Sequence[Decimal]) -> Decimal:
    """The population variance: the kept sources are all there are, not a sample of more."""
    if values[0] == values[-1]:
        return _ZERO
    count = Decimal(len(values))
    mean = sum(values, _ZERO) / count
    return sum(((value - mean) ** 2 for value in values), _ZERO) / count


def _confidence(ascending: Sequence[Decimal]) -> Decimal:
    """max(p50 - p25, p75 - p50), as Pyth publishes it; quartiles as for the fences."""
    count = len(ascending)
    middle = median(ascending)
    below = middle - ascending[count // 4]
    above = ascending[count * 3 // 4] - middle
    return PUBLISHED.plus(max(below, above))
