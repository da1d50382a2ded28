"""What the last 24 hours of a symbol were: volume, high, low and change."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from django.db.models import Max, Min

from market.candles import epoch_ms, to_datetime
from market.models import Candle1m
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """The stored minutes of a window: when and at what they begin, the highest and the lowest."""

    starts_ms: int
    first_open: Decimal
    high: Decimal
    low: Decimal


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
    stored = _read_stored(price.symbol, **window)
    highs = [price.price, *(candle.high for candle in waiting)]
    lows = [price.price, *(candle.low for candle in waiting)]
    opens = [(candle.open_ms, candle.open) for candle in waiting]
    if stored is not None:
        highs.append(stored.high)
        lows.append(stored.low)
        opens.append((stored.starts_ms, stored.first_open))
    first_ms, first_open = min(opens, default=(now_ms, price.price))
    return Day(
        high=max(highs),
        low=min(lows),
        change_percent=(
            _change_percent(first_open, price.price) if first_ms - from_ms <= MAX_SHORT_MS else None
        ),
    )


def _read_stored(symbol: str, *, from_ms: int, to_ms: int) -> _Stored | None:
    """What the stored minutes of ``[from_ms, to_ms)`` say; None where there are none."""
    window = Candle1m.objects.filter(
        symbol=symbol, time__gte=to_datetime(from_ms), time__lt=to_datetime(to_ms)
    )
    found = window.aggregate(high=Max("high"), low=Min("low"))
    first = window.order_by("time").first()
    if first is None or found["high"] is None:  # the very first may be stored in between
        return None
    return _Stored(
        starts_ms=epoch_ms(first.time),
        first_open=first.open,
        high=found["high"],
        low=found["low"],
    )


def _change_percent(before: Decimal, after: Decimal) -> Decimal:
    percent = EXACT.divide(EXACT.multiply(EXACT.subtract(after, before), Decimal(100)), before)
    return percent.quantize(_CHANGE_STEP, context=EXACT)
