"""The recorded payloads of all exchanges, read where they lie: they are never copied in here."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

import pytest
from _pytest.mark import ParameterSet

from ingestion.adapter import Adapter, Answer, Request
from ingestion.registry import ADAPTERS
from oracle.jsontext import plain
from oracle.values import Candle, Ticker, Trade

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = Path(os.environ.get("ORACLE_FIXTURES") or ROOT.parent / "shared" / "fixtures")
RECEIVED_MS = 1_795_000_000_000  # 2026-11-18, after every recording


@dataclass(frozen=True)
class Payload:
    """One recorded body or file of messages, with what its recorder says it means."""

    exchange: str
    path: Path

    @property
    def adapter(self) -> Adapter:
        return ADAPTERS[self.exchange]

    @property
    def body(self) -> bytes:
        return self.path.read_bytes()

    @property
    def messages(self) -> list[bytes]:
        return self.body.splitlines()

    @property
    def expected(self) -> Any:
        return json.loads(self.path.with_suffix(".expected.json").read_text())


def payload(exchange: str, name: str) -> Payload:
    """Return one payload by file name; the test is skipped where the recordings are missing."""
    path = FIXTURES / exchange / name
    if not path.exists():
        pytest.skip(f"no recorded payload {path}")
    return Payload(exchange, path)


def payloads(kind: str) -> list[ParameterSet]:
    """Return the payloads of a kind of all exchanges, one parameter each; skipped if missing."""
    found = [
        pytest.param(Payload(exchange, path), id=f"{exchange}-{path.stem}")
        for exchange in ADAPTERS
        for path in sorted((FIXTURES / exchange).glob(f"*{kind}_*.json*"))
        if not path.name.endswith(".expected.json")
    ]
    missing = pytest.mark.skip(reason=f"no recorded payloads in {FIXTURES}: set ORACLE_FIXTURES")
    return found or [pytest.param(None, marks=missing, id="missing")]


def answer(
    body: bytes | str, *, status: int = 200, received_ms: int = RECEIVED_MS, **headers: str
) -> Answer:
    """Build an answer; ``retry_after="5"`` is the header ``retry-after``."""
    raw = body.encode() if isinstance(body, str) else body
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(body=raw, received_ms=received_ms, status=status, headers=names)


def url(adapter: Adapter, request: Request) -> str:
    """Return a request's address, readable: percent signs decoded."""
    query = unquote(urlencode(request.params))
    return f"{adapter.REST_URL}{request.path}" + (f"?{query}" if query else "")


def ticker_row(ticker: Ticker) -> dict[str, Any]:
    """Write a ticker as the expected files do."""
    return {
        "symbol": ticker.exchange_symbol,
        "price": plain(ticker.price),
        "base_volume": None if ticker.volume is None else plain(ticker.volume),
        "quote_volume": None if ticker.quote_volume is None else plain(ticker.quote_volume),
        "timestamp_ms": ticker.event_ms,
    }


def candle_row(candle: Candle) -> list[Any]:
    """Write a candle as the expected files do."""
    amounts = (candle.open, candle.high, candle.low, candle.close, candle.volume)
    return [candle.open_ms, *(None if each is None else plain(each) for each in amounts)]


def trade_row(trade: Trade) -> dict[str, Any]:
    """Write a trade as the expected files do."""
    return {
        "symbol": trade.exchange_symbol,
        "price": plain(trade.price),
        "size": plain(trade.size),
        "taker_side": trade.side,
        "id": trade.trade_id,
        "timestamp_ms": trade.event_ms,
    }
