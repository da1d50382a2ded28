"""ChartsService@2.0.0: series and candles of a pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from market.candles import to_datetime
from market.symbols import slug
from prices import charts
from prices.rpc import errors
from prices.rpc.errors import RpcError
from prices.rpc.registry import Answer, Context, MethodEntry, Service
from prices.rpc.requests import read_count, read_pair, read_span

CACHE_MS = 60_000
INTERVALS = {"5min": 300, "1hour": 3_600, "1day": 86_400}
MAX_BARS = 10_000
MAX_PAGE, MAX_OFFSET = 1_000, 1_000_000


async def get_chart_data(context: Context, given: Mapping[str, Any], now_ms: int) -> Answer:
    """``{pair, period, interval, from?, to?}`` → dates, series (closes) and OHLCV, oldest first."""
    name = read_pair(given.get("pair"), context.board)
    seconds = _interval(given, default="1hour")
    from_ms, to_ms = read_span(given, default="7days", now_ms=now_ms)
    # Whole buckets: the first one is not to be a part of itself.
    from_ms -= from_ms % (seconds * 1_000)
    if (to_ms - from_ms) // (seconds * 1_000) > MAX_BARS:
        raise RpcError.of(
            errors.CHART_BAD_RANGE, f"that is more than {MAX_BARS} candles: ask for fewer"
        )

    async def work() -> msgspec.Raw:
        bars = await context.memo.in_thread(_chart, name, seconds, from_ms, to_ms)
        return msgspec.Raw(context.render(bars))

    asked = given.get("period"), given.get("from"), given.get("to")
    key = ("chart", name, seconds, *map(str, asked))
    return await context.memo.get(key, CACHE_MS / 1_000, work)


def _chart(name: str, seconds: int, from_ms: int, to_ms: int) -> dict[str, Any]:
    bars = charts.read(name, seconds=seconds, from_ms=from_ms, to_ms=to_ms, limit=MAX_BARS)
    if not bars:
        pair = slug(name)
        raise RpcError.of(errors.CHART_NO_DATA, f"{pair} has no candles in that time", pair=pair)
    return {
        "pair": slug(name),
        "dates": [_iso(bar.open_ms) for bar in bars],
        "series": [bar.close for bar in bars],
        "ohlcv": {
            "open": [bar.open for bar in bars],
            "high": [bar.high for bar in bars],
            "low": [bar.low for bar in bars],
            "close": [bar.close for bar in bars],
            "volume": [bar.volume for bar in bars],
        },
    }


async def get_ohlcv(context: Context, given: Mapping[str, Any], now_ms: int) -> Answer:
    """``{pair, interval, limit, offset}`` → a page of candles, newest first."""
    name = read_pair(given.get("pair"), context.board)
    seconds = _interval(given, default="1hour")
    limit = read_count(given, "limit", least=1, most=MAX_PAGE, default=100)
    offset = read_count(given, "offset", least=0, most=MAX_OFFSET, default=0)

    async def work() -> msgspec.Raw:
        page = await context.memo.in_thread(_page, name, seconds, limit, offset)
        return msgspec.Raw(context.render(page))

    key = ("ohlcv", name, seconds, limit, offset)
    return await context.memo.get(key, CACHE_MS / 1_000, work)


def _page(name: str, seconds: int, limit: int, offset: int) -> dict[str, Any]:
    total = charts.count(name, seconds=seconds)
    if total == 0:
        pair = slug(name)
        raise RpcError.of(errors.CHART_NO_DATA, f"{pair} has no candles", pair=pair)
    bars = charts.newest(name, seconds=seconds, limit=limit, offset=offset)
    return {
        "candles": [
            {
                "timestamp": _iso(bar.open_ms),
                "open": bar.open,
                "high": bar.high,
                "low": bar.low,
                "close": bar.close,
                "volume": bar.volume,
                "vwap": bar.vwap,
            }
            for bar in bars
        ],
        "pagination": {"total": total, "limit": limit, "offset": offset},
    }


def _interval(given: Mapping[str, Any], *, default: str) -> int:
    """The seconds of an interval. Raises RpcError, CHART_2003."""
    text = given.get("interval", default)
    seconds = INTERVALS.get(text) if isinstance(text, str) else None
    if seconds is None:
        raise RpcError.of(
            errors.CHART_BAD_INTERVAL,
            f"interval must be one of {', '.join(INTERVALS)}",
            interval=str(text)[:64],
        )
    return seconds


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
