"""A collector dies, and its standby takes over: two real ones, the simulator, the real aggregator.

The time from the signal to the successor's first entry in the trade log. Killed (SIGKILL), a
collector leaves its lease behind, which has to end: within LEASE_TTL_MS a successor writes. It is
killed at the worst moment, just after its heartbeat. Stopped (SIGTERM), it gives the role back.

Then every minute is compared with the simulator's tape: no trade may be in the totals twice, and
none may be missing outside a hole that is named.

Floor of the term: a bare WebSocket client of the same simulator, from connect to the first trade.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from typing import Any

from websockets.sync.client import connect

from bench.figures import Figure
from bench.processes import running, until
from bench.socket_to_minutes import all_totals
from market import seeds
from oracle import catalog, keys, trade_log, trade_totals
from oracle.catalog import Catalog, CatalogListing, CatalogSymbol
from oracle.connection import redis_client
from oracle.trade_log import Hole
from oracle.trade_totals import MINUTE_MS, Sums

EXCHANGE = "binance"
TRADES_PER_MINUTE = "600"  # of a listing: that one comes soon is not what is measured
LEASE_SECONDS, HEARTBEAT_SECONDS = 30, 10  # the settings' defaults
SHORT_LEASE_SECONDS, SHORT_HEARTBEAT_SECONDS = 3, 1
TAKEOVER_SECONDS = 30  # after the lease has ended
POLL_SECONDS = 0.002
SETTLE_MS = 3_000  # what was missed is fetched late
QUOTES = {symbol.name: symbol.quote for symbol in seeds.SYMBOLS}
LISTINGS = tuple(
    CatalogListing(
        exchange=EXCHANGE,
        exchange_symbol=each.exchange_symbol,
        symbol=each.symbol,
        quote=each.quote,
    )
    for each in seeds.LISTINGS
    if each.exchange == EXCHANGE and each.quote == QUOTES[each.symbol]
)


def measure(*, terms: int, kills: int, short_kills: int) -> list[Figure]:
    """The slowest of each kind; ``short_kills`` are with a lease of 3 s."""
    catalog.publish(_catalog())
    with _simulator() as url, running("manage.py", "aggregate"):
        floor = statistics.median(_first_trade(url) for _ in range(terms))
        default = (LEASE_SECONDS, HEARTBEAT_SECONDS)
        short = (SHORT_LEASE_SECONDS, SHORT_HEARTBEAT_SECONDS)
        termed = _takeovers(url, signal.SIGTERM, times=terms, lease=default)
        killed = _takeovers(url, signal.SIGKILL, times=kills, lease=default)
        killed_short = _takeovers(url, signal.SIGKILL, times=short_kills, lease=short)
        twice, lost = _against_the_tape(url, _whole_minutes(url, default))
    return [
        _kill_figure("failover_kill", killed, LEASE_SECONDS, max_ratio=1),
        _kill_figure("failover_kill_3s", killed_short, SHORT_LEASE_SECONDS, max_ratio=None),
        Figure(
            name="failover_term",
            value=max(termed),
            unit="s",
            floor=floor,
            floor_is="a bare client, from connect to its first trade, median",
            limit=1,
        ),
        Figure(name="failover_term_p50", value=statistics.median(termed), unit="s"),
        Figure(name="failover_counted_twice", value=twice, unit="", limit=0),
        Figure(name="failover_lost", value=lost, unit="", limit=0),
    ]


def _kill_figure(name: str, seconds: list[float], lease: int, *, max_ratio: float | None) -> Figure:
    return Figure(
        name=name,
        value=max(seconds),
        unit="s",
        floor=lease,
        floor_is="the lease, renewed just before",
        max_ratio=max_ratio,
    )


def _catalog() -> Catalog:
    names = {each.symbol: each.quote for each in LISTINGS}
    symbols = tuple(
        CatalogSymbol(name=name, base=name.split("/")[0], quote=quote, min_sources=1)
        for name, quote in names.items()
    )
    return Catalog(exchanges=(EXCHANGE,), symbols=symbols, listings=LISTINGS, simulated=True)


@contextmanager
def _simulator() -> Iterator[str]:
    words = ("ingestion.simulator", "--port", "0", "--rate-per-minute", TRADES_PER_MINUTE)
    with running("-m", *words, reads="stdout") as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]


def _first_trade(url: str) -> float:
    """Seconds that a client with nothing of ours needs for its first trade."""
    streams = [f"{each.exchange_symbol.lower()}@trade" for each in LISTINGS]
    started = time.perf_counter()
    with connect(f"{url.replace('http', 'ws')}/{EXCHANGE}/ws", compression=None) as socket:
        socket.send(json.dumps({"method": "SUBSCRIBE", "params": streams, "id": 1}))
        while '"e":"trade"' not in str(socket.recv()):
            pass
        return time.perf_counter() - started


# --- taking over ---


def _takeovers(
    url: str, number: signal.Signals, *, times: int, lease: tuple[int, int]
) -> list[float]:
    """Seconds from the signal to the successor's first entry, ``times`` times."""
    with ExitStack() as collectors:
        leading = _collector(collectors, url, lease, until_it="leader.taken")
        taken = []
        for _ in range(times):
            successor = _collector(collectors, url, lease, until_it="collect.standing_by")
            taken.append(_takeover(leading, number))
            leading = successor
        return taken


def _collector(
    collectors: ExitStack, url: str, lease: tuple[int, int], *, until_it: str
) -> subprocess.Popen[str]:
    """One more collector, once it has said ``until_it``."""
    ttl, heartbeat = (str(seconds * 1_000) for seconds in lease)
    process = collectors.enter_context(
        running(
            *("manage.py", "collect", "--exchange", EXCHANGE),
            reads="stderr",
            SIMULATOR_URL=url,
            LOG_LEVEL="info",
            LEASE_TTL_MS=ttl,
            LEASE_HEARTBEAT_MS=heartbeat,
        )
    )
    assert process.stderr is not None
    for line in process.stderr:
        if until_it in line:
            return process
    raise RuntimeError(f"a collector ended before it said {until_it}")


def _takeover(leading: subprocess.Popen[str], number: signal.Signals) -> float:
    _, entry_before = _log()
    until(lambda: _log()[1] > entry_before, seconds=10, what="the collector to write")
    if number is signal.SIGKILL:
        _wait_for_heartbeat()
    fence_before, _ = _log()
    signalled_ms = _now_ms()
    os.kill(leading.pid, number)
    deadline = time.monotonic() + LEASE_SECONDS + TAKEOVER_SECONDS
    while True:  # the last entries of who was signalled come before the fence is raised
        fence, entry_at_fence = _log()
        if fence != fence_before:
            break
        if time.monotonic() > deadline:
            raise TimeoutError("the lease ended long ago, and nobody took over")
        time.sleep(POLL_SECONDS)
    until(lambda: _log()[1] > entry_at_fence, seconds=10, what="the successor to write")
    return (_log()[1][0] - signalled_ms) / 1_000


def _log() -> tuple[bytes, tuple[int, int]]:
    """The fence of the trade log and the id of its newest entry, of one moment."""
    pipe = redis_client().pipeline(transaction=True)
    pipe.get(keys.fence(f"trades:{EXCHANGE}"))
    pipe.xrevrange(keys.trades_stream(EXCHANGE), count=1)
    fence, rows = pipe.execute()
    milliseconds, number = rows[0][0].split(b"-") if rows else (0, 0)
    return fence, (int(milliseconds), int(number))


def _wait_for_heartbeat() -> None:
    key, left = keys.leader(f"collect:{EXCHANGE}"), [0]

    def renewed() -> bool:
        left.append(redis_client().pttl(key))
        return left[-1] > left[-2] > 0

    until(renewed, seconds=2 * HEARTBEAT_SECONDS, what="the leader's heartbeat")


# --- against the tape ---


def _whole_minutes(url: str, lease: tuple[int, int]) -> range:
    """Collect to the end of this minute; all minutes from the first whole one on."""
    with ExitStack() as collectors:
        _collector(collectors, url, lease, until_it="leader.taken")
        end_ms = _next_minute(_now_ms())
        until(lambda: _now_ms() > end_ms + SETTLE_MS, seconds=90, what="the minute's end")
        # Binance's budget for questions is spent by so many takeovers: it takes its time.
        until(_no_open_hole, seconds=180, what="what was missed to be fetched")
        _all_counted()
    rows: Any = redis_client().xrange(keys.trades_stream(EXCHANGE), count=1)
    [(oldest, _)] = rows
    return range(_next_minute(int(oldest.split(b"-")[0])), end_ms, MINUTE_MS)


def _no_open_hole() -> bool:
    return not any(hole.is_open for hole in trade_log.holes(EXCHANGE))


def _all_counted() -> None:
    def is_counted() -> bool:
        return not trade_totals.lags_ms([EXCHANGE], now_ms=_now_ms())[EXCHANGE]

    until(is_counted, seconds=10, what="the log to be counted")


def _against_the_tape(url: str, minutes: range) -> tuple[int, int]:
    """How many trades are in the totals twice, and how many are missing and in no hole.

    Raises RuntimeError where as many trades as there were add up to something else.
    """
    found = {(each.symbol, each.open_ms): each.sums for each in all_totals()}
    holes, twice, lost = trade_log.holes(EXCHANGE), 0, 0
    for listing in LISTINGS:
        tape = _tape(url, listing.exchange_symbol, minutes)
        for minute_ms in minutes:
            rows = [row for row in tape if minute_ms <= row["event_ms"] < minute_ms + MINUTE_MS]
            whole, counted = _sums(rows), found.get((listing.symbol, minute_ms), Sums())
            difference = counted.trade_count - whole.trade_count
            if not difference and counted != whole:
                raise RuntimeError(f"{listing.symbol} {minute_ms}: {counted} is not {whole}")
            named = sum(_is_named(row, listing.exchange_symbol, holes) for row in rows)
            twice += max(0, difference)
            lost += max(0, -difference - named)
    return twice, lost


def _tape(url: str, exchange_symbol: str, minutes: range) -> list[dict[str, Any]]:
    """What a market really traded in these minutes."""
    asked = {"exchange": EXCHANGE, "symbol": exchange_symbol}
    span = {"from_ms": minutes.start, "to_ms": minutes.stop}
    query = urllib.parse.urlencode(asked | span)
    with urllib.request.urlopen(f"{url}/control/tape?{query}", timeout=30) as answer:
        rows: list[dict[str, Any]] = json.loads(answer.read())
        return rows


def _sums(rows: list[dict[str, Any]]) -> Sums:
    total = Sums()
    for row in rows:
        price, size = Decimal(row["price"]), Decimal(row["size"])
        total.add(Sums(volume=size, quote_volume=price * size, trade_count=1))
    return total


def _is_named(row: dict[str, Any], exchange_symbol: str, holes: list[Hole]) -> bool:
    return any(
        hole.exchange_symbol == exchange_symbol and hole.from_ms <= row["event_ms"] <= hole.to_ms
        for hole in holes
    )


def _next_minute(moment_ms: int) -> int:
    return moment_ms - moment_ms % MINUTE_MS + MINUTE_MS


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
