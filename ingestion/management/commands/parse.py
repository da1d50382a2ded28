"""``manage.py parse binance tickers < body.json``: what an adapter reads in a recorded payload.

One JSON object a line, decimals as exact text. It needs no database, no Redis and no network.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ingestion.adapter import (
    Adapter,
    Answer,
    Parsed,
    Refusal,
    UnreadableError,
    Unresolved,
)
from ingestion.registry import ADAPTERS
from market.seeds import is_listed
from oracle.jsontext import plain
from oracle.values import MAX_MS, MIN_MS, RESOLUTIONS, ErrorCode, Ticker

KINDS = ("tickers", "candles", "trades")
ROW_CODES = {
    ErrorCode.MISSING_FIELD,
    ErrorCode.BAD_PRICE,
    ErrorCode.BAD_VOLUME,
    ErrorCode.BAD_TIME,
    ErrorCode.BAD_ROW,
    ErrorCode.NOT_RETURNED,
}
UNNAMED = "?"  # stands for the one product of a Coinbase body, which does not say which

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The symbols asked for, by our name or the exchange's; none asked: all."""

    adapter: Adapter
    natives: tuple[str, ...]
    canonical: frozenset[str | None]

    def includes(self, exchange_symbol: str | None) -> bool:
        """Tell whether this symbol was asked for; a row without a name always was."""
        if not self.natives or exchange_symbol is None or exchange_symbol in self.natives:
            return True
        return self.adapter.from_native(exchange_symbol) in self.canonical - {None}

    def missing(self, seen: Sequence[str | None]) -> Iterator[Line]:
        """Say of each symbol asked for and not in ``seen`` that it is not there."""
        names = {name and self.adapter.from_native(name) for name in seen} - {None}
        for native in self.natives:
            if native not in seen and self.adapter.from_native(native) not in names:
                yield {
                    "error": ErrorCode.NOT_RETURNED,
                    "detail": "not in the payload",
                    "exchange_symbol": native,
                }


def wanted_symbols(adapter: Adapter, symbols: Sequence[str]) -> Wanted:
    """Read ``--symbols``: ``BTC/USDT`` or the exchange's spelling. Raises ValueError on neither."""
    natives = []
    for symbol in (part for item in symbols for part in item.split(",") if part):
        ours = "/" in symbol and adapter.from_native(symbol) is None
        natives.append(adapter.to_native(symbol) if ours else symbol)
    canonical = frozenset(adapter.from_native(native) for native in natives)
    return Wanted(adapter, tuple(dict.fromkeys(natives)), canonical)


def ticker_lines(adapter: Adapter, answer: Answer, wanted: Wanted) -> Iterator[Line]:
    """Read a ticker body. Raises `UnreadableError`."""
    parsed = adapter.parse_tickers(answer)
    if not parsed.values and [row.exchange_symbol for row in parsed.unresolved] == [None]:
        again = adapter.parse_tickers(answer, wanted.natives[:1] or (UNNAMED,))
        if all(row.code is not ErrorCode.NOT_RETURNED for row in again.unresolved):
            parsed = again
    if parsed.refusal:
        yield refusal_line(parsed.refusal)
        return
    for ticker in parsed.values:
        if wanted.includes(ticker.exchange_symbol):
            yield ticker_line(adapter, ticker)
    for row in parsed.unresolved:
        if wanted.includes(row.exchange_symbol):
            yield unresolved_line(row)
    yield from wanted.missing(seen_symbols(parsed))


def seen_symbols(parsed: Parsed[Ticker]) -> list[str | None]:
    """Return the symbols an answer holds, read or not."""
    values = [ticker.exchange_symbol for ticker in parsed.values]
    return [*values, *(row.exchange_symbol for row in parsed.unresolved)]


def ticker_line(adapter: Adapter, ticker: Ticker) -> Line:
    """Write one ticker."""
    unnamed = ticker.exchange_symbol == UNNAMED
    return {
        "exchange_symbol": None if unnamed else ticker.exchange_symbol,
        "symbol": None if unnamed else listed_symbol(adapter, ticker.exchange_symbol),
        "price": plain(ticker.price),
        "volume": plain_or_none(ticker.volume),
        "quote_volume": plain_or_none(ticker.quote_volume),
        "event_ms": ticker.event_ms,
    }


def candle_lines(
    adapter: Adapter, answer: Answer, wanted: Wanted, resolution_ms: int
) -> Iterator[Line]:
    """Read a candle body. Raises `UnreadableError`."""
    parsed = adapter.parse_candles(answer, resolution_ms=resolution_ms)
    if parsed.refusal:
        yield refusal_line(parsed.refusal)
        return
    if not wanted.includes(parsed.exchange_symbol):
        yield from wanted.missing([parsed.exchange_symbol])
        return
    name = {"exchange_symbol": parsed.exchange_symbol} if parsed.exchange_symbol else {}
    for candle in parsed.values:
        yield {
            **name,
            "time_ms": candle.open_ms,
            "open": plain(candle.open),
            "high": plain(candle.high),
            "low": plain(candle.low),
            "close": plain(candle.close),
            "volume": plain_or_none(candle.volume),
        }
    yield from (unresolved_line(row) for row in parsed.unresolved)


def trade_lines(
    adapter: Adapter, messages: bytes, wanted: Wanted, received_ms: int
) -> Iterator[Line]:
    """Read WebSocket messages, one a line. An unreadable one is an error line of its own."""
    state: Any = {}
    for number, message in enumerate(messages.split(b"\n"), start=1):
        if not message.strip():
            continue
        try:
            frames = adapter.parse_message(message.strip(), state, received_ms)
        except UnreadableError as error:
            yield {"error": error.code, "detail": str(error), "line": number}
            continue
        state = frames.state
        for trade in frames.trades:
            if wanted.includes(trade.exchange_symbol):
                yield {
                    "line": number,
                    "exchange_symbol": trade.exchange_symbol,
                    "symbol": listed_symbol(adapter, trade.exchange_symbol),
                    "price": plain(trade.price),
                    "size": plain(trade.size),
                    "side": trade.side,
                    "trade_id": trade.trade_id,
                    "event_ms": trade.event_ms,
                }
        for row in frames.unresolved:
            if wanted.includes(row.exchange_symbol):
                yield unresolved_line(row) | {"line": number}


def refusal_line(refusal: Refusal) -> Line:
    """Write the refusal of a whole message."""
    line: Line = {"error": refusal.code, "detail": refusal.detail}
    if refusal.retry_after_ms is not None:
        line["retry_after_ms"] = refusal.retry_after_ms
    return line


def unresolved_line(row: Unresolved) -> Line:
    """Write one row that is no value."""
    line: Line = {"error": row.code, "detail": row.detail}
    if row.exchange_symbol not in (None, UNNAMED):
        line["exchange_symbol"] = row.exchange_symbol
    return line


def listed_symbol(adapter: Adapter, exchange_symbol: str) -> str | None:
    """Return our name of an exchange symbol, or None where it is not one of our listings.

    Kraken answers ``XXBTZUSD`` for what is listed as ``BTC/USD``.
    """
    symbol = adapter.from_native(exchange_symbol)
    if symbol is None:
        return None
    spellings = (exchange_symbol, adapter.to_native(symbol))
    return symbol if any(is_listed(adapter.NAME, spelling) for spelling in spellings) else None


def plain_or_none(number: Decimal | None) -> str | None:
    """Write a decimal with all its digits."""
    return None if number is None else plain(number)


def headers(lines: Sequence[str]) -> dict[str, str]:
    """Read ``Name: value`` headers. Raises ValueError on another form."""
    pairs = [line.partition(":") for line in lines]
    for name, colon, _ in pairs:
        if not colon or not name.strip():
            raise ValueError(f"--header takes 'Name: value', got {name!r}")
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


class Command(BaseCommand):
    """Print what an adapter reads; exit 1 when the whole payload is refused or unreadable."""

    help = "Read a recorded exchange payload and print its values, one JSON object a line."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the command line."""
        parser.add_argument("exchange", choices=sorted(ADAPTERS))
        parser.add_argument("kind", choices=KINDS, help="trades: one message a line")
        parser.add_argument("--symbols", nargs="+", default=[], help="BTC/USDT or BTCUSDT; or A,B")
        parser.add_argument("--status", type=int, default=200, help="the HTTP status it came with")
        parser.add_argument("--header", action="append", default=[], help="'Name: value'")
        parser.add_argument("--resolution", choices=list(RESOLUTIONS), default="1m")
        parser.add_argument("--received-ms", type=int, help="when it came; default: now")
        parser.add_argument("--file", type=Path, help="read this file, not standard input")

    def handle(self, *args: Any, **options: Any) -> None:
        """Read, print, and say by the exit code whether the payload could be read."""
        adapter = ADAPTERS[options["exchange"]]
        received_ms = options["received_ms"] or time.time_ns() // 1_000_000
        if not MIN_MS <= received_ms < MAX_MS:
            raise CommandError(f"--received-ms takes epoch milliseconds, got {received_ms}")
        try:
            wanted = wanted_symbols(adapter, options["symbols"])
            header = headers(options["header"])
            body = options["file"].read_bytes() if options["file"] else sys.stdin.buffer.read()
        except (ValueError, OSError) as error:
            raise CommandError(str(error)) from error
        answer = Answer(
            body=body, received_ms=received_ms, status=options["status"], headers=header
        )
        if options["kind"] == "trades":
            lines = trade_lines(adapter, body, wanted, received_ms)
        elif options["kind"] == "candles":
            lines = candle_lines(adapter, answer, wanted, RESOLUTIONS[options["resolution"]])
        else:
            lines = ticker_lines(adapter, answer, wanted)
        if not self.print(lines):
            sys.exit(1)

    def print(self, lines: Iterator[Line]) -> bool:
        """Print the lines; tell whether any of the payload could be read (bad rows are read)."""
        codes = []
        try:
            for line in lines:
                self.stdout.write(json.dumps(line))
                codes.append(line.get("error"))
        except UnreadableError as error:
            self.stdout.write(json.dumps({"error": error.code, "detail": str(error)}))
            return False
        return not codes or any(code is None or code in ROW_CODES for code in codes)
