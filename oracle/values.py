"""The values every part of the oracle speaks in: frozen, keyword-only, refusing to be built wrong.

Times are epoch milliseconds as ``int``; prices and sizes are finite ``Decimal``. A value that
exists is one that may reach a price, so the checks are real and live here, not at each caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Literal

import msgspec

# The candles we keep, by name and length in milliseconds; an exchange may lack one.
RESOLUTIONS: Mapping[str, int] = {
    "1m": 60_000,
    "5m": 300_000,
    "15m": 900_000,
    "1h": 3_600_000,
    "4h": 14_400_000,
    "1d": 86_400_000,
}

MIN_MS = 1_000_000_000_000  # 2001-09-09: below this a number is seconds, not milliseconds
MAX_MS = 10_000_000_000_000  # 2286-11-20: above this it is micro- or nanoseconds
# What NUMERIC(38,18) can hold. Beyond it a price could not be stored, and one such row would stop
# the flush of all others.
MIN_PRICE = Decimal("1e-18")
MAX_PRICE = Decimal("1e20")
MAX_AMOUNT = Decimal("1e30")
MAX_DIGITS = 50  # KuCoin has sent 30; more is no price but an attack on our arithmetic

Side = Literal["buy", "sell"]
Method = Literal["vwap", "median"]
Status = Literal["fresh", "degraded", "stale"]


class ErrorCode(StrEnum):
    """Why a message, a row or a source did not become part of a price. A closed list."""

    # the exchange (or the way to it) refused the whole message
    RATE_LIMIT = "RATE_LIMIT"
    IP_BAN = "IP_BAN"
    BLOCKED = "BLOCKED"  # this address or country is not served (451, 403): waiting does not help
    UNKNOWN_SYMBOL = "UNKNOWN_SYMBOL"
    BAD_REQUEST = "BAD_REQUEST"
    WINDOW_TOO_LARGE = "WINDOW_TOO_LARGE"
    BUSY = "BUSY"  # overloaded or in maintenance: worth another try
    EXCHANGE_ERROR = "EXCHANGE_ERROR"
    UNREADABLE = "UNREADABLE"  # HTML, half a JSON, another shape altogether
    TIMEOUT = "TIMEOUT"
    CONNECTION = "CONNECTION"
    # one row is wrong; its neighbours are not
    MISSING_FIELD = "MISSING_FIELD"
    BAD_PRICE = "BAD_PRICE"
    BAD_VOLUME = "BAD_VOLUME"
    BAD_TIME = "BAD_TIME"
    BAD_ROW = "BAD_ROW"
    NOT_RETURNED = "NOT_RETURNED"  # asked for, not in the answer


def _check_ms(name: str, value: object) -> None:
    if type(value) is not int or not MIN_MS <= value < MAX_MS:
        raise ValueError(f"{name} must be epoch milliseconds, got {value!r}")


def _check_positive(name: str, value: object) -> None:
    # Comparing a NaN raises in Decimal, so finiteness is asked first.
    if type(value) is not Decimal or not value.is_finite() or value <= 0:
        raise ValueError(f"{name} must be a finite Decimal above 0, got {value!r}")


def _check_price(name: str, value: object) -> None:
    _check_positive(name, value)
    if not MIN_PRICE <= value < MAX_PRICE:  # type: ignore[operator]
        raise ValueError(f"{name} must be from {MIN_PRICE} to {MAX_PRICE}, got {value}")
    _check_digits(name, value)  # type: ignore[arg-type]


def _check_amount(name: str, value: object) -> None:
    if type(value) is not Decimal or not value.is_finite() or value < 0:
        raise ValueError(f"{name} must be a finite Decimal of at least 0, got {value!r}")
    if value >= MAX_AMOUNT:
        raise ValueError(f"{name} must be below {MAX_AMOUNT}, got {value}")
    _check_digits(name, value)


def _check_digits(name: str, value: Decimal) -> None:
    # Its text is never shorter than its digits, and six times as fast to have.
    if len(str(value)) > MAX_DIGITS and len(value.as_tuple().digits) > MAX_DIGITS:
        raise ValueError(f"{name} must have at most {MAX_DIGITS} digits")


def _check_text(name: str, value: object) -> None:
    if type(value) is not str or not value:
        raise ValueError(f"{name} must be a non-empty str, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticker:
    """Last price with 24 h volumes, as one exchange states it.

    ``event_ms`` is the exchange's time of the last price, None where it says none; ``frame_ms`` its
    time of the whole answer where that is another one (Upbit: a quiet pair is old and yet current).
    """

    exchange_symbol: str
    price: Decimal
    volume: Decimal | None
    quote_volume: Decimal | None
    event_ms: int | None
    received_ms: int
    frame_ms: int | None = None

    def __post_init__(self) -> None:
        _check_text("exchange_symbol", self.exchange_symbol)
        _check_price("price", self.price)
        _check_ms("received_ms", self.received_ms)
        if self.volume is not None:
            _check_amount("volume", self.volume)
        if self.quote_volume is not None:
            _check_amount("quote_volume", self.quote_volume)
        if self.event_ms is not None:
            _check_ms("event_ms", self.event_ms)
        if self.frame_ms is not None:
            _check_ms("frame_ms", self.frame_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """One execution. ``side`` is the taker's; ``trade_id`` None where the feed has none."""

    exchange_symbol: str
    price: Decimal
    size: Decimal
    side: Side
    trade_id: str | None
    event_ms: int
    received_ms: int

    def __post_init__(self) -> None:
        _check_text("exchange_symbol", self.exchange_symbol)
        _check_price("price", self.price)
        _check_positive("size", self.size)
        if self.side not in ("buy", "sell"):
            raise ValueError(f"side must be 'buy' or 'sell', got {self.side!r}")
        if self.trade_id is not None:
            _check_text("trade_id", self.trade_id)
        _check_ms("event_ms", self.event_ms)
        _check_ms("received_ms", self.received_ms)


class Candle(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Open, high, low, close and volume over ``[open_ms, open_ms + resolution)``.

    ``closed`` is False while the bucket may still change. ``volume`` is in base, ``quote_volume``
    in quote currency; None where the source does not say. A msgspec.Struct, like `Price`: a
    backfill makes millions.
    """

    open_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal | None
    quote_volume: Decimal | None = None
    vwap: Decimal | None = None
    trade_count: int | None = None
    closed: bool = True

    def __post_init__(self) -> None:
        _check_ms("open_ms", self.open_ms)
        if not self._prices_hold():
            _check_price("open", self.open)
            _check_price("high", self.high)
            _check_price("low", self.low)
            _check_price("close", self.close)
            if not (self.low <= self.open <= self.high and self.low <= self.close <= self.high):
                raise ValueError(
                    f"candle must have low <= open, close <= high, got open {self.open} "
                    f"high {self.high} low {self.low} close {self.close}"
                )
        if self.volume is not None:
            _check_amount("volume", self.volume)
        if self.quote_volume is not None:
            _check_amount("quote_volume", self.quote_volume)
        if self.vwap is not None:
            _check_positive("vwap", self.vwap)
        if self.trade_count is not None and (
            type(self.trade_count) is not int or self.trade_count < 0
        ):
            raise ValueError(f"trade_count must be an int of at least 0, got {self.trade_count!r}")

    def _prices_hold(self) -> bool:
        """Do all four hold, asked at once? False: ask each, to say which does not and why."""
        opened, high, low, close = self.open, self.high, self.low, self.close
        return (
            type(opened) is type(high) is type(low) is type(close) is Decimal
            # Comparing a NaN raises in Decimal, so finiteness is asked first.
            and opened.is_finite()
            and high.is_finite()
            and low.is_finite()
            and close.is_finite()
            and MIN_PRICE <= low <= opened <= high < MAX_PRICE
            and low <= close <= high
            and len(str(opened)) <= MAX_DIGITS
            and len(str(high)) <= MAX_DIGITS
            and len(str(low)) <= MAX_DIGITS
            and len(str(close)) <= MAX_DIGITS
        )


class Source(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One exchange's part in a price: a line of its receipt.

    ``price`` and ``weight`` (24 h quote volume) are in the symbol's quote currency,
    ``native_price`` in the exchange's own; None where it never came to that. ``path`` names the
    conversions (``"KRW→USDT"``), ``reason`` why the source was not ``kept``. ``as_of_ms`` is the
    time of the oldest leg: the exchange's own price or a rate it was converted with.

    A msgspec.Struct, like `Price`: ten thousand are made each second and go to Redis as JSON, and a
    frozen dataclass takes five times as long to make.
    """

    exchange: str
    exchange_symbol: str
    price: Decimal | None
    native_price: Decimal | None
    weight: Decimal | None
    volume: Decimal | None
    as_of_ms: int | None
    path: tuple[str, ...] = ()
    kept: bool = False
    reason: str | None = None


class Price(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A published price with its receipt.

    ``timestamp_ms`` is when it was computed and is never re-stamped; ``as_of_ms`` the time of its
    oldest leg, from which its age counts. ``confidence``, ``stdev`` and ``variance`` are in quote
    currency, of the kept sources; ``source_count`` counts distinct exchanges.
    """

    symbol: str
    price: Decimal
    method: Method
    status: Status
    timestamp_ms: int
    as_of_ms: int
    confidence: Decimal
    spread_bps: Decimal
    stdev: Decimal
    variance: Decimal
    source_count: int
    outliers_removed: int
    sources: tuple[Source, ...]
    simulated: bool = False

    def __post_init__(self) -> None:
        _check_text("symbol", self.symbol)
        _check_price("price", self.price)
        _check_ms("timestamp_ms", self.timestamp_ms)
        _check_ms("as_of_ms", self.as_of_ms)
