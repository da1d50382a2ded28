"""Trades through the whole stack, disturbed at every joint, against the tape of the simulator.

Sockets are cut, the aggregator and the collector are killed, Redis is restarted. Then every closed
minute's volume, trade count and quote volume must equal what the market really traded: exactly,
or short of no more than the trades that lie in holes the collector has named.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from config import embedded
from market import seeds
from tests.stack import ROOT, Stack, demo, until

pytestmark = pytest.mark.chaos

MINUTE_MS = 60_000
HOLE = re.compile(r"(?P<exchange>\w+) (?P<symbol>\S+) (?P<start>\S+) to (?P<end>\S+) after")

# Each market belongs to one symbol: the one in its own quote currency.
QUOTES = {symbol.name: symbol.quote for symbol in seeds.SYMBOLS}
MARKETS = [each for each in seeds.LISTINGS if each.quote == QUOTES[each.symbol]]


@dataclass(frozen=True)
class Sums:
    volume: Decimal
    quote_volume: Decimal
    count: int


@pytest.fixture
def stack(tmp_path: Path, postgres_server: None) -> Iterator[Stack]:
    with demo(tmp_path) as running:
        yield running


def test_after_every_disturbance_each_minute_equals_the_tape(stack: Stack) -> None:
    until(lambda: stack.running() and _listening(stack), seconds=120, what="collectors")
    first_ms = (_now_ms() // MINUTE_MS + 1) * MINUTE_MS
    until(lambda: _now_ms() > first_ms + 5_000, seconds=70, what="a whole minute to begin")

    stack.fault(exchange="*", fault="disconnect", seconds=2)
    stack.fault(exchange="binance", fault="repeat_trades", value=0.5, seconds=20)
    stack.fault(exchange="coinbase", fault="drop_trades", value=0.3, seconds=20)
    _kill(stack, "aggregate")
    until(lambda: _now_ms() > first_ms + 40_000, seconds=60, what="later in the minute")
    _kill(stack, "collect")
    until(lambda: _now_ms() > first_ms + 85_000, seconds=60, what="the next minute")
    stack.supervisor("restart", "databases:redis")
    _kill(stack, "aggregate")

    minutes = [first_ms, first_ms + MINUTE_MS, first_ms + 2 * MINUTE_MS]
    # A killed collector's lease ends after 30 s, and what it missed is fetched late: the minutes
    # are revised until they are whole.
    until(
        lambda: _now_ms() > minutes[-1] + 2 * MINUTE_MS + 15_000 and _listening(stack),
        seconds=200,
        what="everybody to be back",
    )
    # Redis may have lost up to a second before its restart: prices of that tick, and what was
    # fetched again was counted once. What an exchange's budget lets a collector fetch late closes
    # its hole at once, and is in the minute with the next flush.
    for minute_ms in minutes:
        end_ms = _now_ms() + MINUTE_MS + 15_000
        while (wrong := _compare(stack, minute_ms)) and _now_ms() < end_ms:
            time.sleep(5)
        assert wrong == []


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _listening(stack: Stack) -> bool:
    status, health = stack.get("/api/v1/health")
    return bool(status == 200 and health["checks"]["trades"]["status"] == "up")


def _kill(stack: Stack, program: str) -> None:
    """SIGKILL; supervisord starts it again."""
    pid = int(stack.supervisor("pid", f"oracle:{program}").strip())
    os.kill(pid, signal.SIGKILL)
    until(
        lambda: stack.supervisor("pid", f"oracle:{program}").strip() not in ("0", str(pid)),
        seconds=30,
        what=f"{program} to be started again",
    )


def _compare(stack: Stack, minute_ms: int) -> list[str]:
    """What of a minute is neither on the tape nor explained by a hole."""
    stored, holes = _stored(stack, minute_ms), _holes(stack)
    wrong = []
    for symbol in sorted({each.symbol for each in MARKETS}):
        whole, certain = _on_the_tape(stack, symbol, minute_ms, holes)
        found = stored.get(symbol)
        if found is None:
            wrong.append(f"{symbol}: not stored")
        elif whole == certain and found != whole:
            wrong.append(f"{symbol}: {found} is not {whole}, and no hole is named")
        elif not _is_between(certain, found, whole):
            wrong.append(f"{symbol}: {found} is not between {certain} and {whole}")
    return wrong


def _on_the_tape(
    stack: Stack, symbol: str, minute_ms: int, holes: list[tuple[str, str, int, int]]
) -> tuple[Sums, Sums]:
    """All that was traded in a minute, and the same without what lies in holes."""
    whole = certain = Sums(Decimal(0), Decimal(0), 0)
    for market in (each for each in MARKETS if each.symbol == symbol):
        spans = [
            (start, end)
            for exchange, native, start, end in holes
            if (exchange, native) == (market.exchange, market.exchange_symbol)
        ]
        for trade in stack.tape(market.exchange, market.exchange_symbol, minute_ms, MINUTE_MS):
            size, price = Decimal(trade["size"]), Decimal(trade["price"])
            whole = _plus(whole, size, price)
            if not any(start <= trade["event_ms"] <= end for start, end in spans):
                certain = _plus(certain, size, price)
    return whole, certain


def _plus(sums: Sums, size: Decimal, price: Decimal) -> Sums:
    return Sums(sums.volume + size, sums.quote_volume + size * price, sums.count + 1)


def _is_between(least: Sums, found: Sums, most: Sums) -> bool:
    return all(
        getattr(least, name) <= getattr(found, name) <= getattr(most, name)
        for name in ("volume", "quote_volume", "count")
    )


def _stored(stack: Stack, minute_ms: int) -> dict[str, Sums]:
    with psycopg.connect(
        host=str(embedded.socket_folder(stack.home)), user="postgres", dbname="oracle"
    ) as connection:
        rows = connection.execute(
            "SELECT symbol, volume, quote_volume, trade_count FROM ohlcv_1m "
            "WHERE time = to_timestamp(%s) AND volume IS NOT NULL",
            (minute_ms // 1_000,),
        )
        return {row[0]: Sums(*row[1:]) for row in rows}


def _holes(stack: Stack) -> list[tuple[str, str, int, int]]:
    """The holes as a person sees them."""
    script = f'. "{stack.home}/environment" && "{sys.executable}" manage.py collect --holes'
    done = subprocess.run(
        ["sh", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    found = []
    for line in done.stdout.splitlines():
        match = HOLE.match(line)
        assert match, line
        start, end = (_to_ms(match[name]) for name in ("start", "end"))
        found.append((match["exchange"], match["symbol"], start, end))
    return found


def _to_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000)
