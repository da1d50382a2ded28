"""The whole index tick: read, convert, outliers, aggregate, candles, publish, count.

Floor: the bare Redis round trips that move the same bytes: reading the same hashes, and sending
the very same script calls, encoded beforehand.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Sequence
from decimal import Decimal

from bench.figures import Figure, percentile
from oracle import catalog, keys, price_board, ticker_book
from oracle.catalog import Catalog, CatalogListing, CatalogSymbol
from oracle.connection import redis_client, run_scripts
from oracle.values import Price, Ticker
from prices.index import IndexWriter

EXCHANGES = ("binance", "okx", "bybit", "kucoin", "upbit")
START_MS = 1_800_000_000_000
# Upbit's are in won: a fifth of all sources is converted.
RATE = "USDT/KRW"


def measure(symbol_count: int, *, ticks: int) -> list[Figure]:
    """The p99 of a tick with ``symbol_count`` symbols on five exchanges each."""
    catalog.publish(_catalog(symbol_count))
    writer, market = IndexWriter(), _Market(symbol_count)
    taken, bare = [], []
    gc.collect()
    gc.freeze()
    for number in range(ticks + 5):
        now_ms = START_MS + number * 1_000
        market.move(now_ms)
        started = time.perf_counter()
        tick = writer.tick(now_ms=now_ms + 500, token=f"{now_ms:016d}")
        middle = time.perf_counter()
        if tick.published != symbol_count + 1:
            raise RuntimeError(f"published {tick.published} of {symbol_count + 1} prices")
        floor = _bare_round_trips(tick.prices, now_ms)
        if number >= 5:  # the first ticks load scripts and make plans
            taken.append((middle - started) * 1_000)
            bare.append(floor * 1_000)
    gc.unfreeze()
    streams = symbol_count * len(EXCHANGES)
    return [
        Figure(
            name=f"index_tick_{streams}",
            value=percentile(taken, 0.99),
            unit="ms",
            floor=percentile(bare, 0.99),
            floor_is=f"bare Redis round trips with the same bytes, p99 of {ticks}",
            limit=300,
            max_ratio=5,
        )
    ]


def _catalog(symbol_count: int) -> Catalog:
    names = [f"C{number}" for number in range(symbol_count)]
    return Catalog(
        exchanges=EXCHANGES,
        symbols=(
            CatalogSymbol(name=RATE, base="USDT", quote="KRW", min_sources=1, is_rate=True),
            *(
                CatalogSymbol(name=f"{base}/USDT", base=base, quote="USDT", min_sources=3)
                for base in names
            ),
        ),
        listings=(
            CatalogListing(exchange="upbit", exchange_symbol="KRW-USDT", symbol=RATE, quote="KRW"),
            *(
                CatalogListing(
                    exchange=exchange,
                    exchange_symbol=f"{base}-USDT",
                    symbol=f"{base}/USDT",
                    quote="KRW" if exchange == "upbit" else "USDT",
                )
                for base in names
                for exchange in EXCHANGES
            ),
        ),
    )


class _Market:
    """Prices that all move each second, the same in every run."""

    def __init__(self, symbol_count: int) -> None:
        self._random = random.Random(7)
        self._bases = [10 ** self._random.uniform(-6, 5) for _ in range(symbol_count)]

    def move(self, now_ms: int) -> None:
        for exchange in EXCHANGES:
            won = exchange == "upbit"
            tickers = [
                self._ticker(f"C{number}-USDT", base * (1390 if won else 1), now_ms)
                for number, base in enumerate(self._bases)
            ]
            if won:
                tickers.append(self._ticker("KRW-USDT", 1390, now_ms))
            ticker_book.store(
                exchange,
                tickers,
                digest=str(now_ms),
                received_ms=now_ms + 200,
                token=f"{now_ms:016d}",
            )

    def _ticker(self, native: str, base: float, now_ms: int) -> Ticker:
        price = base * self._random.uniform(0.999, 1.001)
        volume = self._random.uniform(10, 100_000)
        return Ticker(
            exchange_symbol=native,
            price=Decimal(f"{price:.8g}").quantize(Decimal("1e-12")),
            volume=Decimal(f"{volume:.6f}"),
            quote_volume=Decimal(f"{volume * price:.8f}"),
            event_ms=now_ms - self._random.randrange(900),
            received_ms=now_ms,
        )


def _bare_round_trips(prices: Sequence[Price], now_ms: int) -> float:
    """Seconds for the same reads and the same script calls, with nothing computed between."""
    later_ms = now_ms + 501  # so that the script folds, as it does in a tick
    calls = price_board.script_calls(prices, now_ms=later_ms, token=f"{now_ms:016d}")
    started = time.perf_counter()
    client = redis_client()
    client.get(keys.catalog_version())
    pipe = client.pipeline(transaction=False)
    for exchange in EXCHANGES:
        pipe.hgetall(keys.tickers(exchange))
    pipe.execute()
    run_scripts("prices_publish", calls)
    return time.perf_counter() - started
