"""The HTML pages: all prices at a glance, and the receipt of one."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.utils import extend_schema
from redis.exceptions import RedisError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config.rest import describe, limited
from market import query
from market.candles import to_datetime
from market.query import ApiError
from market.symbols import slug
from oracle.jsontext import exact
from prices import api, published
from prices.published import Published

MISSING = "missing"
STATUSES = ("fresh", "degraded", "stale", MISSING)


def simulated(request: HttpRequest) -> dict[str, bool]:
    """For every template: are the prices simulated?"""
    return {"simulated": settings.SIMULATED}


@require_safe
@limited("page")
def board(request: HttpRequest) -> HttpResponse:
    """Every symbol with its price; the page renews itself by `Board`."""
    try:
        rows = _rows()
    except (RedisError, OperationalError, InterfaceError) as error:
        # The page comes, says so, and looks again by itself.
        status, body = describe(error)
        shown = {"rows": [], "problem": body["error"]["message"], "counts": _counts([])}
        return render(request, "oracle/board.html", shown, status=status)
    return render(request, "oracle/board.html", {"rows": rows, "counts": _counts(rows)})


class Board(APIView):
    """The rows of the page, with prices as text: a browser's numbers would lose digits."""

    authentication_classes = ()
    throttle_scope = "page"

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        return Response({"rows": _rows()})


@require_safe
@limited("page")
def receipt(request: HttpRequest, text: str) -> HttpResponse:
    """What one price is made of."""
    try:
        price = api.read_price(text)
    except (ApiError, RedisError, OperationalError, InterfaceError) as error:
        status, body = describe(error)
        page = {"title": text, "message": body["error"]["message"]}
        return render(request, "oracle/error.html", page, status=status)
    now_ms = time.time_ns() // 1_000_000
    body = published.receipt(price, now_ms)
    shown = {
        **published.body(price, now_ms),
        "slug": slug(price.symbol),
        "age": age_words(body["age_ms"]),
        "computed": to_datetime(price.timestamp_ms).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
        "quote": price.symbol.split("/")[1],
        "sources": [_shown_source(source) for source in body["sources"]],
        "conversions": [
            _as_text(step) | {"age": age_words(step["age_ms"])} for step in body["conversions"]
        ],
    }
    return render(request, "oracle/receipt.html", {"price": _as_text(shown)})


def _rows() -> list[dict[str, Any]]:
    catalog = query.current_catalog()
    names = sorted(catalog.names)
    prices = published.read(names, catalog)
    now_ms = time.time_ns() // 1_000_000
    return [_row(name, prices.get(name), now_ms) for name in names]


def _row(name: str, price: Published | None, now_ms: int) -> dict[str, Any]:
    if price is None:
        return {"symbol": name, "slug": slug(name), "status": MISSING, "sources": []}
    body = published.body(price, now_ms)
    return {
        "symbol": name,
        "slug": slug(name),
        "price": exact(price.price),
        "status": body["status"],
        "age_ms": body["age_ms"],
        "age": age_words(body["age_ms"]),
        "source_count": price.source_count,
        "sources": body["sources"],
        "outliers": price.outliers_removed,
        "spread": f"{body['spread_bps']:.1f}",
        "derived_from": body["derived_from"],
    }


def _counts(rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    count = Counter(row["status"] for row in rows)
    return [("all", len(rows)), *((status, count[status]) for status in STATUSES)]


def _shown_source(source: dict[str, Any]) -> dict[str, Any]:
    share, age_ms = source["weight_share"], source["age_ms"]
    return _as_text(source) | {
        "share": None if share is None else f"{share * 100:.2f} %",
        "age": None if age_ms is None else age_words(age_ms),
    }


def _as_text(values: dict[str, Any]) -> dict[str, Any]:
    """The values with decimals as exact text: templates would round or localise them."""
    return {
        key: exact(value) if hasattr(value, "as_tuple") else value for key, value in values.items()
    }


def age_words(age_ms: int) -> str:
    """An age as people say it; board.js says it the same way."""
    seconds = age_ms / 1_000
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.0f} h"
