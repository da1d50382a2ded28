"""Trades: reading the exchanges' messages, and folding the log into minute totals.

Floors: `json.loads` of the very same messages; and reading the same entries with their
acknowledgement, folding nothing.
"""

from __future__ import annotations

import json
import time
from decimal import Decimal

from bench.figures import Figure
from ingestion.exchanges import binance
from oracle import catalog, keys, trade_log
from oracle.catalog import Catalog, CatalogListing, CatalogSymbol
from oracle.connection import redis_client
from oracle.trade_log import LoggedTrade
from prices.aggregator import Aggregator

NOW_MS = 1_800_000_000_000
BATCH = 500
GROUP = "aggregator-group"
SYMBOLS = 50


def measure_parse(*, messages: int) -> list[Figure]:
    """Trades a second out of Binance's combined stream, one message each."""
    texts = [_message(number) for number in range(messages)]
    started = time.perf_counter()
    for text in texts:
        json.loads(text)
    middle = time.perf_counter()
    count = sum(len(binance.parse_message(text, {}, NOW_MS).trades) for text in texts)
    taken = time.perf_counter() - middle
    if count != messages:
        raise RuntimeError(f"read {count} of {messages} trades")
    return [
        Figure(
            name="trades_parse_binance",
            value=messages / taken,
            unit="/s",
            floor=messages / (middle - started),
            floor_is="json.loads of the same messages",
            at_least=20_000,
        )
    ]


def _message(number: int) -> str:
    trade = {
        "e": "trade",
        "E": NOW_MS,
        "s": f"C{number % SYMBOLS}USDT",
        "t": number,
        "p": "63551.02000000",
        "q": "0.00317000",
        "T": NOW_MS,
        "m": number % 2 == 0,
        "M": True,
    }
    return json.dumps({"stream": "x@trade", "data": trade}, separators=(",", ":"))


def measure_fold(*, trades: int) -> list[Figure]:
    """Trades a second from the log to minute totals, acknowledged."""
    names = [f"C{number}" for number in range(SYMBOLS)]
    catalog.publish(
        Catalog(
            exchanges=("binance",),
            symbols=tuple(
                CatalogSymbol(name=f"{each}/USDT", base=each, quote="USDT", min_sources=1)
                for each in names
            ),
            listings=tuple(
                CatalogListing(
                    exchange="binance",
                    exchange_symbol=f"{each}USDT",
                    symbol=f"{each}/USDT",
                    quote="USDT",
                )
                for each in names
            ),
        )
    )
    trade_log.ensure_group("binance")
    _log(trades, first=0)
    bare = _bare_reads(trades)
    _log(trades, first=trades)
    aggregator = Aggregator("bench")
    started = time.perf_counter()
    while not _is_folded():
        aggregator.step(now_ms=NOW_MS + 1_000)
    taken = time.perf_counter() - started
    aggregator.close()
    _check(trades)
    return [
        Figure(
            name="trades_fold",
            value=trades / taken,
            unit="/s",
            floor=trades / bare,
            floor_is="reading and acknowledging the same entries",
            at_least=20_000,
        )
    ]


def _log(trades: int, *, first: int) -> None:
    for start in range(first, first + trades, BATCH):
        batch = [
            LoggedTrade(
                exchange_symbol=f"C{number % SYMBOLS}USDT",
                price=Decimal("63551.02"),
                size=Decimal("0.00317"),
                side="buy",
                trade_id=str(number),
                event_ms=NOW_MS + number % 50_000,
                received_ms=NOW_MS + 50_000,
            )
            for number in range(start, start + BATCH)
        ]
        if not trade_log.append("binance", batch, token=f"{start + 1:016d}"):
            raise RuntimeError("the trade log refused a batch")


def _bare_reads(trades: int) -> float:
    client, stream = redis_client(), keys.trades_stream("binance")
    started = time.perf_counter()
    for _ in range(trades // BATCH):
        answer = client.xreadgroup(GROUP, "bare", {stream: ">"}, count=1)
        client.xack(stream, GROUP, *(entry for entry, _ in answer[0][1]))
    return time.perf_counter() - started


def _is_folded() -> bool:
    stream = keys.trades_stream("binance")
    last = redis_client().xinfo_stream(stream)["last-generated-id"]
    [group] = redis_client().xinfo_groups(stream)
    return bool(group["last-delivered-id"] == last and not group["pending"])


def _check(trades: int) -> None:
    minute_ms = NOW_MS - NOW_MS % 60_000
    rows = redis_client().hget(keys.trades_minute("C0/USDT", minute_ms), "binance")
    if rows is None or str(trades // SYMBOLS) not in rows.decode():
        raise RuntimeError(f"C0/USDT has {rows!r}, not {trades // SYMBOLS} trades")
