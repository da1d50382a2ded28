"""Candles for charts: a range of them oldest first, or a page newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from market import newest, series
from market.series import StoredCandle


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Candles, newest first, and how many there are in all."""

    candles: Sequence[StoredCandle]
    total: int


def read(
    symbol: str, *, resolution: str, from_ms: int, to_ms: int, limit: int, now_ms: int
) -> Sequence[StoredCandle]:
    """The first ``limit`` candles that open in ``[from_ms, to_ms)``, the open one last."""
    return series.read_page(
        symbol, resolution=resolution, from_ms=from_ms, to_ms=to_ms, limit=limit, now_ms=now_ms
    ).candles


def read_newest(symbol: str, *, resolution: str, limit: int, offset: int, now_ms: int) -> Page:
    """``limit`` candles, newest first, after the ``offset`` newest; the open one is the first."""
    found = newest.read_newest(
        symbol, resolution=resolution, limit=limit, offset=offset, now_ms=now_ms
    )
    candles = [series.candle(row, resolution, now_ms=now_ms) for row in found.rows]
    return Page(candles=candles, total=found.total)
