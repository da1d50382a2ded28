"""The trades' part of candles: volume, quote volume, vwap and trade count, from Redis.

Known are a minute's sums where there are any; and zero where nothing was traded although some
exchange of the symbol was listened to during the minute. Anything else is unknown, which is not
zero: nobody listened, the aggregators are behind, or the totals are no longer kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import structlog

from market.models import DECIMALS, DIGITS
from oracle import catalog, trade_totals
from oracle.trade_totals import MinuteTotals, Sums

_TOO_LARGE = Decimal(10) ** (DIGITS - DECIMALS)

log = structlog.get_logger(__name__)

Minute = tuple[str, int]  # symbol, open_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Volumes:
    """What is known of some minutes, and the ``totals`` it came from, for a flush to mark."""

    known: dict[Minute, Sums]
    totals: list[MinuteTotals]


def read(minutes: Sequence[Minute]) -> Volumes:
    """What is known of the trades of these minutes."""
    if not minutes:
        return Volumes(known={}, totals=[])
    totals = trade_totals.read(minutes)
    known = {minute: each.sums for minute, each in totals.items() if _is_storable(each)}
    known |= dict.fromkeys(_quiet([each for each in minutes if each not in totals]), Sums())
    return Volumes(known=known, totals=list(totals.values()))


def _is_storable(totals: MinuteTotals) -> bool:
    if max(totals.sums.volume, totals.sums.quote_volume) < _TOO_LARGE:
        return True
    log.error("volumes.too_large", symbol=totals.symbol, minute_ms=totals.open_ms)
    return False


def _quiet(minutes: Sequence[Minute]) -> list[Minute]:
    """Those of the minutes that were listened to, and had no trades."""
    if not minutes:
        return []
    horizon_ms = trade_totals.horizon_ms()
    listening = trade_totals.listening({open_ms for _, open_ms in minutes if open_ms > horizon_ms})
    if not any(listening.values()):
        return []
    venues = catalog.current().venues
    nowhere: frozenset[str] = frozenset()
    return [
        (symbol, open_ms)
        for symbol, open_ms in minutes
        if not venues.get(symbol, nowhere).isdisjoint(listening.get(open_ms, nowhere))
    ]
