"""Candles in the database: written by COPY and one upsert, read merged with the open one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

from django.db import connection, models

from market import volumes
from market.models import DECIMALS, DIGITS, Candle1m, Fence
from market.volumes import Minute
from oracle import candle_book, trade_totals
from oracle.candle_book import MINUTE_MS, OpenCandle
from oracle.trade_totals import Sums

_PRICE_COLUMNS = ("open", "high", "low", "close", "source_count", "sources")
_VOLUME_COLUMNS = ("volume", "quote_volume", "vwap", "trade_count")
# Totals only grow: fewer trades than are stored, or none known, are those of a Redis that lost its
# data. What was known is not overwritten with less.
_AS_MUCH = "{given}.trade_count >= COALESCE(held.trade_count, 0)"


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


def limit_statements(*, seconds: float) -> None:
    """Inside a transaction: let none of its statements take longer."""
    with connection.cursor() as cursor:
        milliseconds = str(round(seconds * 1_000))
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [milliseconds])


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


def upsert(candles: Sequence[OpenCandle], known: Mapping[Minute, Sums]) -> Written:
    """Write the prices of candles and what is known of trades, inside the caller's transaction.

    A row that is already there is changed, and its revision raised, only where it differs: a flush
    may be repeated. Trades of a minute that is not among the candles go to its row if there is one.
    """
    created, revised = _upsert_candles(candles, known) if candles else (0, 0)
    priced = {(candle.symbol, candle.open_ms) for candle in candles}
    rest = {minute: sums for minute, sums in known.items() if minute not in priced}
    return Written(created=created, revised=revised + (_update_volumes(rest) if rest else 0))


def _upsert_candles(candles: Sequence[OpenCandle], known: Mapping[Minute, Sums]) -> tuple[int, int]:
    """How many rows were made, and how many changed."""
    columns = ", ".join(("symbol", "time", *_PRICE_COLUMNS, *_VOLUME_COLUMNS, "revision"))
    updates = ", ".join(f"{name} = EXCLUDED.{name}" for name in _PRICE_COLUMNS)
    as_much = _AS_MUCH.format(given="EXCLUDED")
    volume_updates = ", ".join(
        f"{name} = CASE WHEN {as_much} THEN EXCLUDED.{name} ELSE held.{name} END"
        for name in _VOLUME_COLUMNS
    )
    times = {ms: to_datetime(ms) for ms in {candle.open_ms for candle in candles}}
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMPORARY TABLE IF NOT EXISTS incoming_candle "
            "(LIKE ohlcv_1m INCLUDING DEFAULTS) ON COMMIT DELETE ROWS"
        )
        with cursor.copy(f"COPY incoming_candle ({columns}) FROM STDIN") as copy:
            for candle in candles:
                sums = known.get((candle.symbol, candle.open_ms))
                copy.write_row(_row(candle, times[candle.open_ms], sums))
        cursor.execute(
            f"WITH written AS (INSERT INTO ohlcv_1m AS held ({columns}) "
            f"SELECT {columns} FROM incoming_candle ON CONFLICT (symbol, time) DO UPDATE SET "
            f"{updates}, {volume_updates}, revision = held.revision + 1 "
            f"WHERE {_differ(_PRICE_COLUMNS, 'EXCLUDED')} "
            f"OR ({as_much} AND {_differ(_VOLUME_COLUMNS, 'EXCLUDED')}) RETURNING revision) "
            "SELECT count(*) FILTER (WHERE revision = 0), count(*) FILTER (WHERE revision > 0) "
            "FROM written"
        )
        created, revised = cursor.fetchone()
        return created, revised


def _update_volumes(known: Mapping[Minute, Sums]) -> int:
    """How many rows changed."""
    number = f"numeric({DIGITS}, {DECIMALS})"  # as stored, or what is equal would seem to differ
    rows = [(symbol, to_datetime(ms), *_volumes(sums)) for (symbol, ms), sums in known.items()]
    updates = ", ".join(f"{name} = given.{name}" for name in _VOLUME_COLUMNS)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE ohlcv_1m AS held SET {updates}, revision = held.revision + 1 FROM ("
            f"SELECT symbol, time, volume::{number}, quote_volume::{number}, vwap::{number}, "
            "trade_count FROM unnest(%s::text[], %s::timestamptz[], %s::numeric[], "
            "%s::numeric[], %s::numeric[], %s::bigint[]) "
            "AS rows (symbol, time, volume, quote_volume, vwap, trade_count)) AS given "
            "WHERE held.symbol = given.symbol AND held.time = given.time "
            f"AND {_AS_MUCH.format(given='given')} AND {_differ(_VOLUME_COLUMNS, 'given')}",
            [list(column) for column in zip(*rows, strict=True)],
        )
        changed: int = cursor.rowcount
        return changed


def _differ(columns: Sequence[str], given: str) -> str:
    held = ", ".join(f"held.{name}" for name in columns)
    others = ", ".join(f"{given}.{name}" for name in columns)
    return f"({held}) IS DISTINCT FROM ({others})"


def _row(candle: OpenCandle, time: datetime, sums: Sums | None) -> tuple[object, ...]:
    names = '","'.join(candle.sources)
    return (
        candle.symbol,
        time,
        candle.open,
        candle.high,
        candle.low,
        candle.close,
        len(candle.sources),
        f'{{"{names}"}}',  # an array as text: psycopg takes three times as long over a list
        *(_volumes(sums) if sums else _UNKNOWN),
        0,
    )


_UNKNOWN = (None,) * len(_VOLUME_COLUMNS)


def _volumes(sums: Sums) -> tuple[object, ...]:
    return sums.volume, sums.quote_volume, sums.vwap, sums.trade_count


def read_page(symbol: str, *, from_ms: int, to_ms: int, limit: int, now_ms: int) -> Page:
    """The first ``limit`` 1m candles that open in ``[from_ms, to_ms)``, oldest first.

    What Redis still holds, the open minute first of all, is merged over what is stored: prices and
    trades each, for either may be the newer.
    """
    # Redis first: a flush that commits in between leaves a candle in both, never in neither.
    waiting = list(_from_redis(symbol, from_ms=from_ms, to_ms=to_ms, now_ms=now_ms))
    rows = list(
        Candle1m.objects.filter(
            symbol=symbol, time__gte=to_datetime(from_ms), time__lt=to_datetime(to_ms)
        ).order_by("time")[: limit + 1]
    )
    merged = {candle.open_ms: candle for candle in map(_stored, rows)}
    # Behind a full page there may be stored candles between it and what waits: not part of it.
    newest_ms = max(merged, default=0) if len(rows) > limit else to_ms
    for candle in waiting:
        if candle.open_ms >= newest_ms:
            continue
        held = merged.get(candle.open_ms)
        merged[candle.open_ms] = _with_volumes(candle, held) if held else candle
    _merge_trades(symbol, merged, stored={epoch_ms(row.time) for row in rows})
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


def _merge_trades(symbol: str, merged: dict[int, StoredCandle], *, stored: set[int]) -> None:
    """Put what is newly known of trades into candles that are not stored, or not with these."""
    from_ms = trade_totals.unflushed_from()
    wanted = [
        (symbol, open_ms)
        for open_ms in merged
        if open_ms not in stored or (from_ms is not None and open_ms >= from_ms)
    ]
    for (_, open_ms), sums in volumes.read(wanted).known.items():
        candle = merged[open_ms]
        if sums.trade_count >= (candle.trade_count or 0):
            merged[open_ms] = replace(
                candle,
                volume=sums.volume,
                quote_volume=sums.quote_volume,
                vwap=sums.vwap,
                trade_count=sums.trade_count,
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
