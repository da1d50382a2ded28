"""How a symbol's price has changed: by its trade rates, or by the index's candles without any."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from market.candles import epoch_ms, to_datetime
from market.models import Candle1m
from oracle.aggregation import EXACT
from prices import history

DAY_MS = 86_400_000
# A change is asked for over one of these, up to now, or over a custom window.
PERIODS_MS = {"24hours": DAY_MS, "7days": 7 * DAY_MS, "30days": 30 * DAY_MS}
CUSTOM = "custom"
_CENT = Decimal("0.01")
_HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The first and the last price of a window."""

    start_ms: int
    start_price: Decimal
    end_ms: int
    end_price: Decimal

    @property
    def percent(self) -> Decimal:
        """To two places."""
        difference = EXACT.multiply(EXACT.subtract(self.end_price, self.start_price), _HUNDRED)
        return EXACT.divide(difference, self.start_price).quantize(_CENT, context=EXACT)


def change(symbol: str, *, from_ms: int, to_ms: int) -> Change | None:
    """The change over ``[from_ms, to_ms)``; None where nothing is stored."""
    rates = history.ends(symbol, from_ms=from_ms, to_ms=to_ms)
    if rates is not None:
        start, end = rates
        return Change(
            start_ms=start.time_ms,
            start_price=start.price,
            end_ms=end.time_ms,
            end_price=end.price,
        )
    window = Candle1m.objects.filter(
        symbol=symbol, time__gte=to_datetime(from_ms), time__lt=to_datetime(to_ms)
    )
    first, last = window.order_by("time").first(), window.order_by("-time").first()
    if first is None or last is None:
        return None
    return Change(
        start_ms=epoch_ms(first.time),
        start_price=first.open,
        end_ms=epoch_ms(last.time),
        end_price=last.close,
    )
