"""ChartsService@2.0.0: series and candles of a pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from market.candles import to_datetime
from market.symbols import slug
from oracle.values import RESOLUTIONS
from prices import charts
from prices.rpc import errors
from prices.rpc.errors import RpcError
from prices.rpc.registry import Answer, Context, MethodEntry, Service
from prices.rpc.requests import MAX_SHOWN, read_count, read_pair, read_span

CACHE_MS = 60_000
INTERVALS = {"5min": "5m", "1hour": "1h", "1day": "1d"}
MAX_BARS = 10_000
MAX_PAGE, MAX_OFFSET = 1_000, 1_000_000


async def get_chart_data(context: Context, given: Mapping[str, Any], now_ms: int) -> Answer:
    """``{pair, period, interval, from?, to?}`` → dates, series (closes) and OHLCV, oldest first."""
    name = read_pair(given.get("pair"), context.board)
    resolution = _interval(given, default="1hour")
    span = read_span(given, default="7days", now_ms=now_ms)
    # The candle that the range begins in is a part of the chart.
    step_ms = RESOLUTIONS[resolution]
    from_ms = span.from_ms - span.from_ms % step_ms
    if (span.to_ms - from_ms) // step_ms > MAX_BARS:
        raise RpcError.of(
            errors.CHART_BAD_RANGE, f"that is more than {MAX_BARS} candles: ask for fewer"
        )

    async def work() -> msgspec.Raw:
        times = from_ms, span.to_ms
        chart = await context.memo.in_thread(_chart, name, resolution, times, now_ms)
        return msgspec.Raw(context.render(chart))

    key = ("chart", name, resolution, *span.asked)
    return await context.memo.get(key, CACHE_MS / 1_000, work)


def _chart(name: str, resolution: str, span: tuple[int, int], now_ms: int) -> dict[str, Any]:
    from_ms, to_ms = span
    candles = charts.read(
        name,
        resolution=resolution,
        from_ms=from_ms,
        to_ms=to_ms,
        limit=MAX_BARS + 1,
        now_ms=now_ms,
    )
    if not candles:
        pair = slug(name)
        raise RpcError.of(errors.CHART_NO_DATA, f"{pair} has no candles in that time", pair=pair)
    return {
        "pair": slug(name),
        "dates": [_iso(each.open_ms) for each in candles],
        "series": [each.close for each in candles],
        "ohlcv": {
            "open": [each.open for each in candles],
            "high": [each.high for each in candles],
            "low": [each.low for each in candles],
            "close": [each.close for each in candles],
            "volume": [each.volume for each in candles],
        },
    }


async def get_ohlcv(context: Context, given: Mapping[str, Any], now_ms: int) -> Answer:
    """``{pair, interval, limit, offset}`` → a page of candles, newest first."""
    name = read_pair(given.get("pair"), context.board)
    resolution = _interval(given, default="1hour")
    limit = read_count(given, "limit", least=1, most=MAX_PAGE, default=100)
    offset = read_count(given, "offset", least=0, most=MAX_OFFSET, default=0)

    async def work() -> msgspec.Raw:
        page = await context.memo.in_thread(_page, name, resolution, (limit, offset), now_ms)
        return msgspec.Raw(context.render(page))

    key = ("ohlcv", name, resolution, limit, offset)
    return await context.memo.get(key, CACHE_MS / 1_000, work)


def _page(name: str, resolution: str, wanted: tuple[int, int], now_ms: int) -> dict[str, Any]:
    limit, offset = wanted
    page = charts.read_newest(
        name, resolution=resolution, limit=limit, offset=offset, now_ms=now_ms
    )
    if page.total == 0:
        pair = slug(name)
        raise RpcError.of(errors.CHART_NO_DATA, f"{pair} has no candles", pair=pair)
    return {
        "candles": [
            {
                "timestamp": _iso(each.open_ms),
                "open": each.open,
                "high": each.high,
                "low": each.low,
                "close": each.close,
                "volume": each.volume,
                "vwap": each.vwap,
            }
            for each in page.candles
        ],
        "pagination": {"total": page.total, "limit": limit, "offset": offset},
    }


def _interval(given: Mapping[str, Any], *, default: str) -> str:
    """The resolution of an interval. Raises RpcError, CHART_2003."""
    text = given.get("interval", default)
    resolution = INTERVALS.get(text) if isinstance(text, str) else None
    if resolution is None:
        raise RpcError.of(
            errors.CHART_BAD_INTERVAL,
            f"interval must be one of {', '.join(INTERVALS)}",
            interval=str(text)[:MAX_SHOWN],
        )
    return resolution


def _iso(ms: int) -> str:
    return to_datetime(ms).strftime("%Y-%m-%dT%H:%M:%S.000Z")


SERVICE = Service(
    name="ChartsService",
    version="2.0.0",
    methods=(
        MethodEntry(name="getChartData", call=get_chart_data, cache_ms=CACHE_MS, per_minute=20),
        MethodEntry(name="getOHLCV", call=get_ohlcv, cache_ms=CACHE_MS, per_minute=20),
    ),
)
