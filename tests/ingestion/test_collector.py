"""A collector that meets a bug: its exchange is asked again later, and no other one notices."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ingestion import collector
from ingestion.collector import Collector, role_of, stand_by
from ingestion.exchanges import binance
from ingestion.ws import Feed
from oracle.leader import Leader


def test_stand_by_outlives_a_bug_and_resigns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "BUG_SECONDS", 0.01)
    terms: list[str] = []

    async def run(self: Collector, stop: asyncio.Event) -> None:
        terms.append(self._token)
        if len(terms) == 1:
            raise KeyError("a bug")
        stop.set()

    monkeypatch.setattr(Collector, "run", run)
    asyncio.run(stand_by(binance, lambda: ("BTCUSDT",), stop=asyncio.Event()))

    assert len(set(terms)) == 2
    assert Leader(role_of(binance.NAME)).campaign()  # nobody holds it any more


def test_a_feed_that_met_a_bug_gets_a_successor_after_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1_000.0]
    monkeypatch.setattr("ingestion.collector.time.monotonic", lambda: now[0])
    made: list[Feed] = []

    async def run(self: Feed) -> None:
        made.append(self)
        raise KeyError("a bug")

    monkeypatch.setattr(Feed, "run", run)

    async def arrange() -> list[int]:
        one: Any = Collector(
            binance, lambda: ("BTCUSDT",), leader=Leader(role_of(binance.NAME), ttl_ms=9_000)
        )
        counts = []
        for seconds in (0, 0.1, collector.BUG_SECONDS - 0.2, 0.2):
            now[0] += seconds
            one._arrange(["BTCUSDT"])
            await asyncio.sleep(0)
            counts.append(len(made))
        one._bury()
        return counts

    assert asyncio.run(arrange()) == [1, 1, 1, 2]
