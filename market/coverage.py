"""What was asked for and answered in full, so that nothing is asked for twice.

An exchange leaves out minutes without trades. A minute that is not stored is *missing* until its
range is covered, and *empty* from then on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.models import Q, QuerySet

from market.candles import epoch_ms, to_datetime
from market.models import Coverage
from market.ranges import TimeRange, join, subtract

INDEX = "index"  # the exchange of our own candles


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Whose candles: of an exchange, or of the index; ``timeframe`` such as ``1m``."""

    exchange: str
    symbol: str
    timeframe: str


def covered(series: Series, whole: TimeRange) -> list[TimeRange]:
    """The covered parts of a range, oldest first."""
    inside = (
        (max(start_ms, whole.start_ms), min(end_ms, whole.end_ms))
        for start_ms, end_ms in _read(series, whole)
    )
    return [
        TimeRange(start_ms=start_ms, end_ms=end_ms)
        for start_ms, end_ms in inside
        if start_ms < end_ms
    ]


def missing(series: Series, whole: TimeRange) -> list[TimeRange]:
    """The parts of a range that are not covered, oldest first."""
    return subtract(whole, covered(series, whole))


@transaction.atomic
def mark(series: Series, whole: TimeRange) -> None:
    """Cover a range: in the transaction that stores its candles, or it would promise too much."""
    _replace(series, whole, join([*_take(series, whole), whole]))


@transaction.atomic
def forget(series: Series, whole: TimeRange) -> None:
    """Uncover a range: what is not stored of it is missing again."""
    left = [part for found in _take(series, whole) for part in subtract(found, [whole])]
    _replace(series, whole, left)


def forget_before(*, index: bool, before_ms: int) -> None:
    """Uncover what is older of every series of the index, or of the exchanges.

    Before its candles are removed: those of a removal that dies must not pass for empty minutes.
    """
    whose = Q(exchange=INDEX)
    rows = Coverage.objects.filter(whose if index else ~whose, start__lt=to_datetime(before_ms))
    # Each as its own writers do, one after another: a `mark` meanwhile must not bring it back.
    for exchange, symbol, timeframe in rows.values_list(
        "exchange", "symbol", "timeframe"
    ).distinct():
        forget(
            Series(exchange=exchange, symbol=symbol, timeframe=timeframe),
            TimeRange(start_ms=0, end_ms=before_ms),
        )


def _take(series: Series, whole: TimeRange) -> list[TimeRange]:
    """The rows that overlap or touch a range, and the right to replace them."""
    with connection.cursor() as cursor:
        # Two that cover neighbouring ranges at once would each miss the other's.
        name = f"{series.exchange}|{series.symbol}|{series.timeframe}"
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])
    return [TimeRange(start_ms=start, end_ms=end) for start, end in _read(series, whole)]


def _replace(series: Series, whole: TimeRange, ranges: Iterable[TimeRange]) -> None:
    _rows(series, whole).delete()
    Coverage.objects.bulk_create(
        Coverage(
            exchange=series.exchange,
            symbol=series.symbol,
            timeframe=series.timeframe,
            start=to_datetime(each.start_ms),
            end=to_datetime(each.end_ms),
        )
        for each in ranges
    )


def _read(series: Series, whole: TimeRange) -> list[tuple[int, int]]:
    rows = _rows(series, whole).order_by("start").values_list("start", "end")
    return [(epoch_ms(start), epoch_ms(end)) for start, end in rows]


def _rows(series: Series, whole: TimeRange) -> QuerySet[Coverage]:
    return Coverage.objects.filter(
        exchange=series.exchange,
        symbol=series.symbol,
        timeframe=series.timeframe,
        start__lte=to_datetime(whole.end_ms),
        end__gte=to_datetime(whole.start_ms),
    )
