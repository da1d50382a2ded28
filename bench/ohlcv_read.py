"""Reading candles: a thousand of any resolution out of ten million minutes.

One connection: Django's test client, which is all of Django's part (middleware, limiter, view,
JSON) without a socket; half of the requests reach now, where Redis has the open minute. Floor: the
bare query of the same rows on the same connection, and msgspec's JSON of them, turn by turn.

A hundred users: the real server over HTTP, a connection each, each asking once a second.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import msgspec
import uvloop
from django.conf import settings
from django.db import connection, transaction
from django.test import Client

from bench.figures import Figure, percentile
from bench.processes import free_port, listens, running, until
from market import aggregates, catalog, rollups, row_forms, series, timescale
from market.candles import to_datetime
from market.models import Symbol
from market.ranges import TimeRange
from market.rollup_levels import AGGREGATED, LEVELS, Level
from oracle import price_board
from oracle.values import RESOLUTIONS, Price

SYMBOLS = tuple(f"READ{number}/USDT" for number in range(5))  # of this benchmark alone
LIMIT = 1_000
SEED = 7
NO_LIMIT = 10_000_000
_FILL = """
    INSERT INTO ohlcv_1m (symbol, time, open, high, low, close, volume, quote_volume, vwap,
        trade_count, source_count, sources, revision)
    SELECT %s, %s::timestamptz + n * interval '1 minute', price, price + 0.5, price - 0.25,
        price + 0.125, size, size * price, price, n %% 900, 5,
        '{binance,bybit,kraken,kucoin,okx}', 0
    FROM generate_series(0::bigint, %s - 1) AS n,
        LATERAL (SELECT 42000 + (n * 7919 %% 100000) * 0.01::numeric AS price,
            (n * 31 %% 100000) * 0.001::numeric AS size) AS made
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A page to ask for. ``from_ms`` None: the newest."""

    symbol: str
    resolution: str
    from_ms: int | None

    @property
    def path(self) -> str:
        start = "" if self.from_ms is None else f"&from={self.from_ms // 1_000}"
        name = quote(self.symbol, safe="")
        return f"/api/v1/market/ohlcv?symbol={name}&resolution={self.resolution}{start}"


def measure(*, minutes: int, requests: int, users: int, seconds: float) -> list[Figure]:
    """``minutes`` of each of SYMBOLS are filled in, and then asked for."""
    now_ms = time.time_ns() // 60_000_000_000 * 60_000
    start_ms = now_ms - minutes * 60_000
    _fill(start_ms, minutes)
    _catch_up(now_ms)
    questions = list(_questions(start_ms, now_ms, count=requests))
    settings.RATE_LIMIT_PER_MINUTE = NO_LIMIT
    views, bare = _one_connection(questions, start_ms)
    found, statuses = _users(questions, users=users, seconds=seconds)
    if set(statuses) != {200}:
        raise RuntimeError(f"not all was answered: {statuses}")
    return [
        Figure(
            name="ohlcv_read",
            value=len(views) / sum(views),
            unit="/s",
            floor=len(bare) / sum(bare),
            floor_is="the bare query and JSON encoding of the same rows, turn by turn",
            min_ratio=0.5,
        ),
        Figure(name="ohlcv_read_p50", value=percentile(views, 0.5) * 1_000, unit="ms"),
        Figure(name="ohlcv_read_p99", value=percentile(views, 0.99) * 1_000, unit="ms", limit=25),
        Figure(
            name=f"ohlcv_{users}_users_p95",
            value=percentile(found, 0.95) * 1_000,
            unit="ms",
            limit=100,
        ),
    ]


def _fill(start_ms: int, minutes: int) -> None:
    with connection.cursor() as cursor:
        for symbol in SYMBOLS:
            base, quote_currency = symbol.split("/")
            Symbol.objects.create(name=symbol, base=base, quote=quote_currency)
            cursor.execute(_FILL, [symbol, to_datetime(start_ms), minutes])
        for level in LEVELS:
            cursor.execute(*_roll_up(level))
        cursor.execute("VACUUM ANALYZE")
    catalog.publish()


def _roll_up(level: Level) -> tuple[str, list[Any]]:
    """The statement that makes a level of the one below; on TimescaleDB what its policy would."""
    if aggregates.in_use():
        behind = max(timescale.REFRESH_BEHIND, timedelta(milliseconds=level.width_ms))
        return (
            "CALL refresh_continuous_aggregate(%s, NULL, now() - %s::interval)",
            [level.table, behind],
        )
    names = "symbol, time, open, high, low, close, volume, quote_volume, vwap, "
    names += "trade_count, source_count, sources, revision"
    return (
        f"INSERT INTO {level.table} ({names}) SELECT symbol, "
        f"date_bin('{level.interval}', time, '2000-01-01T00:00:00Z') AS bucket, "
        f"{AGGREGATED} FROM {level.below} WHERE symbol = ANY(%s) GROUP BY 1, 2",
        [list(SYMBOLS)],
    )


def _catch_up(from_ms: int) -> None:
    """The minutes that went by while the others were filled in."""
    now_ms = time.time_ns() // 60_000_000_000 * 60_000
    count = (now_ms - from_ms) // 60_000
    with transaction.atomic(), connection.cursor() as cursor:
        for symbol in SYMBOLS:
            cursor.execute(_FILL, [symbol, to_datetime(from_ms), count])
        if count:
            whole = TimeRange(start_ms=from_ms, end_ms=now_ms)
            rollups.note_touched([(symbol, whole) for symbol in SYMBOLS])
    rollups.refresh_due(now_ms=now_ms)


def _open_minute() -> None:
    now_ms = time.time_ns() // 1_000_000
    prices = [_price(symbol, now_ms) for symbol in SYMBOLS]
    price_board.publish(prices, now_ms=now_ms, token=f"{now_ms:016d}")


def _price(symbol: str, now_ms: int) -> Price:
    zero = Decimal(0)
    return Price(
        symbol=symbol,
        price=Decimal("42150.5"),
        method="median",
        status="fresh",
        timestamp_ms=now_ms,
        as_of_ms=now_ms,
        confidence=zero,
        spread_bps=zero,
        stdev=zero,
        variance=zero,
        source_count=1,
        outliers_removed=0,
        sources=(),
    )


def _questions(start_ms: int, now_ms: int, *, count: int) -> Iterator[Question]:
    chance = random.Random(SEED)
    for number in range(count):
        resolution = tuple(RESOLUTIONS)[number % len(RESOLUTIONS)]
        room_ms = now_ms - start_ms - LIMIT * RESOLUTIONS[resolution]
        past = start_ms + chance.randrange(max(1, room_ms))
        yield Question(
            symbol=chance.choice(SYMBOLS),
            resolution=resolution,
            from_ms=chance.choice((None, past)),
        )


def _one_connection(
    questions: Sequence[Question], start_ms: int
) -> tuple[list[float], list[float]]:
    """Seconds that each request took, and the bare reading of the same rows."""
    client, views, bare = Client(HTTP_HOST="localhost"), [], []
    for number, question in enumerate(questions):
        _open_minute()
        started = time.perf_counter()
        answer = client.get(question.path)
        middle = time.perf_counter()
        body = msgspec.json.decode(answer.content)
        if answer.status_code != 200 or len(body["data"]) != LIMIT:
            raise RuntimeError(f"{question}: {answer.content[:200]!r}")
        first_ms = body["data"][0]["time"] * 1_000
        before = time.perf_counter()
        _bare(question, first_ms)
        after = time.perf_counter()
        if number >= len(questions) // 10:  # what comes first fills the caches
            views.append(middle - started)
            bare.append(after - before)
    return views, bare


def _bare(question: Question, from_ms: int) -> bytes:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT extract(epoch FROM time)::bigint, {', '.join(row_forms.COLUMNS[1:])} "
            f"FROM {series.TABLES[question.resolution]} "
            "WHERE symbol = %s AND time >= %s ORDER BY time LIMIT %s",
            [question.symbol, to_datetime(from_ms), LIMIT],
        )
        rows = cursor.fetchall()
    return msgspec.json.encode([dict(zip(row_forms.COLUMNS, row, strict=True)) for row in rows])


def _users(
    questions: Sequence[Question], *, users: int, seconds: float
) -> tuple[list[float], Counter[int]]:
    port = free_port()
    command = ("-m", "uvicorn", "config.asgi:application", "--port", str(port))
    options = ("--no-proxy-headers", "--no-access-log", "--log-level", "warning")
    with running(*command, *options, RATE_LIMIT_PER_MINUTE=str(NO_LIMIT)):
        until(lambda: listens(port), seconds=30, what="the web server")
        uvloop.run(_load(port, questions, users=users, seconds=5))  # threads and connections
        return uvloop.run(_load(port, questions, users=users, seconds=seconds))


async def _load(
    port: int, questions: Sequence[Question], *, users: int, seconds: float
) -> tuple[list[float], Counter[int]]:
    taken: list[float] = []
    statuses: Counter[int] = Counter()
    end = time.perf_counter() + seconds
    await asyncio.gather(
        *(
            _user(port, questions[number::users], (taken, statuses), wait=number / users, end=end)
            for number in range(users)
        )
    )
    return taken, statuses


async def _user(
    port: int,
    questions: Sequence[Question],
    found: tuple[list[float], Counter[int]],
    *,
    wait: float,
    end: float,
) -> None:
    """Ask a question each second; a late answer delays the next, but is measured in full."""
    taken, statuses = found
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    at, number = time.perf_counter() + wait, 0
    while at < end:
        await asyncio.sleep(max(0, at - time.perf_counter()))
        question = questions[number % len(questions)]
        started = time.perf_counter()
        writer.write(f"GET {question.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        taken.append(time.perf_counter() - started)
        statuses[int(head[9:12])] += 1
        at, number = max(at + 1, time.perf_counter()), number + 1
    writer.close()
