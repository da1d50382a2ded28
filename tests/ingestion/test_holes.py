"""What did not come by the socket, asked for over REST: to the end, or to a hole that is named."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from ingestion import holes
from ingestion.adapter import Parsed, Unresolved
from ingestion.holes import Filler
from ingestion.ledger import Note, RecentLedger
from ingestion.registry import ADAPTERS
from oracle import metrics
from oracle.trade_log import LoggedTrade
from oracle.values import ErrorCode, Trade

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
BTC = "BTCUSDT"


def trade(trade_id: str, event_ms: int) -> Trade:
    return Trade(
        exchange_symbol=BTC,
        price=Decimal(1),
        size=Decimal(1),
        side="buy",
        trade_id=trade_id,
        event_ms=event_ms,
        received_ms=NOW_MS,
    )


OLD, MISSED, NEW = trade("a", NOW_MS - 2 * DAY_MS), trade("b", NOW_MS - 5), trade("c", NOW_MS)


def fill(
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., Parsed[Trade]],
    *,
    check: Callable[[Trade], bool] = lambda _: True,
) -> list[LoggedTrade | Note]:
    """What comes out while a symbol is completed: OLD, an interruption, then NEW was heard."""
    out: list[LoggedTrade | Note] = []
    monkeypatch.setattr(holes, "PAUSES_SECONDS", (0.001, 0.001))
    monkeypatch.setattr(holes, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(holes, "call", call)
    ledger = RecentLedger(out.append, now_ms=lambda: NOW_MS)
    ledger.take(OLD)
    ledger.interrupted([BTC], now_ms=NOW_MS - 10, why="broke")
    ledger.take(NEW)
    out.clear()

    async def scenario() -> None:
        filler = Filler(ADAPTERS["bybit"], ledger, check=check)
        filler.start_wanted()
        async with asyncio.timeout(10):
            await asyncio.gather(*filler._tasks.values())
        assert filler._tasks == {}

    asyncio.run(scenario())
    return out


def lost(out: list[LoggedTrade | Note]) -> list[tuple[bool, str]]:
    """The holes that are named at the end: open or not, and why."""
    assert isinstance(out[-1], Note)
    return [(hole.is_open, hole.reason) for hole in out[-1].record]


def test_complete_recognises_what_was_before_however_old(monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[Trade] = []

    def check(one: Trade) -> bool:
        refused.extend([one] if NOW_MS - one.event_ms > DAY_MS else [])
        return NOW_MS - one.event_ms <= DAY_MS

    parsed = Parsed(values=(OLD, MISSED, NEW))

    out = fill(monkeypatch, lambda *_, **__: parsed, check=check)

    assert [each.trade_id for each in out if isinstance(each, LoggedTrade)] == ["b"]
    assert lost(out) == []
    assert refused == []  # nor counted as an error


def test_complete_refuses_an_implausible_trade_of_the_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = Parsed(values=(OLD, MISSED, NEW))

    out = fill(monkeypatch, lambda *_, **__: parsed, check=lambda one: one is not MISSED)

    assert [each for each in out if isinstance(each, LoggedTrade)] == []
    assert lost(out) == [(False, "broke; it would take too long")]


def test_complete_of_a_list_with_a_bad_row_names_the_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row may have been the trade that we miss."""
    bad = Unresolved(code=ErrorCode.BAD_PRICE, detail="price is -1", exchange_symbol=BTC)
    counted = metrics.TRADE_ERRORS.labels("bybit", "BAD_PRICE")
    before = counted._value.get()

    out = fill(monkeypatch, lambda *_, **__: Parsed(values=(OLD, NEW), unresolved=(bad,)))

    assert lost(out) == [(False, "broke; it would take too long")]
    assert counted._value.get() > before


def test_complete_with_a_bug_in_the_adapter_names_the_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: Any, **__: Any) -> Parsed[Trade]:
        raise TypeError("a bug")

    assert lost(fill(monkeypatch, bug)) == [(False, "broke; a bug of the adapter")]
