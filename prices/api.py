"""Prices over REST: all of them, one of them, its receipt, its change and its history."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from market import api as market
from market import query
from market.query import ApiError
from market.schema import errors
from oracle.catalog import Catalog
from prices import changes, history, published, schema
from prices.changes import CUSTOM, PERIODS_MS
from prices.published import Published


class Prices(APIView):
    """The prices of all symbols; those without one are named in `unavailable`.

    A derived symbol (`BTC/RUB`) has its trade rate for a price: `basis` says which it is.
    """

    authentication_classes = ()
    throttle_scope = "prices"

    @extend_schema(
        tags=["prices"],
        operation_id="prices",
        responses={200: schema.PricesAnswer, **errors(503)},
    )
    def get(self, request: Request) -> Response:
        catalog = query.current_catalog()
        names = sorted(catalog.names)
        prices = published.read(names, catalog)
        now_ms = time.time_ns() // 1_000_000
        return Response(
            {
                "prices": [
                    published.body(prices[name], now_ms) for name in names if name in prices
                ],
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
        wanted = Strict.of(request.query_params)
        body = published.body(read_price(slug), time.time_ns() // 1_000_000)
        wanted.check(body)
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
        return Response(published.receipt(read_price(slug), time.time_ns() // 1_000_000))


class PriceChange(APIView):
    """From the first stored price of a period to its last; to the index's candles without rates."""

    authentication_classes = ()
    throttle_scope = "prices"

    @extend_schema(
        tags=["prices"],
        operation_id="price_change",
        parameters=[schema.SLUG, *schema.PERIOD],
        responses={200: schema.ChangeAnswer, **errors(400, 404, 503)},
    )
    def get(self, request: Request, slug: str) -> Response:
        name = query.symbol(slug, query.current_catalog())
        params = request.query_params
        now_ms = time.time_ns() // 1_000_000
        period = query.choice(params, "period", schema.PERIODS, default=_period(params))
        if period != CUSTOM:
            _refuse_bounds(params)
            from_ms, to_ms = now_ms - PERIODS_MS[period], now_ms + 1
        elif params.get("from") is None:
            raise query.invalid("from", None, "unix seconds where the period is custom")
        else:
            from_ms, to_ms = _span(params, now_ms=now_ms)
        found = changes.change(name, from_ms=from_ms, to_ms=to_ms)
        if found is None:
            message = f"{name} has no stored prices in that time"
            raise ApiError(503, "PRICE_UNAVAILABLE", message, {"symbol": name})
        return Response(
            {
                "symbol": name,
                "period": period,
                "start_timestamp": found.start_ms,
                "end_timestamp": found.end_ms,
                "start_price": found.start_price,
                "end_price": found.end_price,
                "change_percent": found.percent,
            }
        )


class PriceHistory(APIView):
    """The trade rates of the past, one each 10 s, newest first.

    A range of more than `limit` answers its newest ones: `meta.next` is the `to` of the next page.
    """

    authentication_classes = ()
    throttle_scope = "prices"

    @extend_schema(
        tags=["prices"],
        operation_id="price_history",
        parameters=[schema.SLUG, *schema.RANGE],
        responses={200: schema.HistoryAnswer, **errors(400, 404, 503)},
    )
    def get(self, request: Request, slug: str) -> Response:
        name = query.symbol(slug, query.current_catalog())
        params = request.query_params
        limit = query.integer(params, "limit", least=1, most=schema.MAX_LIMIT, unit="rates")
        limit = schema.DEFAULT_LIMIT if limit is None else limit
        from_ms, to_ms = _span(params, now_ms=time.time_ns() // 1_000_000)
        points = history.history(name, from_ms=from_ms, to_ms=to_ms, limit=limit + 1)
        is_more = len(points) > limit
        data = [
            {
                "timestamp": point.time_ms,
                "price": point.price,
                "method": point.method,
                "sources": list(point.sources),
                "volume": point.volume,
            }
            for point in points[:limit]
        ]
        meta = {
            "count": len(data),
            "from": from_ms // 1_000,
            "to": to_ms // 1_000,
            "next": points[limit].time_ms // 1_000 if is_more else None,
            "simulated": settings.SIMULATED,
        }
        return Response({"symbol": name, "data": data, "meta": meta})


def _period(params: Mapping[str, str]) -> str:
    """The period of a request that names none: its `from`, or a day."""
    return "24hours" if params.get("from") is None else CUSTOM


def _refuse_bounds(params: Mapping[str, str]) -> None:
    """Raise the 400 for a `from` or `to` beside a period that ends now: it would change nothing."""
    for field in ("from", "to"):
        if (value := params.get(field)) is not None:
            raise query.invalid(field, value, "left out, unless the period is custom")


def _span(params: Mapping[str, str], *, now_ms: int) -> tuple[int, int]:
    """`from` and `to`, both inclusive, as milliseconds ``[from, to)``; all up to now without."""
    seconds = partial(query.integer, least=0, most=query.MAX_SECONDS, unit="unix seconds")
    start, end = seconds(params, "from"), seconds(params, "to")
    from_ms = 0 if start is None else start * 1_000
    to_ms = now_ms + 1 if end is None else end * 1_000 + 1
    if from_ms >= to_ms:
        raise query.invalid("from", start, f"at most `to`, which is {to_ms // 1_000}")
    return from_ms, to_ms


def read_price(slug: str) -> Published:
    """The price of the symbol that ``slug`` means. Raises ApiError: 404, or 503 without a price."""
    catalog = query.current_catalog()
    name = query.symbol(slug, catalog)
    price = published.read([name], catalog).get(name)
    if price is None:
        raise no_price(name, catalog)
    return price


def no_price(name: str, catalog: Catalog) -> ApiError:
    """The 503 for a symbol that has no price yet, or none any more."""
    if name in catalog.spot_names:
        return market.no_price(name)
    return ApiError(
        503,
        "PRICE_UNAVAILABLE",
        f"{name} has no price: within the last hour there was no trade rate to derive it from, or "
        "no currency rate to convert it with",
        {"symbol": name},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Strict:
    """What a price must meet to be answered; None asks nothing."""

    max_age_ms: int | None = None
    min_sources: int | None = None

    @classmethod
    def of(cls, params: Mapping[str, str]) -> Strict:
        """What a request asks for. Raises ApiError."""
        return cls(
            max_age_ms=query.integer(
                params, "max_age_ms", least=1, most=schema.MAX_AGE_MS, unit="ms"
            ),
            min_sources=query.integer(
                params, "min_sources", least=1, most=schema.MAX_SOURCES, unit="exchanges"
            ),
        )

    def check(self, body: Mapping[str, Any]) -> None:
        """Raise the 503 that names what the price in ``body`` does not meet.

        The sources of a stale price are those of the past: it has none that could be enough.
        """
        if self.max_age_ms is not None and body["age_ms"] > self.max_age_ms:
            why = f"is {body['age_ms']} ms old, at most {self.max_age_ms} ms are asked for"
            raise ApiError(503, "PRICE_STALE", f"{body['symbol']} {why}", body)
        if self.min_sources is None:
            return
        if body["status"] == "stale":
            why = f"is stale: no exchange has sent a price for {body['age_ms']} ms"
            raise ApiError(503, "PRICE_STALE", f"{body['symbol']} {why}", body)
        if body["source_count"] < self.min_sources:
            why = f"has {body['source_count']} sources, at least {self.min_sources} are asked for"
            raise ApiError(503, "PRICE_UNAVAILABLE", f"{body['symbol']} {why}", body)
