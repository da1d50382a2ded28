"""Candles in the database: written by COPY and one upsert, read merged with the open one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

from django.db import connection, models

from market.models import Candle1m, Fence
from oracle import candle_book
from oracle.candle_book import MINUTE_MS, OpenCandle

# What a flush knows; volumes come from trades, by their own way, and are not to be overwritten.
_PRICE_COLUMNS = ("open", "high", "low", "close", "source_count", "sources")


class FencedOutError(Exception):
    """A newer fencing token has written to the resource: this writer was paused, and is late."""

    retryable = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCandle:
    """A candle as it is read. Volumes are None where nobody was listening to trades."""

    open_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal | None
    quote_volume: Decimal | None
    vwap: Decimal | None
    trade_count: int | None
    source_count: int
    closed: bool
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The first candles of a range, oldest first; ``next_ms``: where the next page begins."""

    candles: tuple[StoredCandle, ...]
    next_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """How many rows an upsert made, and how many it changed."""

    created: int = 0
    revised: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the stored candles of a window say; None where there are none to say it."""

    first_open: Decimal | None = None
    high: Decimal | None = None
    low: Decimal | None = None
    starts_ms: int | None = None


def to_datetime(ms: int) -> datetime:
    """Epoch milliseconds as an aware UTC datetime, exactly."""
    seconds, rest = divmod(ms, 1_000)
    return datetime.fromtimestamp(seconds, tz=UTC).replace(microsecond=rest * 1_000)


def epoch_ms(time: datetime) -> int:
    """An aware datetime as epoch milliseconds."""
    return int(time.timestamp()) * 1_000 + time.microsecond // 1_000


def claim_fence(resource: str, token: str) -> None:
    """Inside a transaction: make ``token`` the newest of a resource, whose row stays locked.

    Raises FencedOutError when a newer one has written.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO fence AS held (resource, token) VALUES (%s, %s) "
            "ON CONFLICT (resource) DO UPDATE SET token = EXCLUDED.token "
            "WHERE held.token <= EXCLUDED.token",
            [resource, token],
        )
        if cursor.rowcount != 1:
            raise FencedOutError(
                f"{Fence._meta.db_table} {resource}: token {token} is older than the newest"
            )


def upsert_prices(candles: Sequence[OpenCandle]) -> Written:
    """Write the prices of candles, inside the caller's transaction.

    A row that is already there is changed, and its revision raised, only where it differs: a flush
    may be repeated. Volumes, which other writers know, stay.
    """
    if not candles:
        return Written()
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMPORARY TABLE IF NOT EXISTS incoming_candle "
            "(LIKE ohlcv_1m INCLUDING DEFAULTS) ON COMMIT DELETE ROWS"
        )
        columns = ", ".join(("symbol", "time", *_PRICE_COLUMNS))
        with cursor.copy(f"COPY incoming_candle ({columns}, revision) FROM STDIN") as copy:
            for candle in candles:
                copy.write_row(_row(candle))
        updates = ", ".join(f"{name} = EXCLUDED.{name}" for name in _PRICE_COLUMNS)
        held = ", ".join(f"held.{name}" for name in _PRICE_COLUMNS)
        given = ", ".join(f"EXCLUDED.{name}" for name in _PRICE_COLUMNS)
        cursor.execute(
            f"WITH written AS (INSERT INTO ohlcv_1m AS held ({columns}, revision) "
            f"SELECT {columns}, 0 FROM incoming_candle "
            f"ON CONFLICT (symbol, time) DO UPDATE SET {updates}, revision = held.revision + 1 "
            f"WHERE ({held}) IS DISTINCT FROM ({given}) RETURNING revision) "
            "SELECT count(*) FILTER (WHERE revision = 0), count(*) FILTER (WHERE revision > 0) "
            "FROM written"
        )
        created, revised = cursor.fetchone()
        return Written(created=created, revised=revised)


def _row(candle: OpenCandle) -> tuple[object, ...]:
    return (
        candle.symbol,
        to_datetime(candle.open_ms),
        candle.open,
        candle.high,
        candle.low,
        candle.close,
        len(candle.sources),
        list(candle.sources),
        0,
    )


def read_page(symbol: str, *, from_ms: int, to_ms: int, limit: int, now_ms: int) -> Page:
    """The first ``limit`` 1m candles that open in ``[from_ms, to_ms)``, oldest first.

    What Redis still holds, the open minute first of all, is merged over what is stored.
    """
    rows = list(
        Candle1m.objects.filter(
            symbol=symbol, time__gte=to_datetime(from_ms), time__lt=to_datetime(to_ms)
        ).order_by("time")[: limit + 1]
    )
    merged = {candle.open_ms: candle for candle in map(_stored, rows)}
    # A full page that ends before the last minutes has no use for Redis.
    newest_ms = max(merged, default=0) if len(rows) > limit else to_ms
    for candle in _from_redis(symbol, from_ms=from_ms, to_ms=min(to_ms, newest_ms), now_ms=now_ms):
        held = merged.get(candle.open_ms)
        merged[candle.open_ms] = _with_volumes(candle, held) if held else candle
    ordered = [merged[open_ms] for open_ms in sorted(merged)]
    return Page(
        candles=tuple(ordered[:limit]),
        next_ms=ordered[limit].open_ms if len(ordered) > limit else None,
    )


def summarise(symbol: str, *, from_ms: int, to_ms: int) -> Summary:
    """First open, highest high and lowest low of the stored candles of ``[from_ms, to_ms)``."""
    window = Candle1m.objects.filter(
        symbol=symbol, time__gte=to_datetime(from_ms), time__lt=to_datetime(to_ms)
    )
    found = window.aggregate(high=models.Max("high"), low=models.Min("low"))
    first = window.order_by("time").first()
    if first is None:
        return Summary()
    return Summary(
        first_open=first.open,
        high=found["high"],
        low=found["low"],
        starts_ms=epoch_ms(first.time),
    )


def _from_redis(symbol: str, *, from_ms: int, to_ms: int, now_ms: int) -> Iterable[StoredCandle]:
    for candle in candle_book.unflushed(symbol, from_ms=from_ms, to_ms=to_ms):
        yield StoredCandle(
            open_ms=candle.open_ms,
            open=candle.open,
            high=candle.high,
            low=candle.low,
            close=candle.close,
            volume=None,
            quote_volume=None,
            vwap=None,
            trade_count=None,
            source_count=len(candle.sources),
            closed=candle.open_ms + MINUTE_MS <= now_ms,
            revision=0,
        )


def _with_volumes(fresh: StoredCandle, stored: StoredCandle) -> StoredCandle:
    """A candle that is in Redis again after it was stored: its prices, the stored volumes."""
    return replace(
        fresh,
        volume=stored.volume,
        quote_volume=stored.quote_volume,
        vwap=stored.vwap,
        trade_count=stored.trade_count,
        revision=stored.revision,
    )


def _stored(row: Candle1m) -> StoredCandle:
    return StoredCandle(
        open_ms=epoch_ms(row.time),
        open=row.open,
        high=row.high,
        low=row.low,
        close=row.close,
        volume=row.volume,
        quote_volume=row.quote_volume,
        vwap=row.vwap,
        trade_count=row.trade_count,
        source_count=row.source_count,
        closed=True,
        revision=row.revision,
    )
