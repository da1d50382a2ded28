"""Trades to sums: pure arithmetic, the same for any order and any partition of the trades."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import (
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    Inexact,
    InvalidOperation,
    Overflow,
    Subnormal,
)

from oracle.trade_log import LoggedTrade
from oracle.trade_totals import MINUTE_MS, SECONDS_KEPT, SUMS, MarketTime, Sums

MAX_CLOCK_OFF_MS = 86_400_000  # a time further off than a day is no time at all
SECONDS_AHEAD = 60

UNLISTED = "UNLISTED"
BAD_TIME = "BAD_TIME"
BAD_VOLUME = "BAD_VOLUME"

# Above it a sum would not fit NUMERIC(38,18), and one such row would stop the flush of all others.
MAX_AMOUNT = Decimal("1e19")
# A product of more digits, or smaller, is no trade but an attack on our arithmetic: it raises.
_PRODUCT = Context(
    prec=60,
    Emin=-40,
    Emax=40,
    rounding=ROUND_HALF_EVEN,
    traps=[Inexact, InvalidOperation, Overflow, Subnormal],
)
_ZERO = Decimal(0)


@dataclass(slots=True)
class Fold:
    """The sums of a batch, and how many of its trades were left out: by exchange and code."""

    seconds: dict[MarketTime, Sums] = field(default_factory=dict)
    minutes: dict[MarketTime, Sums] = field(default_factory=dict)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    counted: Counter[str] = field(default_factory=Counter)

    def add(
        self,
        exchange: str,
        trades: Iterable[LoggedTrade],
        *,
        symbols: Mapping[str, str],
        now_ms: int,
    ) -> None:
        """Add an exchange's trades; ``symbols`` maps its own spelling of markets to ours.

        A trade's own time decides its second and minute. Seconds that no window will ever read
        are left out, of the seconds only.
        """
        by_second: dict[tuple[str, int], Sums] = {}
        for trade in trades:
            symbol = symbols.get(trade.exchange_symbol)
            if symbol is None:
                self.refused[exchange, UNLISTED] += 1
                continue
            event_ms = trade.event_ms
            if not -MAX_CLOCK_OFF_MS <= event_ms - trade.received_ms <= MAX_CLOCK_OFF_MS:
                self.refused[exchange, BAD_TIME] += 1
                continue
            quote_volume = _quote_volume(trade)
            if quote_volume is None:
                self.refused[exchange, BAD_VOLUME] += 1
                continue
            key = (symbol, event_ms // 1_000)
            sums = by_second.get(key)
            if sums is None:
                by_second[key] = Sums(volume=trade.size, quote_volume=quote_volume, trade_count=1)
            else:
                sums.volume = SUMS.add(sums.volume, trade.size)
                sums.quote_volume = SUMS.add(sums.quote_volume, quote_volume)
                sums.trade_count += 1
        self._merge(exchange, by_second, now_ms // 1_000)

    def _merge(self, exchange: str, seconds: dict[tuple[str, int], Sums], now: int) -> None:
        for (symbol, second), sums in seconds.items():
            self.counted[exchange] += sums.trade_count
            minute_ms = second * 1_000 // MINUTE_MS * MINUTE_MS
            self.minutes.setdefault((exchange, symbol, minute_ms), Sums()).add(sums)
            if now - SECONDS_KEPT < second < now + SECONDS_AHEAD:
                self.seconds.setdefault((exchange, symbol, second), Sums()).add(sums)


def _quote_volume(trade: LoggedTrade) -> Decimal | None:
    """Price times size, exactly; None when that is no amount we could store."""
    try:
        product = _PRODUCT.multiply(trade.price, trade.size)
        if _ZERO < product < MAX_AMOUNT and _ZERO < trade.size < MAX_AMOUNT:
            return product
    except ArithmeticError:
        return None
    return None
