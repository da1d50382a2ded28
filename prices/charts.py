"""Candles of longer times, made of the stored minutes in one query.

A bucket's open and close are those of its first and last minute; volumes are sums over the minutes
that have one, null where none has.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import connection

from market.candles import to_datetime
from oracle.aggregation import PUBLISHED

_BUCKET = "(extract(epoch FROM time)::bigint / %(seconds)s) * %(seconds)s"
_WHERE = "WHERE symbol = %(symbol)s AND time >= %(start)s AND time < %(end)s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bucket."""

    open_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal | None
    vwap: Decimal | None


def read(symbol: str, *, seconds: int, from_ms: int, to_ms: int, limit: int) -> list[Bar]:
    """The first ``limit`` bars of the minutes that open in ``[from_ms, to_ms)``, oldest first."""
    return _bars(
        f"SELECT {_BUCKET} AS bucket, (array_agg(open ORDER BY time))[1], max(high), min(low), "
        "(array_agg(close ORDER BY time DESC))[1], sum(volume), sum(quote_volume) "
        f"FROM ohlcv_1m {_WHERE} GROUP BY bucket ORDER BY bucket LIMIT %(limit)s",
        {
            "symbol": symbol,
            "seconds": seconds,
            "start": to_datetime(from_ms),
            "end": to_datetime(to_ms),
            "limit": limit,
        },
    )


def count(symbol: str, *, seconds: int) -> int:
    """How many bars there are of a symbol."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT count(DISTINCT {_BUCKET}) FROM ohlcv_1m WHERE symbol = %(symbol)s",
            {"symbol": symbol, "seconds": seconds},
        )
        return int(cursor.fetchone()[0])


def newest(symbol: str, *, seconds: int, limit: int, offset: int) -> list[Bar]:
    """``limit`` bars, newest first, after the ``offset`` newest."""
    parameters = {"symbol": symbol, "seconds": seconds, "limit": limit, "offset": offset}
    return _bars(
        # Which buckets, by the index alone; then only their minutes are aggregated.
        f"WITH page AS MATERIALIZED (SELECT DISTINCT {_BUCKET} AS bucket FROM ohlcv_1m "
        "WHERE symbol = %(symbol)s ORDER BY bucket DESC LIMIT %(limit)s OFFSET %(offset)s) "
        "SELECT bucket, (array_agg(open ORDER BY time))[1], max(high), min(low), "
        "(array_agg(close ORDER BY time DESC))[1], sum(volume), sum(quote_volume) "
        "FROM page JOIN ohlcv_1m ON symbol = %(symbol)s AND time >= to_timestamp(bucket) "
        "AND time < to_timestamp(bucket + %(seconds)s) GROUP BY bucket ORDER BY bucket DESC",
        parameters,
    )


def _bars(sql: str, parameters: dict[str, Any]) -> list[Bar]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return [_bar(row) for row in cursor.fetchall()]


def _bar(
    row: tuple[int, Decimal, Decimal, Decimal, Decimal, Decimal | None, Decimal | None],
) -> Bar:
    bucket, opened, high, low, close, volume, quote_volume = row
    vwap = PUBLISHED.divide(quote_volume, volume) if volume and quote_volume is not None else None
    return Bar(
        open_ms=int(bucket) * 1_000,
        open=opened,
        high=high,
        low=low,
        close=close,
        volume=volume,
        vwap=vwap,
    )
