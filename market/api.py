"""The market over REST: what is priced, a symbol's last day, and its candles."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter

import msgspec
import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from market import query, schema, series, ticker
from market.query import ApiError
from market.row_forms import CLOSED, JSON, OPEN, JsonRow
from market.symbols import slug
from oracle import price_board
from oracle.values import RESOLUTIONS, Price

log = structlog.get_logger(__name__)


class Symbols(APIView):
    """What is priced, and on which exchanges."""

    authentication_classes = ()
    throttle_scope = "market"

    @extend_schema(
        tags=["market"],
        operation_id="symbols",
        responses={200: schema.SymbolsAnswer, **schema.errors(503)},
    )
    def get(self, request: Request) -> Response:
        catalog = query.current_catalog()
        exchanges: dict[str, dict[str, None]] = {name: {} for name in catalog.names}
        for listing in catalog.listings:
            exchanges[listing.symbol][listing.exchange] = None
        symbols = [
            {
                "symbol": symbol.name,
                "base": symbol.base,
                "quote": symbol.quote,
                "exchanges": sorted(exchanges[symbol.name]),
            }
            for symbol in sorted(catalog.symbols, key=lambda symbol: symbol.name)
        ]
        return Response({"symbols": symbols, "count": len(symbols)})


class Ticker(APIView):
    """A symbol's price with the volume, high, low and change of the last 24 hours.

    While the database is away, the price is still there; high, low and change are null.
    """

    authentication_classes = ()
    throttle_scope = "market"

    @extend_schema(
        tags=["market"],
        operation_id="ticker",
        parameters=[schema.SYMBOL],
        responses={200: schema.TickerAnswer, **schema.errors(400, 404, 503)},
    )
    def get(self, request: Request) -> Response:
        catalog = query.current_catalog()
        name = query.symbol(request.query_params.get("symbol"), catalog)
        price = price_board.read([name]).get(name)
        if price is None:
            raise no_price(name) if name in catalog.spot_names else _derived(name)
        now_ms = time.time_ns() // 1_000_000
        freshness = price_board.freshness(price, now_ms=now_ms)
        day = _day(price, now_ms)
        return Response(
            {
                "symbol": name,
                "price": price.price,
                "volume_24h": ticker.volume_24h(price),
                "change_24h": day.change_percent,
                "high_24h": day.high,
                "low_24h": day.low,
                "timestamp": price.timestamp_ms // 1_000,
                "status": freshness.status,
                "age_ms": freshness.age_ms,
            }
        )


def no_price(name: str) -> ApiError:
    """The 503 for a symbol that has no price yet, or none any more."""
    return ApiError(
        503,
        "PRICE_UNAVAILABLE",
        f"{name} has no price: none of its exchanges sent one within the last hour",
        {"symbol": name},
    )


def _derived(name: str) -> ApiError:
    """The 503 for a symbol that is listed nowhere, and so has neither volume nor candles."""
    return ApiError(
        503,
        "PRICE_UNAVAILABLE",
        f"{name} is derived and has no market of its own: its price is at "
        f"/api/v1/prices/{slug(name)}",
        {"symbol": name},
    )


def _day(price: Price, now_ms: int) -> ticker.Day:
    try:
        return ticker.read_day(price, now_ms=now_ms)
    except (OperationalError, InterfaceError) as error:
        log.warning("ticker.no_history", symbol=price.symbol, error=str(error))
        return ticker.Day()


class Ohlcv(APIView):
    """Candles, oldest first; the open one last when the range reaches now.

    A range of more than `limit` candles answers its first ones: `meta.next` is the `from` of the
    next page.
    """

    authentication_classes = ()
    throttle_scope = "market"

    @extend_schema(
        tags=["market"],
        operation_id="ohlcv",
        parameters=[*schema.OHLCV_PARAMETERS],
        responses={200: schema.OhlcvAnswer, **schema.errors(400, 404, 503)},
    )
    def get(self, request: Request) -> Response:
        now_ms = time.time_ns() // 1_000_000
        wanted = _parse_range(request.query_params, now_seconds=now_ms // 1_000)
        name = query.candle_symbol(request.query_params.get("symbol"), query.current_catalog())
        page = series.read_in_form(
            JSON,
            name,
            resolution=wanted.resolution,
            from_ms=wanted.start * 1_000,
            to_ms=wanted.end * 1_000 + 1,
            limit=wanted.limit,
            now_ms=now_ms,
        )
        return Response(
            {
                "symbol": name,
                "resolution": wanted.resolution,
                "data": _candles(page.rows, wanted.resolution, now_ms=now_ms),
                "meta": {
                    "count": len(page.rows),
                    "from": wanted.start,
                    "to": wanted.end,
                    "next": None if page.next_ms is None else page.next_ms // 1_000,
                    "simulated": settings.SIMULATED,
                },
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Range:
    """The candles asked for: of a resolution, opening from ``start`` to ``end`` seconds."""

    resolution: str
    start: int
    end: int
    limit: int


def _parse_range(params: Mapping[str, str], *, now_seconds: int) -> _Range:
    resolution = query.choice(params, "resolution", tuple(RESOLUTIONS), default="1m")
    step = RESOLUTIONS[resolution] // 1_000
    limit = query.integer(params, "limit", least=1, most=schema.MAX_LIMIT, unit="candles")
    limit = schema.DEFAULT_LIMIT if limit is None else limit
    seconds = partial(query.integer, least=0, most=query.MAX_SECONDS, unit="unix seconds")
    end = seconds(params, "to")
    start = seconds(params, "from")
    end = now_seconds if end is None else end
    if start is None:
        # As many candles as the limit, the one of `to` included.
        start = max(0, end // step - limit + 1) * step
    if start > end:
        raise query.invalid("from", start, f"at most `to`, which is {end}")
    return _Range(resolution=resolution, start=start, end=end, limit=limit)


def _candles(rows: Sequence[JsonRow], resolution: str, *, now_ms: int) -> msgspec.Raw:
    """Rows as a JSON array."""
    texts = [text for _, text in rows]
    over = now_ms // 1_000 - RESOLUTIONS[resolution] // 1_000
    for number in range(bisect_right(rows, over, key=itemgetter(0)), len(rows)):
        texts[number] = texts[number].replace(CLOSED, OPEN)
    return msgspec.Raw(f"[{','.join(texts)}]".encode())
