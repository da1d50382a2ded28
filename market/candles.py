"""Candles written to the database, by COPY and one upsert. `market.series` reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec
from django.db import IntegrityError, connection, transaction

from market.models import DECIMALS, DIGITS, Candle1m, Fence
from market.volumes import Minute
from oracle.candle_book import OpenCandle
from oracle.trade_totals import Sums

_PRICE_COLUMNS = ("open", "high", "low", "close", "source_count", "sources")
_VOLUME_COLUMNS = ("volume", "quote_volume", "vwap", "trade_count")
_BACKFILLED_COLUMNS = (*_PRICE_COLUMNS[:4], *_VOLUME_COLUMNS, *_PRICE_COLUMNS[4:])
_COPIED_COLUMNS = ("symbol", "time", *_BACKFILLED_COLUMNS, "revision", "backfilled")
# Totals only grow: fewer trades than are stored, or none known, are those of a Redis that lost its
# data. What was known is not overwritten with less.
_AS_MUCH = "{given}.trade_count >= COALESCE(held.trade_count, 0)"


class FencedOutError(Exception):
    """A newer fencing token has written to the resource: this writer was paused, and is late."""

    retryable = False


class BackfilledCandle(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A minute of the index made of the exchanges' own candles; a Struct: millions are made."""

    symbol: str
    open_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal | None
    quote_volume: Decimal | None
    vwap: Decimal | None
    trade_count: int | None
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """How many rows an upsert made, and how many it changed."""

    created: int = 0
    revised: int = 0


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


@contextmanager
def statements_end_after(seconds: float) -> Iterator[None]:
    """Outside a transaction: give each statement so long, where a worker's end much sooner."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('statement_timeout')")
        before = cursor.fetchone()[0]
        cursor.execute("SELECT set_config('statement_timeout', %s, false)", [f"{seconds:.0f}s"])
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, false)", [before])


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
    # What the exchanges said of a minute gives way to what we know of its trades ourselves.
    known_better = f"{as_much} OR (held.backfilled AND EXCLUDED.trade_count IS NOT NULL)"
    volume_updates = ", ".join(
        f"{name} = CASE WHEN {known_better} THEN EXCLUDED.{name} ELSE held.{name} END"
        for name in _VOLUME_COLUMNS
    )
    times = {ms: to_datetime(ms) for ms in {candle.open_ms for candle in candles}}
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMPORARY TABLE IF NOT EXISTS incoming_candle "
            "(LIKE ohlcv_1m INCLUDING DEFAULTS) ON COMMIT DELETE ROWS"
        )
        statement = f"COPY incoming_candle ({columns}) FROM STDIN"
        # The driver's own method: Django does not turn its errors into Django's by itself.
        with connection.wrap_database_errors, cursor.copy(statement) as copy:
            for candle in candles:
                sums = known.get((candle.symbol, candle.open_ms))
                copy.write_row(_row(candle, times[candle.open_ms], sums))
        cursor.execute(
            f"WITH written AS (INSERT INTO ohlcv_1m AS held ({columns}) "
            f"SELECT {columns} FROM incoming_candle ON CONFLICT (symbol, time) DO UPDATE SET "
            f"{updates}, {volume_updates}, revision = held.revision + 1, backfilled = false "
            f"WHERE held.backfilled OR {_differ(_PRICE_COLUMNS, 'EXCLUDED')} "
            f"OR ({as_much} AND {_differ(_VOLUME_COLUMNS, 'EXCLUDED')}) RETURNING revision) "
            "SELECT count(*) FILTER (WHERE revision = 0), count(*) FILTER (WHERE revision > 0) "
            "FROM written"
        )
        created, revised = cursor.fetchone()
        return created, revised


def upsert_backfilled(candles: Sequence[BackfilledCandle], *, overwrite: bool) -> Written:
    """Write a symbol's minutes made of the exchanges' candles, inside the caller's transaction.

    What our own index made of a minute stays as it is unless ``overwrite``. Writing the same again
    changes nothing.
    """
    if not candles:
        return Written()
    lines = "".join(map(_line, candles))
    if not _any_stored(candles):
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                _copy(cursor, "ohlcv_1m", lines)
            return Written(created=len(candles))
        except IntegrityError:
            pass  # somebody else stores some of them at this moment
    updates = ", ".join(f"{name} = EXCLUDED.{name}" for name in _BACKFILLED_COLUMNS)
    columns = ", ".join(_COPIED_COLUMNS)
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMPORARY TABLE IF NOT EXISTS incoming_backfilled ON COMMIT DELETE ROWS "
            f"AS SELECT {columns} FROM ohlcv_1m WITH NO DATA"
        )
        cursor.execute("TRUNCATE incoming_backfilled")  # of an earlier call in this transaction
        _copy(cursor, "incoming_backfilled", lines)
        cursor.execute(
            f"WITH written AS (INSERT INTO ohlcv_1m AS held ({columns}) "
            f"SELECT {columns} FROM incoming_backfilled ON CONFLICT (symbol, time) "
            f"DO UPDATE SET {updates}, revision = held.revision + 1, backfilled = true "
            f"WHERE {'true' if overwrite else 'held.backfilled'} "
            f"AND {_differ(_BACKFILLED_COLUMNS, 'EXCLUDED')} RETURNING revision) "
            "SELECT count(*) FILTER (WHERE revision = 0), count(*) FILTER (WHERE revision > 0) "
            "FROM written"
        )
        created, revised = cursor.fetchone()
    return Written(created=created, revised=revised)


def _any_stored(candles: Sequence[BackfilledCandle]) -> bool:
    first, last = candles[0], candles[-1]
    return Candle1m.objects.filter(
        symbol=first.symbol,
        time__gte=to_datetime(first.open_ms),
        time__lte=to_datetime(last.open_ms),
    ).exists()


def _copy(cursor: Any, table: str, lines: str) -> None:
    statement = f"COPY {table} ({', '.join(_COPIED_COLUMNS)}) FROM STDIN"
    with connection.wrap_database_errors, cursor.copy(statement) as copy:
        copy.write(lines)


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
            f"AND {_AS_MUCH.format(given='given')} AND {_differ(_VOLUME_COLUMNS, 'given')} "
            # Late trades of a minute that our index missed are rarely all of its trades.
            "AND NOT held.backfilled",
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


def _line(candle: BackfilledCandle) -> str:
    """A row of COPY's text format: names of symbols and exchanges hold nothing to escape.

    Half the time of psycopg's own writing of a row. ``!s``: a Decimal's ``format`` takes longer.
    """
    unknown = "\\N"
    volume, quote_volume, vwap = candle.volume, candle.quote_volume, candle.vwap
    trade_count, sources = candle.trade_count, candle.sources
    days, minutes = divmod(candle.open_ms // 60_000, 1_440)
    return (
        f"{candle.symbol}\t{_date_text(days)} {minutes // 60}:{minutes % 60}:00Z\t"
        f"{candle.open!s}\t{candle.high!s}\t{candle.low!s}\t{candle.close!s}\t"
        f"{unknown if volume is None else volume!s}\t"
        f"{unknown if quote_volume is None else quote_volume!s}\t"
        f"{unknown if vwap is None else vwap!s}\t"
        f"{unknown if trade_count is None else trade_count}\t"
        f"{len(sources)}\t{{{','.join(sources)}}}\t0\tt\n"
    )


@lru_cache(maxsize=16)
def _date_text(days: int) -> str:
    """The day so many days after 1970-01-01."""
    return to_datetime(days * 86_400_000).date().isoformat()


_UNKNOWN = (None,) * len(_VOLUME_COLUMNS)


def _volumes(sums: Sums) -> tuple[object, ...]:
    return sums.volume, sums.quote_volume, sums.vwap, sums.trade_count
