"""Which candles an order is about: a series and a range of it, as JSON has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from backtests.fields import OrderError, known, moment_ms, text
from ingestion import candle_sources, core_symbols
from ingestion.candle_sources import CandleError
from ingestion.core_symbols import CoreSymbolError
from market import timeframes
from market.coverage import INDEX, Series
from market.ranges import TimeRange

FIELDS = ("exchange", "symbol", "timeframe", "start_ts", "end_ts")


def read(given: Mapping[str, Any], *, within: str = "") -> tuple[Series, TimeRange]:
    """The series and its half-open range. ``within`` stands before a field's name in an error.

    Timeframe, symbol and exchange in any usual spelling. Raises OrderError.
    """
    known(given, FIELDS, within=within)
    exchange = text(given, "exchange", within=within).lower()
    try:
        [symbol] = core_symbols.canonical([text(given, "symbol", within=within)])
    except CoreSymbolError as error:
        raise OrderError(f"{within}symbol", str(error)) from error
    try:
        timeframe = timeframes.normalise(text(given, "timeframe", within=within))
    except timeframes.UnknownTimeframeError as error:
        raise OrderError(f"{within}timeframe", str(error)) from error
    try:
        if exchange != INDEX:
            candle_sources.check(exchange, timeframe)
    except CandleError as error:
        raise OrderError(f"{within}exchange", f"{error}; or index, our own candles") from error
    start_ms = moment_ms(given, "start_ts", within=within)
    end_ms = moment_ms(given, "end_ts", within=within)
    if start_ms >= end_ms:
        raise OrderError(
            f"{within}start_ts",
            f"must be before end_ts, got {given['start_ts']!r} and {given['end_ts']!r}",
        )
    series = Series(exchange=exchange, symbol=symbol, timeframe=timeframe)
    return series, TimeRange(start_ms=start_ms, end_ms=end_ms)


def payload(series: Series, wanted: TimeRange) -> dict[str, Any]:
    """What `read` makes them of again."""
    return {
        **asdict(series),
        "start_ts": wanted.start_ms // 1_000,
        "end_ts": wanted.end_ms // 1_000,
    }
