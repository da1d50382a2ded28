"""What an exchange adapter is: what to ask and how to read the answer, apart from how to connect.

An adapter is a module of constants and pure functions (``ingestion/exchanges/<name>.py``). It opens
nothing, reads no clock and no setting: ``received_ms`` and any state are arguments, replies and new
state are returned. Each symbol asked for ends as a value or as an `Unresolved` with a code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, runtime_checkable

from oracle.values import Candle, ErrorCode, Ticker, Trade

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP call, relative to the exchange's REST base URL.

    ``weight`` is in the exchange's own units and is taken from its budget called ``budget``.
    ``symbols`` are the exchange symbols that the answer must resolve.
    """

    path: str
    method: str = "GET"
    params: tuple[tuple[str, str], ...] = ()
    weight: int = 1
    budget: str = "default"
    symbols: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """So many units in any window of so many milliseconds, per address."""

    units: int
    window_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the exchange says was used of a budget: read from its headers, truer than our count."""

    budget: str
    used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unresolved:
    """A symbol or row that did not become a value, and why. ``exchange_symbol`` None: unnamed."""

    code: ErrorCode
    detail: str
    exchange_symbol: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The exchange refused the whole message. ``retry_after_ms``: how long it asked us to wait."""

    code: ErrorCode
    detail: str
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed(Generic[T]):
    """An answer, read. With a ``refusal`` there are no values and each symbol is unresolved.

    ``exchange_symbol`` is whose candles they are, where the answer itself says so.
    """

    values: tuple[T, ...] = ()
    unresolved: tuple[Unresolved, ...] = ()
    refusal: Refusal | None = None
    usage: Usage | None = None
    exchange_symbol: str | None = None


class UnreadableError(ValueError):
    """The whole message cannot be read: not the exchange's format at all. Worth another try."""

    code = ErrorCode.UNREADABLE
    retryable = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer as it came: what ``parse_*`` reads. Header names are lower case."""

    body: bytes
    received_ms: int
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """What one WebSocket message held: trades, replies to send, and the state to pass next.

    ``fills``: of which trade ids the exchange merged how many executions; the id is the last one's.
    """

    state: Mapping[str, object]
    trades: tuple[Trade, ...] = ()
    fills: Mapping[str, int] = field(default_factory=dict)
    replies: tuple[str, ...] = ()
    unresolved: tuple[Unresolved, ...] = ()


class Adapter(Protocol):
    """The names every exchange module has."""

    NAME: str
    REST_URL: str
    WS_URL: str
    WS_PING: str | None  # what we must send to be kept connected, and how often
    WS_PING_INTERVAL_MS: int
    WS_PROBE: str | None  # what a live server answers at once; None: it speaks each second anyway
    MAX_SYMBOLS_PER_SOCKET: int
    MAX_MESSAGES_PER_SECOND: int  # from us, on one socket
    SOCKET_LIFETIME_MS: int | None  # then the exchange closes it; None: no such rule
    ONE_BAD_SYMBOL_REFUSES_ALL: bool  # of a subscription
    TRADE_IDS_CONTIGUOUS: bool  # per symbol: a jump is a hole, which `trades_request` can fill
    MAX_TRADES_PER_CALL: int
    DOCS: str
    BUDGETS: Mapping[str, Budget]
    MAX_CANDLES_PER_CALL: int
    MAX_CANDLES_BACK: int | None  # asked for older ones, the exchange gives newer ones; None: all

    def to_native(self, symbol: str) -> str:
        """Spell ``BTC/USDT`` as the exchange does. Raises ValueError when it is not a symbol."""
        ...

    def from_native(self, exchange_symbol: str) -> str | None:
        """Spell an exchange's symbol as we do; None where it cannot be told apart."""
        ...

    def tickers_request(self, exchange_symbols: Sequence[str]) -> Request:
        """Ask for these tickers in one call; none: all of them."""
        ...

    def parse_tickers(self, answer: Answer, symbols: Sequence[str] = ()) -> Parsed[Ticker]:
        """Read a ticker answer: one value or `Unresolved` per symbol asked for; none asked: all.

        Raises `UnreadableError` when the body is not the exchange's format at all.
        """
        ...

    def candles_request(
        self, exchange_symbol: str, *, resolution_ms: int, from_ms: int, to_ms: int, now_ms: int
    ) -> Request:
        """Ask for the candles opening in ``[from_ms, to_ms)``, at most MAX_CANDLES_PER_CALL.

        The answer may hold others too, where an exchange takes no second bound. Raises ValueError
        on a resolution it lacks, an empty window, or one too wide.
        """
        ...

    def parse_candles(self, answer: Answer, *, resolution_ms: int) -> Parsed[Candle]:
        """Read a candle answer, oldest first; a bucket that may still change is not ``closed``.

        Raises `UnreadableError` when the body is not the exchange's format at all.
        """
        ...

    def subscribe_messages(self, exchange_symbols: Sequence[str]) -> tuple[str, ...]:
        """Write what to send, in this order, to be sent the trades of these symbols."""
        ...

    def parse_message(
        self, message: str | bytes, state: Mapping[str, object], received_ms: int
    ) -> Frames:
        """Read one WebSocket message: its trades, none in a control message.

        Raises `UnreadableError` when it is not the exchange's format at all.
        """
        ...

    def trades_request(self, exchange_symbol: str, *, after_id: str, after_ms: int) -> Request:
        """Ask for the trades that follow this one, at most MAX_TRADES_PER_CALL.

        The oldest of them, so that one can page on; where TRADE_IDS_CONTIGUOUS is False, the
        newest there are: such an exchange keeps no others.
        """
        ...

    def parse_trades(self, answer: Answer, exchange_symbol: str) -> Parsed[Trade]:
        """Read the answer, oldest first. It may hold other trades than those asked for.

        Raises `UnreadableError` when the body is not the exchange's format at all.
        """
        ...


@runtime_checkable
class TokenAdapter(Adapter, Protocol):
    """An exchange that tells where its socket is, in exchange for a call before each connect."""

    def token_request(self) -> Request:
        """Ask for the address of a new socket."""
        ...

    def parse_token(self, answer: Answer) -> Parsed[str]:
        """Read the address: one value, or a refusal.

        Raises `UnreadableError` when the body is not the exchange's format at all.
        """
        ...
