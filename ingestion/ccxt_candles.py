"""Candles of any exchange that ccxt knows and that has no adapter of ours.

ccxt takes 70 MB and a second to import, so it is imported by the first fetch and nowhere else: who
only asks which exchanges there are reads the names of its files. It is an extra
(`requirements/ccxt.txt`): nothing else needs it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

from django.conf import settings

from ingestion import budget
from ingestion.candle_pages import CandlePage, Stopped
from market.coverage import Series
from market.ranges import TimeRange
from oracle import locks
from oracle.values import RESOLUTIONS, Candle, ErrorCode

HOW_TO_INSTALL = "for those of ccxt: pip install -r requirements/ccxt.txt"
TIMEOUT_MS = 20_000  # of one HTTP call: a list of all markets may have several MB
ATTEMPTS = 5
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 1.0, 30.0
# So long a page waits for the exchange to let us ask again.
PATIENCE_SECONDS = 120.0
# What an exchange that states no limit gives at least.
FEW_CANDLES = 100
# Longer candles that show whether anybody traded in a hole.
WITNESSES = ("1d", "4h", "1h", "15m", "5m")


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A ccxt exchange; ``using`` it is one thread's right at a time, for it is not made for two."""

    exchange: Any
    using: threading.Lock = field(default_factory=threading.Lock)


class _CallError(Exception):
    def __init__(self, detail: str, *, retryable: bool) -> None:
        super().__init__(detail)
        self.retryable = retryable


def is_installed() -> bool:
    """Is ccxt there? Without importing it."""
    return find_spec("ccxt") is not None


@cache
def _names() -> frozenset[str]:
    spec = find_spec("ccxt")
    folders = spec.submodule_search_locations if spec else None
    files = (file for folder in folders or () for file in Path(folder).glob("*.py"))
    return frozenset(file.stem for file in files) - {"__init__"}


def exchanges() -> frozenset[str]:
    """Every exchange that ccxt knows; none where it is not installed, nor among simulated ones."""
    return frozenset() if settings.SIMULATED else _names()


@cache
def client(name: str) -> Client:
    """This process's client of an exchange, which keeps its list of markets."""
    exchange = getattr(import_module("ccxt"), name)(
        {"enableRateLimit": True, "timeout": TIMEOUT_MS}
    )
    exchange.rateLimit = max(exchange.rateLimit, settings.CCXT_RATE_LIMIT_MS)
    exchange.number = str  # the digits as they were sent, not a float's
    exchange.has["fetchCurrencies"] = False  # another call, for what no candle needs
    return Client(exchange=exchange)


def fetch(
    series: Series, whole: TimeRange, *, now_ms: int, stop: Event | None = None
) -> Iterator[CandlePage]:
    """Yield pages that together are ``whole``, oldest first, as `ingestion.candle_pages` does.

    ``whole`` is of closed buckets. Blocks while rates and pauses make it wait. Raises `Stopped`
    once ``stop`` is set.
    """
    asker = _Asker(
        series=series,
        client=client(series.exchange),
        step_ms=RESOLUTIONS[series.timeframe],
        now_ms=now_ms,
        stop=stop or Event(),
    )
    return asker.pages(whole)


@dataclass(slots=True, kw_only=True)
class _Asker:
    """One series being asked for; ``now_ms`` is when that began."""

    series: Series
    client: Client
    step_ms: int
    now_ms: int
    stop: Event
    began: float = field(default_factory=monotonic)

    def pages(self, whole: TimeRange) -> Iterator[CandlePage]:
        start_ms = whole.start_ms
        try:
            self._check_market()
            while start_ms < whole.end_ms:
                left = replace(whole, start_ms=start_ms)
                for page in self._read(left, self._rows(start_ms)):
                    start_ms = page.whole.end_ms
                    yield page
        except _CallError as error:
            left = replace(whole, start_ms=start_ms)
            yield CandlePage(whole=left, error=str(error), retryable=error.retryable)

    def _check_market(self) -> None:
        """Raises `_CallError` for a symbol or timeframe that the exchange does not have."""
        exchange, name = self.client.exchange, self.series.exchange
        if self.series.timeframe not in (exchange.timeframes or {}):
            there = " ".join(exchange.timeframes or {}) or "none"
            detail = f"{name} has candles of {there}, not of {self.series.timeframe}"
            raise _CallError(detail, retryable=False)
        markets = self._call(exchange.load_markets)
        if self.series.symbol not in markets:  # listed since we asked?
            markets = self._call(lambda: exchange.load_markets(True))
        if self.series.symbol not in markets:
            raise _CallError(f"{name} does not list {self.series.symbol}", retryable=False)

    def _read(self, whole: TimeRange, candles: list[Candle]) -> list[CandlePage]:
        """The pages that an answer to "from ``whole.start_ms`` on" proves: one, or two.

        Where it begins later, nobody traded before, or the exchange does not keep it any more.
        """
        limit = self._limit() or FEW_CANDLES
        first_ms = candles[0].open_ms if candles else whole.start_ms + limit * self.step_ms
        end_ms = min(candles[-1].open_ms + self.step_ms if candles else first_ms, whole.end_ms)
        inside = tuple(candle for candle in candles if candle.open_ms < whole.end_ms)
        if first_ms == whole.start_ms:
            return [CandlePage(whole=replace(whole, end_ms=end_ms), candles=inside)]
        gap = replace(whole, end_ms=min(first_ms, whole.end_ms))
        newest = len(candles) >= limit and candles[-1].open_ms + 2 * self.step_ms >= self._clock()
        if not (newest or self._traded(gap)):
            return [CandlePage(whole=replace(whole, end_ms=end_ms), candles=inside)]
        lost = CandlePage(whole=gap, unavailable=True)
        if not inside:
            return [lost]
        kept = TimeRange(start_ms=gap.end_ms, end_ms=end_ms)
        return [lost, CandlePage(whole=kept, candles=inside)]

    def _traded(self, gap: TimeRange) -> bool:
        """Do longer candles within a gap show trades, so that it is no quiet time?"""
        for timeframe in WITNESSES:
            long_ms = RESOLUTIONS[timeframe]
            start_ms = -(-gap.start_ms // long_ms) * long_ms
            fits = start_ms + long_ms <= gap.end_ms and long_ms > self.step_ms
            if fits and timeframe in self.client.exchange.timeframes:
                return any(
                    candle.volume and candle.open_ms + long_ms <= gap.end_ms
                    for candle in self._rows(start_ms, timeframe=timeframe)
                )
        return False

    def _limit(self) -> int | None:
        """How many candles the exchange gives at most, where ccxt knows."""
        found = self.client.exchange.feature_value_by_type("spot", None, "fetchOHLCV", "limit")
        return int(found) if found else None

    def _rows(self, since_ms: int, *, timeframe: str | None = None) -> list[Candle]:
        """The candles that open at ``since_ms`` or later, as many as one call gives."""
        timeframe = timeframe or self.series.timeframe
        rows = self._call(
            lambda: self.client.exchange.fetch_ohlcv(
                self.series.symbol, timeframe, since_ms, self._limit()
            )
        )
        try:
            candles = {candle.open_ms: candle for candle in map(_candle, rows)}
        except (ValueError, TypeError, InvalidOperation) as error:
            raise _CallError(f"a candle that cannot be read: {error}", retryable=False) from error
        if bad := [ms for ms in candles if ms % RESOLUTIONS[timeframe]]:
            detail = f"a {timeframe} candle opens at {bad[0]} ms, which is no whole bucket"
            raise _CallError(detail, retryable=False)
        return [candles[ms] for ms in sorted(candles) if ms >= since_ms]

    def _call(self, ask: Callable[[], Any]) -> Any:
        """Ask until there is an answer. Raises `_CallError` where there is none."""
        failures, deadline = 0, monotonic() + PATIENCE_SECONDS
        while True:
            self._await_turn(deadline)
            try:
                with self.client.using:
                    return ask()
            except import_module("ccxt").BaseError as error:
                failure = describe(error)
                if is_rate_limit(error):
                    budget.block(
                        self.series.exchange, code=ErrorCode.RATE_LIMIT, now_ms=self._clock()
                    )
            failures += 1
            if not failure.retryable or failures >= ATTEMPTS:
                raise failure
            pause = min(FIRST_PAUSE_SECONDS * 2 ** (failures - 1), MAX_PAUSE_SECONDS)
            self._wait(pause * random.uniform(1.0, 1.3))

    def _await_turn(self, deadline: float) -> None:
        """Wait for the exchange's rate, which all processes share, and for the end of a block."""
        name = self.series.exchange
        while True:
            now_ms = self._clock()
            until_ms = budget.blocked_until(name, now_ms=now_ms)
            if until_ms is None:
                # Never given back: it expires when the next call may be made.
                gap_ms = max(1, round(self.client.exchange.rateLimit))
                if locks.acquire(f"ccxt:{name}", ttl_ms=gap_ms) is not None:
                    return
                wait_seconds = gap_ms / 1_000 * random.uniform(0.1, 1.0)
            else:
                wait_seconds = (until_ms - now_ms) / 1_000
            if monotonic() + wait_seconds > deadline:
                raise _CallError(f"{name} does not want to be asked now", retryable=True)
            self._wait(wait_seconds)

    def _clock(self) -> int:
        return self.now_ms + round((monotonic() - self.began) * 1_000)

    def _wait(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise Stopped


def describe(error: Exception) -> _CallError:
    """What a ccxt error means: its network and rate limit errors may pass, all others stay."""
    retryable = isinstance(error, import_module("ccxt").OperationFailed)
    return _CallError(f"{type(error).__name__}: {str(error)[:200]}", retryable=retryable)


def is_rate_limit(error: Exception) -> bool:
    """Did we ask too often?"""
    ccxt = import_module("ccxt")
    return isinstance(error, (ccxt.RateLimitExceeded, ccxt.DDoSProtection))


def _candle(row: list[Any]) -> Candle:
    """Read ``[open_ms, open, high, low, close, volume]``, numbers as text or as floats.

    A float becomes the shortest decimal that means it: 0.1, not 0.1000000000000000055.
    """
    open_ms, *prices, volume = row[:6]
    opened, high, low, close = (Decimal(str(price)) for price in prices)
    return Candle(
        open_ms=int(open_ms),
        open=opened,
        high=high,
        low=low,
        close=close,
        volume=None if volume is None else Decimal(str(volume)),
    )
