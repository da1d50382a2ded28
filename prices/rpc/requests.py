"""What a call asks for, read from JSON of any client generation, or an error that teaches."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from market.candles import epoch_ms
from oracle.values import MAX_MS, MIN_MS
from prices.changes import CUSTOM, PERIODS_MS
from prices.live.board import Board
from prices.rpc import errors
from prices.rpc.errors import RpcError

MAX_BODY_BYTES = 1_024 * 1_024
MAX_DEPTH = 100
MAX_ID = 256
MAX_PAIRS = 100
MAX_ITEMS = 100
MAX_SHOWN = 64  # of what was sent, in an error

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_OTHERS = re.compile(rb"[^\[\]{}]")


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A request. What else it holds (context, hints, version, timestamp) changes no answer."""

    id: str
    service: str
    method: str
    input: msgspec.Raw


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a batch is to be done."""

    parallel: bool = True
    stop_on_error: bool = msgspec.field(default=False, name="stopOnError")


class BatchCall(msgspec.Struct, frozen=True, kw_only=True):
    """A batch; its items are read one by one, so that a bad one costs only itself."""

    id: str
    requests: list[msgspec.Raw]
    options: Options | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """``[from_ms, to_ms)``. ``asked``: equal for all who ask for the same, whenever they do."""

    from_ms: int
    to_ms: int
    asked: tuple[str | int, ...]


class _AnyId(msgspec.Struct, frozen=True):
    id: Any = None


_decode_call = msgspec.json.Decoder(Call).decode
_decode_batch = msgspec.json.Decoder(BatchCall).decode
_decode_id = msgspec.json.Decoder(_AnyId).decode
_decode_any = msgspec.json.Decoder().decode


def read_call(text: bytes) -> Call:
    """A request. Raises RpcError, 400."""
    call: Call = _read(_decode_call, text)
    _check_id(call.id)
    return call


def read_batch(text: bytes) -> BatchCall:
    """A batch of at most MAX_ITEMS. Raises RpcError, 400."""
    batch: BatchCall = _read(_decode_batch, text)
    _check_id(batch.id)
    if len(batch.requests) > MAX_ITEMS:
        raise RpcError.bad_request(
            f"a batch has at most {MAX_ITEMS} requests, got {len(batch.requests)}"
        )
    return batch


def read_object(text: bytes) -> dict[str, Any]:
    """A JSON object. Raises RpcError, 400."""
    value = _read(_decode_any, text)
    if not isinstance(value, dict):
        raise RpcError.bad_request("the body must be a JSON object")
    return value


def read_id(text: bytes) -> str | None:
    """The id of a request that cannot be read otherwise; None where it is no text either."""
    try:
        found = _read(_decode_id, text).id
    except RpcError:
        return None
    return found if isinstance(found, str) and len(found) <= MAX_ID else None


def depth(text: bytes) -> int:
    """How deep JSON is nested; at least that, where it is nested too deep anyway."""
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return 0  # it cannot be too deep
    deepest = level = 0
    for byte in _OTHERS.sub(b"", _STRINGS.sub(b"", text)):
        level += 1 if byte in b"[{" else -1
        deepest = max(deepest, level)
        if deepest > MAX_DEPTH:
            break
    return deepest


def _read(decode: Any, text: bytes) -> Any:
    if depth(text) > MAX_DEPTH:
        raise RpcError.bad_request(f"JSON may be nested {MAX_DEPTH} deep")
    try:
        return decode(text)
    except msgspec.ValidationError as error:
        raise RpcError.bad_request(f"bad request: {error}") from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise RpcError.bad_request(f"this is no JSON: {error}") from None


def _check_id(call_id: str) -> None:
    if len(call_id) > MAX_ID:
        raise RpcError.bad_request(f"id has at most {MAX_ID} characters")


# --- input ---


def arguments(text: msgspec.Raw) -> dict[str, Any]:
    """The one argument of our methods: an object, bare or the first of an array."""
    value = _decode_any(text)
    if isinstance(value, list):
        value = value[0] if value else {}
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RpcError.bad_request("input must be an object, or an array that holds one")
    return value


def read_pair(value: object, board: Board) -> str:
    """The symbol that a pair names. Raises RpcError: VALIDATION_4001, PRICE_1001."""
    if not isinstance(value, str) or not value.strip():
        shown = str(value)[:MAX_SHOWN]
        raise RpcError.of(errors.BAD_PAIR, "pair must be a text such as btc-usdt", pair=shown)
    name = board.symbol(value)
    if name is None and not board.names:
        raise RpcError.of(errors.REDIS_AWAY, "no pairs are known yet: try again in a moment")
    if name is None:
        shown = value[:MAX_SHOWN]
        raise RpcError.of(errors.PAIR_NOT_FOUND, f"there is no pair {shown!r}", pair=shown)
    return name


def read_pairs(value: object, board: Board) -> list[str]:
    """The symbols of ``{"pairs": […]}``. Raises RpcError that names each that is none."""
    if isinstance(value, list) and value:
        value = value[0]
    texts = value.get("pairs") if isinstance(value, dict) else None
    if not isinstance(texts, list) or not 0 < len(texts) <= MAX_PAIRS:
        raise RpcError.of(errors.BAD_PAIR, f"pairs must be an array of 1 to {MAX_PAIRS} pairs")
    names, failed = [], {}
    for text in texts:
        try:
            names.append(read_pair(text, board))
        except RpcError as error:
            failed[str(text)[:MAX_SHOWN]] = error
    if failed:
        raise failed_pairs(failed)
    return names


def failed_pairs(failed: Mapping[str, RpcError]) -> RpcError:
    """The error of several pairs: the first one's, with the code of each."""
    first = next(iter(failed.values()))
    codes = {pair: error.code for pair, error in failed.items()}
    return RpcError.of(first.code, f"failed: {', '.join(codes)}", pairs=codes)


def read_span(given: Mapping[str, Any], *, default: str, now_ms: int) -> Span:
    """The time of a period; ``from`` alone makes it custom, without ``to`` up to now.

    Raises RpcError: VALIDATION_4002, VALIDATION_4003.
    """
    period = given.get("period", CUSTOM if given.get("from") is not None else default)
    if isinstance(period, str) and period in PERIODS_MS:
        return Span(from_ms=now_ms - PERIODS_MS[period], to_ms=now_ms + 1, asked=(period,))
    if period != CUSTOM:
        accepted = ", ".join((*PERIODS_MS, CUSTOM))
        raise RpcError.of(
            errors.BAD_PERIOD, f"period must be one of {accepted}", period=str(period)[:MAX_SHOWN]
        )
    from_ms = read_time(given.get("from"), "from")
    is_open = given.get("to") is None
    to_ms = now_ms if is_open else read_time(given["to"], "to")
    if from_ms >= to_ms:
        raise RpcError.of(errors.BAD_DATE, "from must be before to", **{"from": from_ms})
    asked = (from_ms,) if is_open else (from_ms, to_ms)
    return Span(from_ms=from_ms, to_ms=to_ms, asked=asked)


def read_time(value: object, field: str) -> int:
    """A time as milliseconds: epoch milliseconds, or ISO 8601 (UTC unless it says otherwise)."""
    if isinstance(value, int) and not isinstance(value, bool) and MIN_MS <= value < MAX_MS:
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 13:
        return int(value)
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is not None:
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            found = epoch_ms(moment)
            if MIN_MS <= found < MAX_MS:
                return found
    accepted, shown = "epoch milliseconds or an ISO 8601 date", str(value)[:MAX_SHOWN]
    raise RpcError.of(errors.BAD_DATE, f"{field} must be {accepted}", **{field: shown})


def read_count(given: Mapping[str, Any], field: str, *, least: int, most: int, default: int) -> int:
    """A whole number of an input. Raises RpcError."""
    value = given.get(field, default)
    if type(value) is int and least <= value <= most:
        return value
    raise RpcError.of(
        errors.BAD_NUMBER,
        f"{field} must be a whole number from {least} to {most}",
        **{field: str(value)[:MAX_SHOWN]},
    )
