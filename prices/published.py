"""What is published of a symbol, and how it is answered: a price, and its receipt.

That is the spot index; a derived symbol (``BTC/RUB``) is listed nowhere, has no index, and is
answered by its trade rate.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from oracle import price_board, rate_board
from oracle.aggregation import EXACT, PUBLISHED, dispersion
from oracle.catalog import Catalog
from oracle.price_board import Freshness
from oracle.rate_board import FxLeg, Rate
from oracle.values import Price, Source

# Where a figure is from.
SPOT_INDEX, TRADE_RATE = "spot_index", "trade_rate"

Published = Price | Rate


def read(names: Iterable[str], catalog: Catalog) -> dict[str, Published]:
    """What is published of these symbols of the catalogue. Raises RedisError."""
    wanted = list(names)
    indexed = [name for name in wanted if name in catalog.spot_names]
    derived = [name for name in wanted if name not in catalog.spot_names]
    return {**price_board.read(indexed), **rate_board.read(derived)}


def freshness(published: Published, *, now_ms: int) -> Freshness:
    """Its status and age at ``now_ms``."""
    if isinstance(published, Rate):
        return rate_board.freshness(published, now_ms=now_ms)
    return price_board.freshness(published, now_ms=now_ms)


def body(published: Published, now_ms: int) -> dict[str, Any]:
    """A price as it is answered at ``now_ms``."""
    return {
        **_head(published, now_ms),
        **_agreement(published),
        "source_count": published.source_count,
        "outliers_removed": published.outliers_removed,
        "sources": sorted({source.exchange for source in published.sources if source.kept}),
        **_origin(published),
        "simulated": published.simulated,
    }


def receipt(published: Published, now_ms: int) -> dict[str, Any]:
    """What a price is made of, as it is answered at ``now_ms``."""
    total = Decimal(0)
    for source in published.sources:
        if source.kept and source.weight is not None:
            total = EXACT.add(total, source.weight)
    legs = published.legs if isinstance(published, Rate) else ()
    return {
        **_head(published, now_ms),
        "sources": [_source(source, total, now_ms) for source in published.sources],
        **_origin(published),
        "conversions": [_conversion(leg, now_ms) for leg in legs],
        "simulated": published.simulated,
    }


def _head(published: Published, now_ms: int) -> dict[str, Any]:
    fresh = freshness(published, now_ms=now_ms)
    return {
        "symbol": published.symbol,
        "price": published.price,
        "method": published.method,
        "status": fresh.status,
        "timestamp": published.timestamp_ms,
        "age_ms": fresh.age_ms,
    }


def _agreement(published: Published) -> dict[str, Decimal]:
    """How far the kept sources agree; a rate is published without, but with its sources."""
    found: Any = published
    if isinstance(published, Rate):
        kept = [each.price for each in published.sources if each.kept and each.price is not None]
        found = dispersion(sorted(kept) or [published.price], published.price)
    return {
        "confidence": found.confidence,
        "spread_bps": found.spread_bps,
        "stdev": found.stdev,
        "variance": found.variance,
    }


def _origin(published: Published) -> dict[str, str | None]:
    if isinstance(published, Rate):
        return {"basis": TRADE_RATE, "derived_from": published.derived_from}
    return {"basis": SPOT_INDEX, "derived_from": None}


def _source(source: Source, total: Decimal, now_ms: int) -> dict[str, Any]:
    return {
        "exchange": source.exchange,
        "exchange_symbol": source.exchange_symbol,
        "price": source.price,
        "native_price": source.native_price,
        "weight": source.weight,
        "weight_share": _share(source.weight, total) if source.kept else None,
        "volume": source.volume,
        "age_ms": None if source.as_of_ms is None else max(0, now_ms - source.as_of_ms),
        "path": list(source.path),
        "kept": source.kept,
        "reason": source.reason,
    }


def _share(weight: Decimal | None, total: Decimal) -> Decimal | None:
    return PUBLISHED.divide(weight, total) if weight is not None and total else None


def _conversion(leg: FxLeg, now_ms: int) -> dict[str, Any]:
    return {
        "path": leg.name,
        "factor": leg.factor,
        "source": leg.source,
        "date": leg.date,
        "timestamp": leg.as_of_ms,
        "age_ms": max(0, now_ms - leg.as_of_ms),
    }
