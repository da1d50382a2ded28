"""Answers read row by row: one bad row costs itself, a refusal costs the whole message.

What the adapters share once a body is decoded; what is one exchange's own is in its module.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Callable, Iterable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from ingestion.adapter import (
    Answer,
    Frames,
    Parsed,
    Refusal,
    UnreadableError,
    Unresolved,
    Usage,
)
from ingestion.wire import RowError, decode, is_name, shown
from oracle.values import RESOLUTIONS, Candle, ErrorCode, Ticker, Trade

T = TypeVar("T")

MAX_DETAIL_CHARS = 200
_INTEGER = re.compile(r"[0-9]{1,15}")


def opened(
    answer: Answer, explain: Callable[[dict[str, Any], Answer], Refusal | None]
) -> tuple[Any, Refusal | None]:
    """Decode the body and say whether the exchange refused: ``explain`` first, then the status.

    ``explain`` is given an empty object where the body is not one.

    Raises `UnreadableError` when the status is fine and the body is not JSON.
    """
    body = None
    try:
        body = decode(answer.body)
    except UnreadableError:
        if is_ok(answer):
            raise
    refusal = explain(body if isinstance(body, dict) else {}, answer)
    if refusal is None and not is_ok(answer):
        detail = f"HTTP {answer.status} {answer.body[:80].decode(errors='replace')}"
        code = code_by_status(answer)
        if code == ErrorCode.BAD_REQUEST:
            # Not in the exchange's words: a proxy's page, which must not put the blame on one of
            # the symbols that we asked for.
            code = ErrorCode.EXCHANGE_ERROR
        refusal = refused(answer, code, detail)
    return body, refusal


def is_ok(answer: Answer) -> bool:
    """Tell whether the HTTP status is a success."""
    return 200 <= answer.status < 300


def code_by_status(answer: Answer) -> ErrorCode:
    """What an HTTP status means where the body does not say it better."""
    match answer.status:
        case 429:
            return ErrorCode.RATE_LIMIT
        case 418:
            return ErrorCode.IP_BAN
        case 403 | 451:
            return ErrorCode.BLOCKED
        case 408:
            return ErrorCode.BUSY
        case status if 500 <= status < 600:
            return ErrorCode.BUSY
        case status if 400 <= status < 500:
            return ErrorCode.BAD_REQUEST
    return ErrorCode.EXCHANGE_ERROR


def refused(
    answer: Answer, code: ErrorCode, detail: Any, *, retry_after_ms: int | None = None
) -> Refusal:
    """Build a refusal; ``retry_after_ms`` is what the exchange's own words or headers ask for.

    The standard Retry-After header counts too: the longer of the two is kept.
    """
    waits = [wait for wait in (retry_after_ms, _retry_after_ms(answer)) if wait is not None]
    detail = detail[:MAX_DETAIL_CHARS] if type(detail) is str else shown(detail)
    return Refusal(code=code, detail=detail, retry_after_ms=max(waits, default=None))


def _retry_after_ms(answer: Answer) -> int | None:
    """Read Retry-After, seconds or an HTTP date (RFC 9110, 10.2.3)."""
    value = answer.headers.get("retry-after", "").strip()
    if _INTEGER.fullmatch(value):
        return int(value) * 1000
    try:
        until = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # OverflowError: a year of twenty digits
        return None
    # timegm, not timestamp(): a date without a zone is UTC here, never the machine's own.
    return max(0, timegm(until.utctimetuple()) * 1000 - answer.received_ms)


def header_int(answer: Answer, name: str) -> int | None:
    """Read a header that holds a whole number; None where it is absent or something else."""
    value = answer.headers.get(name, "").strip()
    return int(value) if _INTEGER.fullmatch(value) else None


def refusal_parsed(
    refusal: Refusal, *, symbols: Sequence[str] = (), usage: Usage | None = None
) -> Parsed[T]:
    """Return a refused answer: nothing read, each symbol asked for unresolved for that reason."""
    unresolved = tuple(
        Unresolved(code=refusal.code, detail=refusal.detail, exchange_symbol=symbol)
        for symbol in symbols
    )
    return Parsed(refusal=refusal, unresolved=unresolved, usage=usage)


def listing(body: Any, *keys: str) -> list[Any]:
    """Return the list at ``keys`` inside ``body``. Raises `UnreadableError`: another shape."""
    value = body
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, list):
        raise UnreadableError(f"no list at {'.'.join(keys) or 'the top'}")
    return value


def mapping(body: Any, *keys: str) -> dict[str, Any]:
    """Return the object at ``keys`` inside ``body``. Raises `UnreadableError`: another shape."""
    value = body
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, dict):
        raise UnreadableError(f"no object at {'.'.join(keys) or 'the top'}")
    return value


def named(rows: Iterable[Any], key: str) -> list[tuple[Any, Any]]:
    """Pair each row with the symbol it names under ``key``."""
    return [(row.get(key) if type(row) is dict else None, row) for row in rows]


def read_tickers(
    named_rows: Iterable[tuple[Any, Any]],
    read: Callable[[str, Any], Ticker],
    *,
    symbols: Sequence[str] = (),
    usage: Usage | None = None,
) -> Parsed[Ticker]:
    """Read rows into tickers, only those asked for; none asked: all. The last row of a name wins.

    A symbol asked for and not there is NOT_RETURNED.
    """
    wanted = frozenset(symbols)
    found: dict[str, Ticker | Unresolved] = {}
    unnamed: list[Unresolved] = []
    for name, row in named_rows:
        if not is_name(name):
            unnamed.append(_unnamed(name))
        elif not wanted or name in wanted:
            try:
                found[name] = read(name, row)
            except RowError as error:
                found[name] = _unresolved(error, name)
            except ValueError as error:  # Ticker's own rules: a number of too many digits
                found[name] = _unresolved(RowError(ErrorCode.BAD_ROW, str(error)), name)
    for symbol in symbols:
        if symbol not in found:
            found[symbol] = Unresolved(
                code=ErrorCode.NOT_RETURNED, detail="not in the answer", exchange_symbol=symbol
            )
    return Parsed(
        values=tuple(value for value in found.values() if isinstance(value, Ticker)),
        unresolved=(*(v for v in found.values() if isinstance(v, Unresolved)), *unnamed),
        usage=usage,
    )


def read_candles(
    rows: Iterable[Any],
    read: Callable[[Any], Candle],
    *,
    exchange_symbol: Any = None,
    usage: Usage | None = None,
) -> Parsed[Candle]:
    """Read rows, in any order, into candles, oldest first; of two for one time the later row."""
    candles: dict[int, Candle] = {}
    unresolved: list[Unresolved] = []
    symbol = exchange_symbol if is_name(exchange_symbol) else None
    for row in rows:
        try:
            candle = read(row)
        except RowError as error:
            unresolved.append(_unresolved(error, symbol))
        except ValueError as error:  # Candle's own rule: low <= open, close <= high
            unresolved.append(_unresolved(RowError(ErrorCode.BAD_ROW, str(error)), symbol))
        else:
            candles[candle.open_ms] = candle
    return Parsed(
        values=tuple(candles[open_ms] for open_ms in sorted(candles)),
        unresolved=tuple(unresolved),
        usage=usage,
        exchange_symbol=symbol,
    )


def read_trades(
    named_rows: Iterable[tuple[Any, Any]],
    read: Callable[[str, Any, int], Trade],
    *,
    received_ms: int,
    state: Mapping[str, object],
) -> Frames:
    """Read every trade of one message; a bad one is unresolved and its neighbours stay."""
    trades: list[Trade] = []
    unresolved: list[Unresolved] = []
    for name, row in named_rows:
        if not is_name(name):
            unresolved.append(_unnamed(name))
            continue
        try:
            trades.append(read(name, row, received_ms))
        except RowError as error:
            unresolved.append(_unresolved(error, name))
        except ValueError as error:  # Trade's own rules
            unresolved.append(_unresolved(RowError(ErrorCode.BAD_ROW, str(error)), name))
    return Frames(state=state, trades=tuple(trades), unresolved=tuple(unresolved))


def read_past_trades(
    named_rows: Iterable[tuple[Any, Any]],
    read: Callable[[str, Any, int], Trade],
    answer: Answer,
    *,
    usage: Usage | None = None,
) -> Parsed[Trade]:
    """Read the rows of an HTTP answer, given oldest first, into trades."""
    frames = read_trades(named_rows, read, received_ms=answer.received_ms, state={})
    return Parsed(values=frames.trades, unresolved=frames.unresolved, usage=usage)


def refused_frame(state: Mapping[str, object], code: ErrorCode, detail: Any) -> Frames:
    """Return a message by which the exchange refused something we sent (a subscription, mostly)."""
    said = detail[:MAX_DETAIL_CHARS] if type(detail) is str else shown(detail)
    return Frames(state=state, unresolved=(Unresolved(code=code, detail=said),))


def _unnamed(name: Any) -> Unresolved:
    code = ErrorCode.MISSING_FIELD if name is None else ErrorCode.BAD_ROW
    return Unresolved(code=code, detail=f"the row's symbol is {shown(name)}")


def _unresolved(error: RowError, name: str | None) -> Unresolved:
    return Unresolved(code=error.code, detail=error.detail, exchange_symbol=name)


def interval(intervals: Mapping[str, str], resolution_ms: int, *, exchange: str) -> str:
    """Return the exchange's word for a resolution. Raises ValueError naming those it has."""
    for name, word in intervals.items():
        if RESOLUTIONS[name] == resolution_ms:
            return word
    asked = _resolution_name(resolution_ms)
    raise ValueError(f"{exchange} has candles of {' '.join(intervals)}, not of {asked}")


def _resolution_name(resolution_ms: int) -> str:
    names = (name for name, step_ms in RESOLUTIONS.items() if step_ms == resolution_ms)
    return next(names, f"{resolution_ms} ms")


def chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Cut ``items`` into pieces of at most ``size``."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def candle_window(
    *, resolution_ms: int, from_ms: int, to_ms: int, max_count: int
) -> tuple[int, int, int]:
    """Return the first and last open time in ``[from_ms, to_ms)`` and how many candles that is.

    Raises ValueError when there is none, or more than one call gives.
    """
    first_ms = -(-from_ms // resolution_ms) * resolution_ms
    last_ms = (to_ms - 1) // resolution_ms * resolution_ms
    wanted = (last_ms - first_ms) // resolution_ms + 1
    if not 1 <= wanted <= max_count:
        raise ValueError(
            f"[{from_ms}, {to_ms}) holds {max(wanted, 0)} candles of "
            f"{_resolution_name(resolution_ms)}, "
            f"one call gives 1 to {max_count}"
        )
    return first_ms, last_ms, wanted
