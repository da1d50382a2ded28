"""The trade rates of the past: saved from Redis, read by symbol and time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from django.db import models

from market.candles import epoch_ms, to_datetime
from market.models import DECIMALS, DIGITS
from oracle import rate_board
from oracle.rate_board import Unsaved
from prices.models import PriceHistory

TICKS_AT_ONCE = 60
_TOO_LARGE = Decimal(10) ** (DIGITS - DECIMALS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A rate of the past."""

    time_ms: int
    price: Decimal
    method: str
    sources: tuple[str, ...]
    volume: Decimal | None


def save() -> int:
    """Write the rates that wait in Redis; how many. Safe to run twice, and at the same time.

    Raises the database's errors when it is away: what was not written waits for the next run.
    """
    count = 0
    while (waiting := rate_board.unsaved(ticks=TICKS_AT_ONCE)).members:
        PriceHistory.objects.bulk_create(map(_row, waiting.rows), ignore_conflicts=True)
        rate_board.forget(waiting)
        count += len(waiting.rows)
    return count


def ends(symbol: str, *, from_ms: int, to_ms: int) -> tuple[Point, Point] | None:
    """The first and the last rate of ``[from_ms, to_ms)``; None where there are none."""
    window = _window(symbol, from_ms, to_ms)
    first, last = window.order_by("time").first(), window.order_by("-time").first()
    if first is None or last is None:
        return None
    return _point(first), _point(last)


def history(symbol: str, *, from_ms: int, to_ms: int, limit: int) -> list[Point]:
    """The newest ``limit`` rates of ``[from_ms, to_ms)``, newest first."""
    rows: Iterable[PriceHistory] = _window(symbol, from_ms, to_ms).order_by("-time")[:limit]
    return [_point(row) for row in rows]


def _window(symbol: str, from_ms: int, to_ms: int) -> models.QuerySet[PriceHistory]:
    return PriceHistory.objects.filter(
        symbol=symbol, time__gte=to_datetime(from_ms), time__lt=to_datetime(to_ms)
    )


def _row(rate: Unsaved) -> PriceHistory:
    return PriceHistory(
        symbol=rate.symbol,
        time=to_datetime(rate.time_ms),
        price=rate.price,
        method=rate.method,
        sources=list(rate.sources),
        volume=rate.volume if rate.volume < _TOO_LARGE else None,
    )


def _point(row: PriceHistory) -> Point:
    return Point(
        time_ms=epoch_ms(row.time),
        price=row.price,
        method=row.method,
        sources=tuple(row.sources),
        volume=row.volume,
    )
