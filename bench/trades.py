"""Trades: reading the exchanges' messages, and folding the log into minute totals.

Floors: `json.loads` of the very same messages; and reading the same entries with their
acknowledgement, folding nothing.
"""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any

import msgspec

from bench.exchange import CATALOG, NAME, NAMES, NATIVE, SYMBOLS
from bench.figures import Figure
from ingestion.exchanges import binance
from oracle import catalog, keys, trade_log
from oracle.connection import redis_client
from oracle.trade_log import GROUP, LoggedTrade
from prices.aggregator import Aggregator

NOW_MS = 1_800_000_000_000
BATCH = 500


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
        "s": NATIVE[number % SYMBOLS],
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
    catalog.publish(msgspec.structs.replace(CATALOG, simulated=False))
    trade_log.ensure_group(NAME)
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
                exchange_symbol=NATIVE[number % SYMBOLS],
                price=Decimal("63551.02"),
                size=Decimal("0.00317"),
                side="buy",
                trade_id=str(number),
                event_ms=NOW_MS + number % 50_000,
                received_ms=NOW_MS + 50_000,
            )
            for number in range(start, start + BATCH)
        ]
        if not trade_log.append(NAME, batch, token=f"{start + 1:016d}"):
            raise RuntimeError("the trade log refused a batch")


def _bare_reads(trades: int) -> float:
    client, stream = redis_client(), keys.trades_stream(NAME)
    started = time.perf_counter()
    for _ in range(trades // BATCH):
        answer: Any = client.xreadgroup(GROUP, "bare", {stream: ">"}, count=1)
        client.xack(stream, GROUP, *(entry for entry, _ in answer[0][1]))
    return time.perf_counter() - started


def _is_folded() -> bool:
    stream = keys.trades_stream(NAME)
    last = redis_client().xinfo_stream(stream)["last-generated-id"]
    [group] = redis_client().xinfo_groups(stream)
    return bool(group["last-delivered-id"] == last and not group["pending"])


def _check(trades: int) -> None:
    minute_ms = NOW_MS - NOW_MS % 60_000
    rows: Any = redis_client().hget(keys.trades_minute(NAMES[0], minute_ms), NAME)
    if rows is None or str(trades // SYMBOLS) not in rows.decode():
        raise RuntimeError(f"{NAMES[0]} has {rows!r}, not {trades // SYMBOLS} trades")
