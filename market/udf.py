"""TradingView's Universal Data Feed: our candles in the shapes that its charts ask for.

https://www.tradingview.com/charting-library-docs/latest/connecting_data/UDF/

Its client looks into the body for ``s`` and not at the HTTP status, so that errors have both: the
status of the rest of our API, and ``{"s": "error", "errmsg": …}``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from market import newest, query, series, udf_schema
from market.row_forms import Row
from market.udf_schema import FOUND, MAX_BARS, MAX_FOUND, RESOLUTIONS
from oracle import price_board
from oracle.catalog import Catalog, CatalogSymbol

EXCHANGE = "INDEX"  # the one exchange of ours, for a client that shows one
KIND = "crypto"
SUPPORTED = [name for name in RESOLUTIONS if name != "D"]
INTRADAY = [name for name in SUPPORTED if name != "1D"]

# Prices are shown to so many digits, and no further than they are stored.
SHOWN_DIGITS, MIN_DECIMALS, MAX_DECIMALS = 6, 2, 18
MAX_VOLUME_DECIMALS = 8


class View(APIView):
    """A view whose errors are UDF's."""

    authentication_classes = ()
    throttle_scope = "market"

    def handle_exception(self, exc: Exception) -> Response:
        answer = super().handle_exception(exc)
        answer.data = {"s": "error", "errmsg": answer.data["error"]["message"]}
        return answer


class Config(View):
    """What this feed can do."""

    @extend_schema(
        tags=["udf"],
        operation_id="udf_config",
        responses={200: udf_schema.UdfConfig, **udf_schema.errors()},
    )
    def get(self, request: Request) -> Response:
        return Response(
            {
                "supported_resolutions": SUPPORTED,
                "supports_search": True,
                "supports_group_request": False,
                "supports_marks": False,
                "supports_timescale_marks": False,
                "supports_time": True,
                "exchanges": [{"value": EXCHANGE, "name": "Index", "desc": "All exchanges"}],
                "symbols_types": [{"value": KIND, "name": "Crypto"}],
            }
        )


class Time(View):
    """The server's time, unix seconds, as plain text."""

    @extend_schema(
        tags=["udf"],
        operation_id="udf_time",
        responses={(200, "text/plain"): OpenApiTypes.INT, **udf_schema.errors()},
    )
    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(str(int(time.time())), content_type="text/plain; charset=utf-8")


class Symbols(View):
    """What a chart has to know of a symbol."""

    @extend_schema(
        tags=["udf"],
        operation_id="udf_symbols",
        parameters=[udf_schema.SYMBOL],
        responses={200: udf_schema.UdfSymbol, **udf_schema.errors(400, 404, 503)},
    )
    def get(self, request: Request) -> Response:
        name = _symbol(request.query_params, query.current_catalog())
        price = _last_price(name, now_ms=time.time_ns() // 1_000_000)
        quote = name.split("/")[1]
        return Response(
            {
                "name": name,
                "ticker": name,
                "full_name": f"{EXCHANGE}:{name}",
                "description": _description(name),
                "type": KIND,
                "session": "24x7",
                "timezone": "Etc/UTC",
                "exchange": EXCHANGE,
                "listed_exchange": EXCHANGE,
                "currency_code": quote,
                "format": "price",
                "minmov": 1,
                "minmov2": 0,
                "pricescale": 10 ** price_decimals(price),
                "has_intraday": True,
                "intraday_multipliers": INTRADAY,
                "has_daily": True,
                "has_weekly_and_monthly": False,
                "supported_resolutions": SUPPORTED,
                "volume_precision": volume_decimals(price),
                "data_status": "streaming",
            }
        )


class Search(View):
    """Symbols that have the text in their name."""

    @extend_schema(
        tags=["udf"],
        operation_id="udf_search",
        parameters=[*udf_schema.SEARCH_PARAMETERS],
        responses={200: udf_schema.UdfFound(many=True), **udf_schema.errors(400, 503)},
    )
    def get(self, request: Request) -> Response:
        params = request.query_params
        limit = query.integer(params, "limit", least=1, most=MAX_FOUND, unit="symbols")
        kind, exchange = params.get("type", ""), params.get("exchange", "")
        if kind.lower() not in ("", KIND) or exchange.upper() not in ("", EXCHANGE):
            return Response([])
        found = _search(params.get("query", ""), query.current_catalog())
        return Response(
            [
                {
                    "symbol": name,
                    "ticker": name,
                    "full_name": f"{EXCHANGE}:{name}",
                    "description": _description(name),
                    "exchange": EXCHANGE,
                    "type": KIND,
                }
                for name in found[: FOUND if limit is None else limit]
            ]
        )


class History(View):
    """Bars, oldest first, the open one last: `countback` of them before `to`, or all from `from`.

    A bar whose volume nobody knows has 0.
    """

    @extend_schema(
        tags=["udf"],
        operation_id="udf_history",
        parameters=[*udf_schema.HISTORY_PARAMETERS],
        responses={200: udf_schema.UdfBars, **udf_schema.errors(400, 404, 503)},
    )
    def get(self, request: Request) -> Response:
        params, now_ms = request.query_params, time.time_ns() // 1_000_000
        resolution = RESOLUTIONS[query.choice(params, "resolution", list(RESOLUTIONS), default="")]
        name = _symbol(params, query.current_catalog())
        seconds = partial(query.integer, least=0, most=query.MAX_SECONDS, unit="unix seconds")
        start, end = seconds(params, "from"), seconds(params, "to")
        count = query.integer(params, "countback", least=1, most=MAX_BARS, unit="bars")
        end_ms = now_ms + 1 if end is None else end * 1_000
        if count is not None:
            rows = newest.read_last(
                name, resolution=resolution, to_ms=end_ms, count=count, now_ms=now_ms
            )
            return Response(_bars(rows) if rows else {"s": "no_data"})
        if start is None:
            raise query.invalid("from", None, "unix seconds (or give countback)")
        if start * 1_000 > end_ms:
            raise query.invalid("from", start, f"at most `to`, which is {end_ms // 1_000}")
        span: dict[str, Any] = {"resolution": resolution, "now_ms": now_ms}
        page = series.read_rows(name, from_ms=start * 1_000, to_ms=end_ms, limit=MAX_BARS, **span)
        if page.next_ms is not None:
            raise query.invalid("from", start, f"so late that it is {MAX_BARS} bars at most")
        if page.rows:
            return Response(_bars(page.rows))
        before_ms = newest.newest_before(name, to_ms=start * 1_000, **span)
        if before_ms is None:
            return Response({"s": "no_data"})
        return Response({"s": "no_data", "nextTime": before_ms // 1_000})


def _bars(rows: Sequence[Row]) -> dict[str, Any]:
    times, opens, highs, lows, closes, volumes, *_ = zip(*rows, strict=True)
    known = ["0" if volume is None else volume for volume in volumes]
    return {
        "s": "ok",
        "t": list(times),
        **{
            name: msgspec.Raw(f"[{','.join(texts)}]".encode())
            for name, texts in zip("ohlcv", (opens, highs, lows, closes, known), strict=True)
        },
    }


def _symbol(params: Mapping[str, str], catalog: Catalog) -> str:
    """The symbol, which may be written as ``INDEX:BTC/USDT``. Raises ApiError."""
    text = params.get("symbol", "")
    prefix, _, rest = text.partition(":")
    return query.candle_symbol(rest if prefix.upper() == EXCHANGE else text, catalog)


def _search(text: str, catalog: Catalog) -> list[str]:
    """The names that hold ``text``, however it is written; those that begin with it first."""
    wanted = "".join(char for char in text.upper() if char.isalnum())

    def joined(symbol: CatalogSymbol) -> str:
        return symbol.base + symbol.quote

    found = [
        symbol
        for symbol in catalog.symbols
        if symbol.derived_from is None and wanted in joined(symbol)
    ]
    found.sort(key=lambda symbol: (not joined(symbol).startswith(wanted), symbol.name))
    return [symbol.name for symbol in found]


def _description(name: str) -> str:
    base, quote = name.split("/")
    return f"{base} in {quote}, index of all exchanges"


def _last_price(name: str, *, now_ms: int) -> Decimal:
    """The price now, or the last there was; 1 where there never was one."""
    price = price_board.read([name]).get(name)
    if price is not None:
        return price.price
    rows = newest.read_last(name, resolution="1d", to_ms=now_ms + 1, count=1, now_ms=now_ms)
    return Decimal(rows[-1][4]) if rows else Decimal(1)


def price_decimals(price: Decimal) -> int:
    """So many decimals that SHOWN_DIGITS digits of a price show: 0.00000123 has 11."""
    return min(max(SHOWN_DIGITS - 1 - price.adjusted(), MIN_DECIMALS), MAX_DECIMALS)


def volume_decimals(price: Decimal) -> int:
    """The dearer the base, the smaller the amounts that matter."""
    return min(max(price.adjusted() + 4, 0), MAX_VOLUME_DECIMALS)
