"""Trades from a socket to minute totals: the real collector, the real Redis, the real aggregator.

The exchange sends as fast as the collector reads: what is measured is sustained, nothing waits
anywhere at the end, and every minute's totals must equal what was sent, to the last digit.

Floor: the same messages off the same socket into Redis as they are (`bench.bare`). It leaves out
all that is ours, and keeps what nobody can do without: the sender, the WebSocket library, Redis.
"""

from __future__ import annotations

import time

from bench.bare import relay
from bench.exchange import CATALOG, NAME, Tape, exchange
from bench.figures import Figure
from bench.processes import running
from oracle import catalog, trade_totals
from oracle.trade_totals import MinuteTotals, Sums

POLL_SECONDS = 0.1
QUIET_SECONDS = 5.0  # nothing more is counted: what is missing now is lost


def measure(*, trades: int) -> list[Figure]:
    """Trades a second over all of ``trades``, and how many of them are missing from the totals."""
    floor_seconds, _ = relay(trades=trades // 4)
    catalog.publish(CATALOG)
    with (
        running("manage.py", "aggregate"),
        exchange(trades=trades) as sender,
        running("manage.py", "collect", "--exchange", NAME, SIMULATOR_URL=sender.url),
    ):
        tape = sender.tape()
        seconds = _counted_at(trades) - tape.sent_ns[0] / 1e9
    return [
        Figure(
            name="trades_socket_to_minutes",
            value=trades / seconds,
            unit="/s",
            floor=trades // 4 / floor_seconds,
            floor_is="the same messages off the same socket, put into Redis raw",
            at_least=20_000,
        ),
        Figure(name="trades_lost", value=lost(tape), unit="", limit=0),
    ]


def _counted_at(trades: int) -> float:
    """When the last trade was in the totals, in seconds of the epoch."""
    count, changed_at = 0, time.time()
    while count < trades and time.time() - changed_at < QUIET_SECONDS:
        time.sleep(POLL_SECONDS)
        found = sum(each.sums.trade_count for each in all_totals())
        if found != count:
            count, changed_at = found, time.time()
    return changed_at


def all_totals() -> list[MinuteTotals]:
    """The totals of every minute there is: nobody flushes in a benchmark."""
    wanted = trade_totals.due(now_ms=2 * time.time_ns() // 1_000_000, grace_ms=0, limit=1_000_000)
    return list(trade_totals.read(wanted).values())


def lost(tape: Tape) -> int:
    """Trades of the tape that are not in the totals, or are twice.

    Raises RuntimeError where as many trades as were sent add up to something else.
    """
    expected = tape.minutes()
    found = {(each.symbol, each.open_ms): each.sums for each in all_totals()}
    wrong = 0
    for key in expected.keys() | found.keys():
        sent, counted = expected.get(key), found.get(key)
        difference = abs(_count(sent) - _count(counted))
        if not difference and sent != counted:
            raise RuntimeError(f"{key}: sent {sent}, counted {counted}")
        wrong += difference
    return wrong


def _count(sums: Sums | None) -> int:
    return sums.trade_count if sums else 0
