"""An exchange that only trades: ``python -m bench.exchange``, a process of its own.

It speaks Binance's stream, where each trade is a message of its own: the dearest way to say it.
The simulator makes its markets up trade by trade, and would be what is measured. Prints its port,
then, once all was sent, one line of JSON: when which trades went out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import IO

import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bench.processes import running
from oracle.catalog import Catalog, CatalogListing, CatalogSymbol
from oracle.trade_totals import MINUTE_MS, Sums

NAME = "binance"
SYMBOLS = 50
NAMES = tuple(f"C{number}/USDT" for number in range(SYMBOLS))
NATIVE = tuple(f"C{number}USDT" for number in range(SYMBOLS))
AT_ONCE = 200  # trades, when nothing but the reader holds us up
PACE_SECONDS = 0.002
TEXT_FRAME = b"\x81"

CATALOG = Catalog(
    exchanges=(NAME,),
    symbols=tuple(
        CatalogSymbol(name=name, base=name.split("/")[0], quote="USDT", min_sources=1)
        for name in NAMES
    ),
    listings=tuple(
        CatalogListing(exchange=NAME, exchange_symbol=native, symbol=name, quote="USDT")
        for name, native in zip(NAMES, NATIVE, strict=True)
    ),
    simulated=True,
)


def price_and_size(number: int) -> tuple[str, str]:
    """Of the trade with this number, as the message has them."""
    return f"{63_000 + number % 997}.{number % 100:02}000000", f"0.{number % 9_973 + 1:05}000"


def number_of(exchange_symbol: str, trade_id: str) -> int:
    """The number of a trade, by its market and its id in there."""
    return (int(trade_id) - 1) * SYMBOLS + NATIVE.index(exchange_symbol)


def frame(number: int, event_ms: int) -> bytes:
    """A trade's message in its WebSocket frame. Ids are contiguous within a symbol."""
    price, size = price_and_size(number)
    buyer_is_maker = "true" if number % 2 else "false"
    text = (
        f'{{"e":"trade","E":{event_ms},"s":"C{number % SYMBOLS}USDT","t":{number // SYMBOLS + 1},'
        f'"p":"{price}","q":"{size}","T":{event_ms},"m":{buyer_is_maker},"M":true}}'
    ).encode()
    size_bytes = bytes((len(text),)) if len(text) < 126 else b"\x7e" + len(text).to_bytes(2, "big")
    return TEXT_FRAME + size_bytes + text


@dataclass(frozen=True, slots=True)
class Tape:
    """What was sent: from the trade ``firsts[i]`` on, at ``sent_ns[i]`` (epoch nanoseconds)."""

    firsts: Sequence[int]
    sent_ns: Sequence[int]
    trades: int

    def sent_ms(self, number: int) -> float:
        """When this trade was put on the socket."""
        return self.sent_ns[bisect_right(self.firsts, number) - 1] / 1_000_000

    def numbers(self) -> Iterator[tuple[int, int]]:
        """Each trade's number with its event_ms."""
        ends = (*self.firsts[1:], self.trades)
        for first, end, sent_ns in zip(self.firsts, ends, self.sent_ns, strict=True):
            for number in range(first, end):
                yield number, sent_ns // 1_000_000

    def minutes(self) -> dict[tuple[str, int], Sums]:
        """The exact totals of each symbol's minutes."""
        found: dict[tuple[str, int], Sums] = {}
        for number, event_ms in self.numbers():
            price, size = map(Decimal, price_and_size(number))
            key = (NAMES[number % SYMBOLS], event_ms - event_ms % MINUTE_MS)
            found.setdefault(key, Sums()).add(
                Sums(volume=size, quote_volume=price * size, trade_count=1)
            )
        return found


@dataclass(slots=True)
class Exchange:
    """A running exchange: its address, and its tape once it has sent everything."""

    url: str
    _output: IO[str]

    def tape(self) -> Tape:
        """Wait until all was sent. Raises RuntimeError when the reader left before."""
        line = self._output.readline()
        if not line:
            raise RuntimeError("the exchange lost its reader before it had sent everything")
        return Tape(**json.loads(line))


@contextmanager
def exchange(*, trades: int, per_second: int = 0) -> Iterator[Exchange]:
    """Run one. ``per_second`` 0: as fast as the reader takes them."""
    amount = ("--trades", str(trades), "--per-second", str(per_second))
    with running("-m", "bench.exchange", *amount, reads="stdout") as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        yield Exchange(f"http://127.0.0.1:{port}", process.stdout)


async def send(connection: ServerConnection, trades: int, per_second: int) -> None:
    """Send everything, the frames past the library: its share would be ours to carry."""
    firsts, sent_ns, number, started = [], [], 0, time.perf_counter()
    while number < trades:
        end = number + AT_ONCE
        if per_second:
            await asyncio.sleep(PACE_SECONDS)
            end = int((time.perf_counter() - started) * per_second)
        end = min(end, trades)
        if end > number:
            now_ns = time.time_ns()
            firsts.append(number)
            sent_ns.append(now_ns)
            event_ms = now_ns // 1_000_000
            connection.transport.write(b"".join(frame(n, event_ms) for n in range(number, end)))
            number = end
            await connection.drain()
    print(json.dumps({"firsts": firsts, "sent_ns": sent_ns, "trades": trades}), flush=True)


async def run(trades: int, per_second: int) -> None:
    over = asyncio.Event()

    async def talk(connection: ServerConnection) -> None:
        sending: asyncio.Task[None] | None = None
        try:
            async for message in connection:
                await connection.send(json.dumps({"result": None, "id": json.loads(message)["id"]}))
                if sending is None and "SUBSCRIBE" in str(message):
                    sending = asyncio.create_task(send(connection, trades, per_second))
        except ConnectionClosed:
            pass
        over.set()

    async with serve(talk, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await over.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.exchange", description=__doc__)
    parser.add_argument("--trades", type=int, required=True)
    parser.add_argument("--per-second", type=int, required=True)
    arguments = parser.parse_args()
    uvloop.run(run(arguments.trades, arguments.per_second))


if __name__ == "__main__":
    main()
