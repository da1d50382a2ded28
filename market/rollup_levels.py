"""The levels of the rollups, and how a candle is made of those of the level below."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from oracle.values import RESOLUTIONS

COLUMNS = (
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "vwap",
    "trade_count",
    "source_count",
    "sources",
    "revision",
)
# One text for tables and continuous aggregates, so that they cannot disagree. A quote volume that
# lacks a part is no quote volume: NULL, on every level above too. The vwap is rounded once, half
# up, from the exact quotient: `round(a / b, 18)` would round what the division has rounded before.
AGGREGATED = """
    (array_agg(open ORDER BY time))[1] AS open,
    max(high) AS high,
    min(low) AS low,
    (array_agg(close ORDER BY time DESC))[1] AS close,
    sum(volume) AS volume,
    CASE WHEN count(quote_volume) = count(volume) THEN sum(quote_volume) END AS quote_volume,
    CASE WHEN count(quote_volume) = count(volume)
        THEN div(2000000000000000000 * sum(quote_volume) + sum(volume), nullif(2 * sum(volume), 0))
            * 0.000000000000000001 END AS vwap,
    sum(trade_count)::bigint AS trade_count,
    cardinality(union_of_names(sources))::smallint AS source_count,
    union_of_names(sources) AS sources,
    least(sum(revision), 2147483647)::integer AS revision
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A rollup: candles of ``width_ms`` in ``table``, made of those in ``below``."""

    resolution: str
    table: str
    below: str
    width_ms: int

    @property
    def interval(self) -> str:
        """The width as PostgreSQL reads it."""
        return f"{self.width_ms // 60_000} minutes"


def _levels() -> tuple[Level, ...]:
    names = tuple(RESOLUTIONS)
    return tuple(
        Level(
            resolution=name,
            table=f"ohlcv_{name}",
            below=f"ohlcv_{below}",
            width_ms=RESOLUTIONS[name],
        )
        for below, name in pairwise(names)
    )


# The lowest first: each is made of the one before it.
LEVELS = _levels()
