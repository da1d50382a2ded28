"""From a trade on the exchange's socket to a published rate that contains it, without the waiting.

A rate is published every 10 s, at half a second past, of the 30 s that end with the whole second:
that is the design, not a delay. What remains is the pipeline's own share, measured of every trade:

    socket → log      sent by the exchange until its batch is in the Redis stream
    log → totals      until the sums of its second hold it: from here on a rate may contain it
    tick → price      the tick of that rate is due, until a client of the live edge has its price

``trade_to_price`` is their sum. Each rate published during the run must hold all that was sent in
its window: a trade that came too late for its tick is missing, and counted.

Floor: socket → log of the same messages at the same pace with nothing of ours (`bench.bare`).
"""

from __future__ import annotations

import json
import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from bench.bare import relay
from bench.exchange import CATALOG, NAME, NAMES, SYMBOLS, Tape, exchange, number_of
from bench.figures import Figure, percentile
from bench.processes import free_port, listens, running, until
from config.celery import app
from market.symbols import slug
from oracle import catalog, keys, rate_board, trade_log
from oracle.connection import redis_client
from oracle.trade_log import GROUP
from prices.rate import EVERY_MS, WINDOW_MS

LIMIT_MS = 250  # half of what users are promised
POLL_SECONDS = 0.003
DUE_AFTER_MS = round(app.conf.beat_schedule["rates"]["schedule"].at * 1_000)
EDGE = ("-m", "uvicorn", "config.asgi:application", "--no-access-log", "--log-level", "warning")
NOBODY = "http://127.0.0.1:9"  # the trades are simulated, and nothing else is asked for
EntryId = tuple[int, int]


def measure(*, per_second: int, seconds: int) -> list[Figure]:
    """The parts and the whole, over ``seconds``: at least two ticks."""
    trades = per_second * seconds
    _, floor = relay(trades=per_second * 10, per_second=per_second)
    catalog.publish(CATALOG)
    with _oracle() as port, _watching(port) as seen:
        with (
            exchange(trades=trades, per_second=per_second) as sender,
            running("manage.py", "collect", "--exchange", NAME, SIMULATOR_URL=sender.url),
        ):
            tape = sender.tape()
        time.sleep(1)
    delays = _delays(tape, seen)
    return [
        _figure("trade_to_price_p99", delays.whole, floor=floor, limit=LIMIT_MS),
        _figure("trade_to_price_p50", delays.whole, share=0.5),
        *(
            _figure(f"{part}_{name}", samples, share=share)
            for part, samples in (
                ("socket_to_log", delays.to_log),
                ("log_to_totals", delays.to_totals),
                ("tick_to_price", list(delays.ticks.values())),
            )
            for name, share in (("p50", 0.5), ("p99", 0.99))
        ),
        Figure(name="rate_trades_missing", value=_missing(tape, seen), unit="", limit=0),
    ]


def _figure(
    name: str,
    samples: Sequence[float],
    *,
    share: float = 0.99,
    floor: Sequence[float] | None = None,
    limit: float | None = None,
) -> Figure:
    return Figure(
        name=name,
        value=percentile(samples, share),
        unit="ms",
        floor=max(1.0, percentile(floor, share)) if floor else None,  # Redis counts whole ones
        floor_is="the same messages at the same pace put into Redis raw, p99 of socket to log",
        limit=limit,
    )


@contextmanager
def _oracle() -> Iterator[int]:
    """All that makes a rate of the log, and the live edge; its port."""
    port = free_port()
    schedule = f"{settings.ORACLE_HOME}/celerybeat-schedule"
    with (
        running("manage.py", "aggregate", SIMULATOR_URL=NOBODY),
        # Beat and the price worker. Celery warns of root's rights, which are not what is measured.
        running("-m", "config.stack.price", schedule, SIMULATOR_URL=NOBODY, LOG_LEVEL="error"),
        running(*EDGE, "--port", str(port), SIMULATOR_URL=NOBODY),
    ):
        until(lambda: listens(port), seconds=30, what="the live edge")
        yield port


@dataclass(slots=True)
class Seen:
    """What the watchers saw: when which entry was counted, and when which rate arrived."""

    counted: list[tuple[EntryId, float]] = field(default_factory=list)  # the newest, at ms
    arrived: dict[int, float] = field(default_factory=dict)  # tick_ms: the last symbol's, at ms
    rates: dict[tuple[str, int], int] = field(default_factory=dict)  # trades of a rate


@contextmanager
def _watching(port: int) -> Iterator[Seen]:
    """Watch the consumer group and the live edge from threads of their own."""
    seen, stop = Seen(), threading.Event()
    with connect(f"ws://127.0.0.1:{port}/ws/prices") as socket:
        request = {"pairs": [slug(name) for name in NAMES]}
        service = {"service": "PricesService@2.0.0", "method": "streamPrices"}
        socket.send(json.dumps({"id": "1", **service, "input": request}))
        threads = [
            threading.Thread(target=_watch_group, args=(seen, stop)),
            threading.Thread(target=_watch_edge, args=(seen, socket)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            stop.set()
            socket.close()
            for thread in threads:
                thread.join()


def _watch_group(seen: Seen, stop: threading.Event) -> None:
    """Note how far the log is counted: late by up to a poll, never early."""
    stream = keys.trades_stream(NAME)
    trade_log.ensure_group(NAME)
    while not stop.wait(POLL_SECONDS):
        pipe = redis_client().pipeline(transaction=True)
        pipe.xinfo_groups(stream)
        pipe.xpending(stream, GROUP)
        [group], pending = pipe.execute()
        if pending["pending"]:
            end = _entry_id(pending["min"])
        else:
            milliseconds, number = _entry_id(group["last-delivered-id"])
            end = milliseconds, number + 1
        if not seen.counted or seen.counted[-1][0] < end:
            seen.counted.append((end, time.time() * 1_000))


def _watch_edge(seen: Seen, socket: ClientConnection) -> None:
    """Note when the last symbol's price of a tick arrived, and of how many trades each is."""
    came: Counter[int] = Counter()
    with suppress(ConnectionClosed):
        for text in socket:
            message = json.loads(text)
            if "data" not in message:  # a ping
                continue
            tick_ms = message["data"]["timestamp"]
            came[tick_ms] += 1
            if came[tick_ms] == SYMBOLS:
                seen.arrived[tick_ms] = time.time() * 1_000
                for rate in rate_board.read(NAMES).values():
                    seen.rates[rate.symbol, rate.timestamp_ms] = rate.trade_count


def _entry_id(text: bytes) -> EntryId:
    milliseconds, number = text.split(b"-")
    return int(milliseconds), int(number)


@dataclass(slots=True)
class Delays:
    """Milliseconds, of each trade; ``ticks``: of each tick, by its time."""

    to_log: list[float] = field(default_factory=list)
    to_totals: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    ticks: dict[int, float] = field(default_factory=dict)


def _delays(tape: Tape, seen: Seen) -> Delays:
    ticks = {tick: at - tick - DUE_AFTER_MS for tick, at in sorted(seen.arrived.items())}
    found, ends = Delays(ticks=ticks), [end for end, _ in seen.counted]
    rows: Any = redis_client().xrange(keys.trades_stream(NAME))
    for text, fields in rows:
        entry = _entry_id(text)
        counted_ms = seen.counted[bisect_right(ends, entry)][1]
        for trade in trade_log.decode(fields):
            sent_ms = tape.sent_ms(number_of(trade.exchange_symbol, trade.trade_id or ""))
            found.to_log.append(max(0.0, entry[0] - sent_ms))  # Redis counts whole milliseconds
            found.to_totals.append(max(0.0, counted_ms - entry[0]))
            tick_ms = trade.event_ms // EVERY_MS * EVERY_MS + EVERY_MS
            if tick_ms in ticks:
                found.whole.append(counted_ms - sent_ms + ticks[tick_ms])
    return found


def _missing(tape: Tape, seen: Seen) -> int:
    """Trades that were sent in a published rate's window, and are not in it."""
    sent: Counter[tuple[str, int]] = Counter()
    for number, event_ms in tape.numbers():
        first_ms = event_ms // EVERY_MS * EVERY_MS + EVERY_MS
        for tick_ms in range(first_ms, first_ms + WINDOW_MS, EVERY_MS):
            sent[NAMES[number % SYMBOLS], tick_ms] += 1
    if len(seen.arrived) < 2:
        raise RuntimeError(f"rates arrived of {len(seen.arrived)} ticks only")
    return sum(abs(sent[key] - count) for key, count in seen.rates.items())
