"""Damage done to recorded payloads: nothing escapes but UnreadableError, and rows stay apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.adapter import Adapter, Parsed, UnreadableError
from ingestion.registry import ADAPTERS
from tests.ingestion.fixtures import RECEIVED_MS, answer, payload

Path = tuple[str | int, ...]
Read = Callable[[Adapter, bytes], Parsed[Any]]


def read_tickers(adapter: Adapter, body: bytes) -> Parsed[Any]:
    return adapter.parse_tickers(answer(body))


def read_candles(adapter: Adapter, body: bytes) -> Parsed[Any]:
    return adapter.parse_candles(answer(body), resolution_ms=60_000)


def read_trades(adapter: Adapter, body: bytes) -> Parsed[Any]:
    frames = adapter.parse_message(body, {}, RECEIVED_MS)
    return Parsed(values=frames.trades, unresolved=frames.unresolved)


# Exchange, file, where its rows are, how it is read.
BODIES: list[tuple[str, str, Path, Read]] = [
    ("binance", "tickers_1.json", (), read_tickers),
    ("upbit", "tickers_1.json", (), read_tickers),
    ("kraken", "tickers_1.json", ("result",), read_tickers),
    ("coinbase", "tickers_4.json", (), read_tickers),
    ("okx", "tickers_1.json", ("data",), read_tickers),
    ("bybit", "tickers_1.json", ("result", "list"), read_tickers),
    ("kucoin", "tickers_1.json", ("data", "ticker"), read_tickers),
    ("binance", "candles_3.json", (), read_candles),
    ("upbit", "candles_3.json", (), read_candles),
    ("kraken", "candles_2.json", ("result", "XBTUSDT"), read_candles),
    ("coinbase", "candles_1.json", (), read_candles),
    ("okx", "candles_2.json", ("data",), read_candles),
    ("bybit", "candles_1.json", ("result", "list"), read_candles),
    ("kucoin", "candles_2.json", ("data",), read_candles),
    ("binance", "ws_trades_1.jsonl", ("data",), read_trades),
    ("upbit", "ws_trades_1.jsonl", (), read_trades),
    ("upbit", "ws_trades_2.jsonl", (), read_trades),
    ("kraken", "ws_trades_1.jsonl", ("data",), read_trades),
    ("kraken", "ws_trades_2.jsonl", (1,), read_trades),
    ("coinbase", "ws_trades_1.jsonl", (), read_trades),
    ("okx", "ws_trades_2.jsonl", ("data",), read_trades),
    ("bybit", "ws_trades_1.jsonl", ("data",), read_trades),
    ("kucoin", "ws_trades_1.jsonl", ("data",), read_trades),
]
bodies = pytest.mark.parametrize(
    ("exchange", "name", "rows", "read"), BODIES, ids=[f"{b[0]}-{b[1]}" for b in BODIES]
)

JUNK = [
    *('null', 'true', 'false', '0', '-1', '0.0', '1e400', '1e-400', '1e99999999999999999999'),
    *('""', '"abc"', '"0"', '"-1"', '"NaN"', '"Infinity"', '"1_0"', '" 1"', '"\\u0661"', '"1e400"'),
    *('[]', '{}', '[[]]', '["1","2"]', '"\\u0000"', '123456789012345678901234567890'),
    f'"{"9" * 5000}"',
    "9" * 400,
    f"0.{'9' * 5000}",
    "[" * 900 + "]" * 900,
]  # fmt: skip


def recorded(exchange: str, name: str) -> bytes:
    """Return one body: of a file of messages, its first."""
    found = payload(exchange, name)
    return found.messages[0] if name.endswith("l") else found.body


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of everything inside ``value``."""
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


def damaged(value: Any, path: Path, token: str) -> bytes:
    """Return ``value`` as JSON with the raw ``token`` at ``path``."""
    if not path:
        return token.encode()
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = "@@"
    return json.dumps(copy).replace('"@@"', token).encode()


def without(value: Any, path: Path) -> bytes:
    """Return ``value`` as JSON with what is at ``path`` left out."""
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return json.dumps(copy).encode()


def read_or_unreadable(read: Read, adapter: Adapter, body: bytes) -> Parsed[Any]:
    try:
        return read(adapter, body)
    except UnreadableError:
        return Parsed()


@bodies
def test_body_cut_anywhere_is_unreadable(exchange: str, name: str, rows: Path, read: Read) -> None:
    body = recorded(exchange, name).rstrip()

    for end in range(len(body)):
        with pytest.raises(UnreadableError):
            read(ADAPTERS[exchange], body[:end])


@bodies
def test_field_replaced_costs_its_row_only(
    exchange: str, name: str, rows: Path, read: Read
) -> None:
    content = json.loads(recorded(exchange, name))
    whole = read(ADAPTERS[exchange], json.dumps(content).encode())

    for path in places(content):
        for token in JUNK:
            parsed = read_or_unreadable(read, ADAPTERS[exchange], damaged(content, path, token))
            if path[: len(rows)] == rows and len(path) > len(rows) + 1:
                lost = [value for value in whole.values if value not in parsed.values]
                assert len(lost) <= 1, (path, token)


@bodies
def test_field_left_out_never_raises(exchange: str, name: str, rows: Path, read: Read) -> None:
    content = json.loads(recorded(exchange, name))

    for path in list(places(content))[1:]:
        read_or_unreadable(read, ADAPTERS[exchange], without(content, path))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@bodies
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_field_replaced_by_any_json_never_raises(
    exchange: str, name: str, rows: Path, read: Read, data: st.DataObject
) -> None:
    content = json.loads(recorded(exchange, name))
    path = data.draw(st.sampled_from(list(places(content))))
    token = json.dumps(data.draw(json_values))

    read_or_unreadable(read, ADAPTERS[exchange], damaged(content, path, token))


@pytest.mark.parametrize("read", [read_tickers, read_candles, read_trades])
@pytest.mark.parametrize("exchange", ADAPTERS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Access denied</html>",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'"\\ud800"',
        b'"\xff"',
        b"\x00",
        b"NaN",
        b"9" * 5000,
        b"5",
        b'"text"',
        b"null",
        b"true",
    ],
    ids=lambda body: repr(body[:12]),
)
def test_body_of_no_kind_is_unreadable(exchange: str, body: bytes, read: Read) -> None:
    with pytest.raises(UnreadableError):
        read(ADAPTERS[exchange], body)


@pytest.mark.parametrize("exchange", ADAPTERS)
def test_message_with_lone_surrogate_is_unreadable(exchange: str) -> None:
    with pytest.raises(UnreadableError):
        ADAPTERS[exchange].parse_message('"\ud800"', {}, RECEIVED_MS)


@pytest.mark.parametrize("exchange", ADAPTERS)
@given(body=st.binary(max_size=200), status=st.integers(100, 599), wait=st.text(max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_refusal_never_raises(exchange: str, body: bytes, status: int, wait: str) -> None:
    header_names = ("retry-after", "remaining-req", "gw-ratelimit-reset", "x-mbx-used-weight-1m")
    came = replace(answer(body, status=status), headers=dict.fromkeys(header_names, wait))
    for read in (
        lambda: ADAPTERS[exchange].parse_tickers(came, ["A"]),
        lambda: ADAPTERS[exchange].parse_candles(came, resolution_ms=60_000),
    ):
        try:
            parsed = read()
        except UnreadableError:
            assert 200 <= status < 300
        else:
            assert (parsed.refusal is not None) or 200 <= status < 300
