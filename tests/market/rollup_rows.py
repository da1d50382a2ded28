"""Candles of 1m at random, and the rollups that have to come of them, worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import ROUND_HALF_UP, Context, Decimal
from random import Random
from typing import Any

from django.db import connection

from market import rollups
from market.candles import to_datetime
from market.models import Candle1m
from market.rollup_levels import LEVELS

EXACT = Context(prec=200, rounding=ROUND_HALF_UP)
DIGIT = Decimal(1).scaleb(-18)
MINUTE = 60_000
EXCHANGES = ("binance", "bybit", "coinbase", "kraken", "okx")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is compared: every column but the symbol and the time, which are its key."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal | None
    quote_volume: Decimal | None
    vwap: Decimal | None
    trade_count: int | None
    source_count: int
    sources: tuple[str, ...]
    revision: int


Rows = dict[tuple[str, int], Row]


def random_row(random: Random, *, scale: int) -> Row:
    """Prices of ``scale`` digits before the last; volumes unknown, nothing, or known in part."""
    low, *between, high = sorted(random.randint(1, 10**6) for _ in range(4))
    prices = [Decimal(each).scaleb(-scale) for each in (low, *between, high)]
    random.shuffle(between)
    sources = tuple(sorted(random.sample(EXCHANGES, random.randint(1, 4))))
    volume, quote_volume = random.choice(
        (
            (None, None),
            (Decimal(0), Decimal(0)),
            (Decimal(random.randint(1, 10**9)).scaleb(-8), None),
            *[(Decimal(random.randint(1, 10**9)).scaleb(-8), prices[1] * random.randint(1, 99))]
            * 20,
        )
    )
    return Row(
        open=prices[1],
        high=prices[3],
        low=prices[0],
        close=prices[2],
        volume=volume,
        quote_volume=quote_volume,
        vwap=None,
        trade_count=None if volume is None else random.randint(0, 500),
        source_count=len(sources),
        sources=sources,
        revision=random.randint(0, 3),
    )


def random_rows(seed: int, *, symbols: tuple[str, ...], start_ms: int, minutes: int) -> Rows:
    """Minutes in a row, one in six of them left out."""
    random = Random(seed)
    return {
        (symbol, start_ms + minute * MINUTE): random_row(random, scale=random.choice((2, 8, 12)))
        for symbol in symbols
        for minute in range(minutes)
        if random.random() > 1 / 6
    }


def store(rows: Rows) -> None:
    """Write minutes, over what is there."""
    names = [each.name for each in fields(Row)]
    Candle1m.objects.bulk_create(
        [
            Candle1m(
                symbol=symbol,
                time=to_datetime(open_ms),
                **{name: getattr(row, name) for name in names} | {"sources": list(row.sources)},
            )
            for (symbol, open_ms), row in rows.items()
        ],
        update_conflicts=True,
        unique_fields=["symbol", "time"],
        update_fields=names,
    )


def expected(minutes: Rows) -> dict[str, Rows]:
    """The rollups of these minutes by resolution, each made of the one below."""
    made, below = {}, minutes
    for level in LEVELS:
        buckets: dict[tuple[str, int], list[Row]] = {}
        for (symbol, open_ms), row in sorted(below.items()):
            start_ms = open_ms // level.width_ms * level.width_ms
            buckets.setdefault((symbol, start_ms), []).append(row)
        below = made[level.resolution] = {key: _fold(rows) for key, rows in buckets.items()}
    return made


def stored() -> dict[str, Rows]:
    """The rollups of the database, by resolution."""
    return {resolution: _read(table) for resolution, table in rollups.TABLES.items()}


def _fold(rows: list[Row]) -> Row:
    volumes = [row.volume for row in rows if row.volume is not None]
    quotes = [row.quote_volume for row in rows if row.quote_volume is not None]
    counts = [row.trade_count for row in rows if row.trade_count is not None]
    sources = tuple(sorted({name for row in rows for name in row.sources}))
    volume = sum(volumes, Decimal(0)) if volumes else None
    quote = sum(quotes, Decimal(0)) if quotes and len(quotes) == len(volumes) else None
    return Row(
        open=rows[0].open,
        high=max(row.high for row in rows),
        low=min(row.low for row in rows),
        close=rows[-1].close,
        volume=volume,
        quote_volume=quote,
        vwap=EXACT.divide(quote, volume).quantize(DIGIT, context=EXACT)
        if quote is not None and volume
        else None,
        trade_count=sum(counts) if counts else None,
        source_count=len(sources),
        sources=sources,
        revision=sum(row.revision for row in rows),
    )


def _read(table: str) -> Rows:
    names = [each.name for each in fields(Row)]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT symbol, (extract(epoch FROM time) * 1000)::bigint, {', '.join(names)} "
            f"FROM {table}"
        )
        return {(symbol, time): _row(names, values) for symbol, time, *values in cursor.fetchall()}


def _row(names: list[str], values: list[Any]) -> Row:
    facts = dict(zip(names, values, strict=True))
    return Row(**facts | {"sources": tuple(facts["sources"])})
