"""What collectors wrote, measured by the tape of the simulated exchanges.

What is in the log equals the tape, or the difference lies in a named hole.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import requests

from oracle import keys, trade_log
from oracle.connection import redis_client
from oracle.trade_log import Hole, LoggedTrade

SYMBOLS = {
    "binance": ("BTCUSDT", "ETHUSDT"),
    "upbit": ("KRW-BTC", "KRW-ETH"),
    "kraken": ("BTC/USD", "ETH/USD"),
    "coinbase": ("BTC-USD", "ETH-USD"),
    "okx": ("BTC-USDT", "ETH-USDT"),
    "bybit": ("BTCUSDT", "ETHUSDT"),
    "kucoin": ("BTC-USDT", "ETH-USDT"),
}


def tape(simulator: str, exchange: str, symbol: str, *, from_ms: int, to_ms: int) -> list[Any]:
    """Every trade that was made in ``[from_ms, to_ms)``."""
    query: dict[str, Any] = {
        "exchange": exchange,
        "symbol": symbol,
        "from_ms": from_ms,
        "to_ms": to_ms,
    }
    rows: list[Any] = requests.get(f"{simulator}/control/tape", params=query, timeout=20).json()
    return rows


def entries(exchange: str) -> list[LoggedTrade]:
    """Every trade of the log."""
    rows: Any = redis_client().xrange(keys.trades_stream(exchange))
    return [trade for _, entry in rows for trade in trade_log.decode(entry)]


def logged(exchange: str, symbol: str) -> list[LoggedTrade]:
    """Those of a symbol."""
    return [trade for trade in entries(exchange) if trade.exchange_symbol == symbol]


def taped(rows: list[Any]) -> dict[str, tuple[Any, ...]]:
    """The facts of the tape's trades, by id."""
    return {
        str(row["trade_id"]): (
            *(Decimal(row["price"]), Decimal(row["size"])),
            *(row["side"], row["event_ms"]),
        )
        for row in rows
    }


def facts(trades: list[LoggedTrade]) -> dict[str, tuple[Any, ...]]:
    """The facts of logged trades, by id."""
    return {
        str(trade.trade_id): (trade.price, trade.size, trade.side, trade.event_ms)
        for trade in trades
    }


def check(simulator: str, exchange: str, *, complete: bool) -> None:
    """No trade twice, none that the tape has not, and none missing outside the named holes."""
    for symbol in SYMBOLS[exchange]:
        trades = logged(exchange, symbol)
        counts = Counter(trade.trade_id for trade in trades)
        assert not [each for each, count in counts.items() if count > 1]
        times = [trade.event_ms for trade in trades]
        first_ms, last_ms = min(times), max(times)
        rows = tape(simulator, exchange, symbol, from_ms=first_ms, to_ms=last_ms + 1)
        expected = taped(rows)
        # The very first and last moment may have been cut in two.
        inner = {k: v for k, v in expected.items() if first_ms < v[3] < last_ms}
        found = facts(trades)
        assert {k: v for k, v in found.items() if k not in expected} == {}
        assert {k: v for k, v in found.items() if v != expected[k]} == {}
        missing = {k: v for k, v in inner.items() if k not in found}
        if complete:
            assert missing == {}
        named = trade_log.holes(exchange)
        assert [k for k, v in missing.items() if not in_hole(symbol, k, v[3], named)] == []


def in_hole(symbol: str, trade_id: str, event_ms: int, named: list[Hole]) -> bool:
    """Does a hole name this trade, by its id or else by its time?"""
    for hole in named:
        if hole.exchange_symbol != symbol:
            continue
        if hole.missing is not None and hole.after_id and hole.before_id:
            if int(hole.after_id) < int(trade_id) < int(hole.before_id):
                return True
        elif hole.from_ms <= event_ms <= hole.to_ms:
            return True
    return False


def no_open_hole(exchange: str) -> bool:
    """Is everything that was missing had by now, or given up?"""
    return not [hole for hole in trade_log.holes(exchange) if hole.is_open]
