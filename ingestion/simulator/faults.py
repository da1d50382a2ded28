"""Faults switched on at run time: which, where, how strong, until when.

They bend the wire only; /control/tape keeps what the market really traded.

latency      ms before each REST answer, handshake and pushed trade
rate_limit   the exchange's own refusal, with ``value`` seconds to wait where it says such a thing
error        a 5xx with a CDN's page; ``value`` is the status
garbage      ruined bodies and frames, in turn or the shape named by ``value``
disconnect   no answer, sockets dropped, new ones refused
half_open    accepted and never answered; sockets silent, their pings unanswered
drop_trades, repeat_trades   the share of trades not pushed, or pushed twice
price_factor times every price and quote volume
clock_skew   ms added to the times of tickers, trades and answers; candles keep their grid
freeze       REST repeats the answers of the moment it was set, sockets push nothing

What happens while a socket is silent is lost to it, as on a real one.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from ingestion.simulator.assets import EXCHANGES

EVERYWHERE = "*"
FAULTS = (
    "latency",
    "rate_limit",
    "error",
    "garbage",
    "disconnect",
    "half_open",
    "drop_trades",
    "repeat_trades",
    "price_factor",
    "clock_skew",
    "freeze",
)
GARBAGE_CYCLE = ("html", "half", "bytes", "empty", "null", "types")
GARBAGE_SHAPES = (*GARBAGE_CYCLE, "nan", "negative", "tomorrow")
DEFAULT_VALUES: dict[str, int | str | None] = {
    "latency": 1_000,
    "rate_limit": 5,
    "error": 503,
    "garbage": None,
    "disconnect": None,
    "half_open": None,
    "drop_trades": 1,
    "repeat_trades": 1,
    "price_factor": 10,
    "clock_skew": 60_000,
    "freeze": None,
}
_BOUNDS: dict[str, tuple[float, float]] = {
    "latency": (0, 600_000),
    "rate_limit": (0, 86_400),
    "error": (500, 599),
    "drop_trades": (0, 1),
    "repeat_trades": (0, 1),
    "price_factor": (0.000001, 1_000_000),
    "clock_skew": (-10 * 86_400_000, 10 * 86_400_000),
}
_WHOLE = frozenset({"latency", "rate_limit", "error", "clock_skew"})


class BadFault(ValueError):
    """A fault that cannot be set as described."""


@dataclass(slots=True, kw_only=True, eq=False)
class Fault:
    """One active fault; ``ended`` wakes whoever is stuck in it."""

    exchange: str
    name: str
    value: Any
    since_ms: int
    until_ms: int | None
    used: Counter[str] = field(default_factory=Counter)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def as_json(self) -> dict[str, object]:
        return {
            "exchange": self.exchange,
            "fault": self.name,
            "value": self.value,
            "since_ms": self.since_ms,
            "until_ms": self.until_ms,
        }


class FaultBoard:
    """The active faults. One per (exchange, fault): setting it again replaces it."""

    def __init__(self, *, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._faults: dict[tuple[str, str], Fault] = {}
        self.listeners: list[Callable[[Fault], None]] = []

    def set(self, body: object) -> Fault:
        """Set a fault from a request body; raise BadFault saying what is wrong with it."""
        fault = parse_fault(body, now_ms=self._clock())
        self._end([self._faults.pop((fault.exchange, fault.name), None)])
        self._faults[fault.exchange, fault.name] = fault
        for listener in self.listeners:
            listener(fault)
        return fault

    def clear(self, *, exchange: str | None = None, name: str | None = None) -> None:
        """End the faults that match; without arguments all of them."""
        for key, fault in list(self._faults.items()):
            if exchange in (None, fault.exchange) and name in (None, fault.name):
                self._end([self._faults.pop(key)])

    def active(self) -> list[Fault]:
        """Return the faults still running, dropping those whose time is over."""
        if self._faults:
            now_ms = self._clock()
            over = [
                key
                for key, fault in self._faults.items()
                if fault.until_ms is not None and fault.until_ms <= now_ms
            ]
            for key in over:
                self._end([self._faults.pop(key)])
        return list(self._faults.values())

    def get(self, exchange: str, name: str) -> Fault | None:
        """Return the fault an exchange suffers, its own before one set everywhere."""
        if not self._faults:
            return None
        self.active()
        return self._faults.get((exchange, name)) or self._faults.get((EVERYWHERE, name))

    @staticmethod
    def _end(faults: Iterable[Fault | None]) -> None:
        for fault in faults:
            if fault is not None:
                fault.ended.set()


def parse_fault(body: object, *, now_ms: int) -> Fault:
    """Return the fault a request body describes; BadFault names the field and what it may be."""
    if not isinstance(body, dict):
        raise BadFault("the body must be a JSON object with exchange and fault")
    unknown = set(body) - {"exchange", "fault", "value", "seconds"}
    if unknown:
        raise BadFault(f"unknown field {sorted(map(str, unknown))[0]!r}")
    exchange, name = body.get("exchange"), body.get("fault")
    if exchange not in (EVERYWHERE, *EXCHANGES):
        accepted = ", ".join(EXCHANGES)
        raise BadFault(f"exchange must be one of {accepted} or *, not {exchange!r}")
    if name not in FAULTS:
        raise BadFault(f"fault must be one of {', '.join(FAULTS)}, not {name!r}")
    seconds = body.get("seconds")
    if seconds is not None and (not _is_number(seconds) or seconds <= 0):
        raise BadFault(f"seconds must be a positive number, not {seconds!r}")
    value = body.get("value")
    return Fault(
        exchange=exchange,
        name=name,
        value=_checked_value(name, value) if value is not None else DEFAULT_VALUES[name],
        since_ms=now_ms,
        until_ms=None if seconds is None else now_ms + int(seconds * 1000),
    )


def _checked_value(name: str, value: Any) -> Any:
    if name == "garbage":
        if value not in GARBAGE_SHAPES:
            raise BadFault(f"value of garbage must be one of {', '.join(GARBAGE_SHAPES)}")
        return value
    if name not in _BOUNDS:
        raise BadFault(f"{name} takes no value")
    low, high = _BOUNDS[name]
    if not _is_number(value) or not low <= value <= high:
        raise BadFault(f"value of {name} must be a number within {low:g}..{high:g}, not {value!r}")
    if name in _WHOLE and value != int(value):
        raise BadFault(f"value of {name} must be a whole number, not {value!r}")
    return int(value) if name in _WHOLE else value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lens:
    """How the faults bend what an exchange says; the tape behind it stays what it is."""

    factor: Fraction = Fraction(1)
    skew_ms: int = 0
    candle_shift_ms: int = 0
    nan: bool = False

    def price(self, units: int) -> int:
        """Return a price or quote volume as the wire shows it."""
        if self.factor == 1:
            return units
        return units * self.factor.numerator // self.factor.denominator


CLEAR = Lens()
DAY_MS = 86_400_000


def lens_of(board: FaultBoard, exchange: str) -> Lens:
    """Return the lens of an exchange's active faults."""
    if not board.active():
        return CLEAR
    factor, skew = board.get(exchange, "price_factor"), board.get(exchange, "clock_skew")
    garbage = board.get(exchange, "garbage")
    shape = garbage.value if garbage is not None else None
    if factor is None and skew is None and shape not in ("nan", "negative", "tomorrow"):
        return CLEAR
    times = Fraction(str(factor.value)) if factor is not None else Fraction(1)
    tomorrow = DAY_MS if shape == "tomorrow" else 0
    return Lens(
        factor=-times if shape == "negative" else times,
        skew_ms=(skew.value if skew is not None else 0) + tomorrow,
        candle_shift_ms=tomorrow,
        nan=shape == "nan",
    )
