"""What the last 24 hours of a symbol were: volume, high, low and change."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from market import series
from oracle import candle_book
from oracle.aggregation import EXACT
from oracle.candle_book import MINUTE_MS
from oracle.values import Price

DAY_MS = 86_400_000
# A change over "24 hours" may begin this much later, where the first minutes are missing.
MAX_SHORT_MS = 5 * MINUTE_MS
_CHANGE_STEP = Decimal("0.000001")


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """High, low and change in percent; None where history does not say."""

    high: Decimal | None = None
    low: Decimal | None = None
    change_percent: Decimal | None = None


def volume_24h(price: Price) -> Decimal | None:
    """The base volume of the markets a price is made of; None when none of them states one.

    Each listing is a market of its own: an exchange with two of them traded both volumes.
    """
    volumes = [source.volume for source in price.sources if source.kept and source.volume]
    total = Decimal(0)
    for volume in volumes:
        total = EXACT.add(total, volume)
    return total if volumes else None


def read_day(price: Price, *, now_ms: int) -> Day:
    """The day that ends at ``now_ms`` with ``price``, from stored candles and those in Redis.

    The change counts from the first open of the day, which may be up to MAX_SHORT_MS late. Raises
    the database's and Redis's own errors.
    """
    from_ms = (now_ms - DAY_MS) // MINUTE_MS * MINUTE_MS
    window = {"from_ms": from_ms, "to_ms": now_ms + 1}
    # Redis first: a flush that commits in between leaves a candle in both, never in neither.
    waiting = candle_book.unflushed(price.symbol, **window)
    stored = series.summarise(price.symbol, **window)
    highs = [price.price, *(candle.high for candle in waiting)]
    lows = [price.price, *(candle.low for candle in waiting)]
    opens = [(candle.open_ms, candle.open) for candle in waiting]
    if stored.high is not None and stored.low is not None:
        highs.append(stored.high)
        lows.append(stored.low)
    if stored.first_open is not None and stored.starts_ms is not None:
        opens.append((stored.starts_ms, stored.first_open))
    first_ms, first_open = min(opens, default=(now_ms, price.price))
    return Day(
        high=max(highs),
        low=min(lows),
        change_percent=(
            _change_percent(first_open, price.price) if first_ms - from_ms <= MAX_SHORT_MS else None
        ),
    )


def _change_percent(before: Decimal, after: Decimal) -> Decimal:
    percent = EXACT.divide(EXACT.multiply(EXACT.subtract(after, before), Decimal(100)), before)
    return percent.quantize(_CHANGE_STEP, context=EXACT)
