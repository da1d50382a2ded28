"""Prices over REST: all of them, one of them, and the receipt of one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from market import query
from market.api import no_price
from market.query import ApiError
from market.schema import errors
from oracle import price_board
from oracle.aggregation import EXACT, PUBLISHED
from oracle.values import Price
from prices import schema

MAX_AGE_MS = 86_400_000
MAX_SOURCES = 1_000


class Prices(APIView):
    """The prices of all symbols; those without one are named in `unavailable`."""

    authentication_classes = ()
    throttle_scope = "prices"

    @extend_schema(
        tags=["prices"],
        operation_id="prices",
        responses={200: schema.PricesAnswer, **errors(503)},
    )
    def get(self, request: Request) -> Response:
        names = sorted(query.current_catalog().names)
        prices = price_board.read(names)
        now_ms = time.time_ns() // 1_000_000
        return Response(
            {
                "prices": [price_body(prices[name], now_ms) for name in names if name in prices],
                "count": len(prices),
                "unavailable": [name for name in names if name not in prices],
            }
        )


class OnePrice(APIView):
    """The price of a symbol; with `max_age_ms` and `min_sources`, only if it meets them."""

    authentication_classes = ()
    throttle_scope = "prices"

    @extend_schema(
        tags=["prices"],
        operation_id="price",
        parameters=[schema.SLUG, *schema.STRICT],
        responses={200: schema.PriceAnswer, **errors(400, 404, 503)},
    )
    def get(self, request: Request, slug: str) -> Response:
        params = request.query_params
        max_age_ms = query.integer(params, "max_age_ms", least=1, most=MAX_AGE_MS, unit="ms")
        min_sources = query.integer(
            params, "min_sources", least=1, most=MAX_SOURCES, unit="exchanges"
        )
        price = read_price(slug)
        body = price_body(price, time.time_ns() // 1_000_000)
        check_strict(body, max_age_ms=max_age_ms, min_sources=min_sources)
        return Response(body)


class Receipt(APIView):
    """What a price is made of, source by source, kept or why not."""

    authentication_classes = ()
    throttle_scope = "prices"

    @extend_schema(
        tags=["prices"],
        operation_id="price_sources",
        parameters=[schema.SLUG],
        responses={200: schema.ReceiptAnswer, **errors(404, 503)},
    )
    def get(self, request: Request, slug: str) -> Response:
        return Response(receipt_body(read_price(slug), time.time_ns() // 1_000_000))


def read_price(slug: str) -> Price:
    """The price of the symbol that ``slug`` means. Raises ApiError: 404, or 503 without a price."""
    name = query.symbol(slug, query.current_catalog())
    price = price_board.read([name]).get(name)
    if price is None:
        raise no_price(name)
    return price


def check_strict(
    body: Mapping[str, Any], *, max_age_ms: int | None, min_sources: int | None
) -> None:
    """Raise the 503 that names what a price does not meet; None asks nothing.

    The sources of a stale price are those of the past, so it has none that could be enough.
    """
    if max_age_ms is not None and body["age_ms"] > max_age_ms:
        why = f"is {body['age_ms']} ms old, at most {max_age_ms} ms are asked for"
        raise ApiError(503, "PRICE_STALE", f"{body['symbol']} {why}", body)
    if min_sources is None:
        return
    if body["status"] == "stale":
        why = f"is stale: no exchange has sent a price for {body['age_ms']} ms"
        raise ApiError(503, "PRICE_STALE", f"{body['symbol']} {why}", body)
    if body["source_count"] < min_sources:
        why = f"has {body['source_count']} sources, at least {min_sources} are asked for"
        raise ApiError(503, "PRICE_UNAVAILABLE", f"{body['symbol']} {why}", body)


def price_body(price: Price, now_ms: int) -> dict[str, Any]:
    """A price as it is answered at ``now_ms``."""
    freshness = price_board.freshness(price, now_ms=now_ms)
    return {
        "symbol": price.symbol,
        "price": price.price,
        "method": price.method,
        "status": freshness.status,
        "timestamp": price.timestamp_ms,
        "age_ms": freshness.age_ms,
        "confidence": price.confidence,
        "spread_bps": price.spread_bps,
        "stdev": price.stdev,
        "variance": price.variance,
        "source_count": price.source_count,
        "outliers_removed": price.outliers_removed,
        "sources": sorted({source.exchange for source in price.sources if source.kept}),
        "simulated": price.simulated,
    }


def receipt_body(price: Price, now_ms: int) -> dict[str, Any]:
    """A price's receipt as it is answered at ``now_ms``."""
    freshness = price_board.freshness(price, now_ms=now_ms)
    total = Decimal(0)
    for source in price.sources:
        if source.kept and source.weight is not None:
            total = EXACT.add(total, source.weight)
    return {
        "symbol": price.symbol,
        "price": price.price,
        "method": price.method,
        "status": freshness.status,
        "timestamp": price.timestamp_ms,
        "age_ms": freshness.age_ms,
        "sources": [
            {
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
            for source in price.sources
        ],
        "simulated": price.simulated,
    }


def _share(weight: Decimal | None, total: Decimal) -> Decimal | None:
    return PUBLISHED.divide(weight, total) if weight is not None and total else None
