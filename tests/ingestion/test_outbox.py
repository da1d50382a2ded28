"""The queue before the log: order, bounds, and a Redis that is away."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from threading import Event
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ingestion import outbox
from ingestion.ledger import Note
from ingestion.outbox import FencedOutError, Outbox
from oracle import keys, trade_log
from oracle.connection import redis_client
from oracle.trade_log import Hole, LoggedTrade

OLD, NEW = "0000000000000001", "0000000000000002"
EVENT_MS = 1_700_000_000_000


def trade(number: int) -> LoggedTrade:
    price = Decimal(number + 1)
    return LoggedTrade("BTCUSDT", price, Decimal(1), "buy", str(number), EVENT_MS, EVENT_MS)


def hole(after_id: str, *, is_open: bool = True) -> Hole:
    return Hole(
        exchange_symbol="BTCUSDT",
        after_id=after_id,
        before_id=None,
        from_ms=EVENT_MS,
        to_ms=EVENT_MS,
        missing=None,
        reason="being fetched",
        is_open=is_open,
    )


def batches() -> list[list[LoggedTrade]]:
    rows: Any = redis_client().xrange(keys.trades_stream("binance"))
    return [trade_log.decode(entry) for _, entry in rows]


def test_flush_writes_in_batches_and_in_order() -> None:
    async def scenario() -> None:
        box = Outbox("binance", token=NEW)
        for number in range(1_200):
            box.put(trade(number))
        await box.flush()
        assert len(box) == 0

    asyncio.run(scenario())

    written = batches()
    assert [len(batch) for batch in written] == [500, 500, 200]
    assert [each for batch in written for each in batch] == [trade(n) for n in range(1_200)]


def test_flush_notes_keep_their_place_between_the_trades(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[object] = []
    append, record, forget = trade_log.append, trade_log.record_hole, trade_log.forget_hole

    def spy(kind: str, real: Any) -> Any:
        def call(exchange: str, what: Any, **more: Any) -> Any:
            order.append((kind, len(what) if kind == "append" else what.after_id))
            return real(exchange, what, **more)

        return call

    monkeypatch.setattr(trade_log, "append", spy("append", append))
    monkeypatch.setattr(trade_log, "record_hole", spy("record", record))
    monkeypatch.setattr(trade_log, "forget_hole", spy("forget", forget))

    async def scenario() -> None:
        box = Outbox("binance", token=NEW)
        box.put(trade(1))
        box.put(Note(record=(hole("1"),)))
        box.put(trade(5))
        box.put(trade(3))
        box.put(Note(forget=hole("1"), record=(hole("3", is_open=False),)))
        await box.flush()

    asyncio.run(scenario())

    assert order == [
        ("append", 1),
        ("record", "1"),
        ("append", 2),
        ("record", "3"),
        ("forget", "1"),
    ]
    assert trade_log.holes("binance") == [hole("3", is_open=False)]


@pytest.mark.parametrize("is_applied", [True, False])
def test_run_keeps_a_batch_until_redis_is_back_and_logs_it_once(
    is_applied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Away before or after it wrote: a timeout means unknown, not failed."""
    append, failures = trade_log.append, [RedisTimeoutError("slow"), RedisConnectionError("gone")]

    def fails_twice(exchange: str, trades: Any, *, token: str) -> bool:
        if failures:
            if is_applied:
                append(exchange, trades, token=token)
            raise failures.pop()
        return append(exchange, trades, token=token)

    monkeypatch.setattr(trade_log, "append", fails_twice)
    monkeypatch.setattr(outbox, "RETRY_SECONDS", 0.01)

    async def scenario() -> None:
        box = Outbox("binance", token=NEW)
        running = asyncio.create_task(box.run())
        box.put(trade(1))
        while failures:
            box.put(trade(len(batches()) + 10))
            await asyncio.sleep(0.005)
        while len(box):
            await asyncio.sleep(0.005)
        running.cancel()

    asyncio.run(scenario())

    written = [each.trade_id for batch in batches() for each in batch]
    assert written[0] == "1"
    assert written.count("1") == 1


def test_flush_waits_for_the_write_that_a_cancelled_run_has_left_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its thread may hang in Redis and end later: after the next batch, it would log twice."""
    append, hangs, goes_on = trade_log.append, Event(), Event()
    late: list[bool] = []

    def first_hangs(exchange: str, trades: Any, *, token: str) -> bool:
        is_first = not hangs.is_set()
        hangs.set()
        assert not is_first or goes_on.wait(10)
        found = append(exchange, trades, token=token)
        late.append(is_first)
        return found

    monkeypatch.setattr(trade_log, "append", first_hangs)

    async def scenario() -> None:
        box = Outbox("binance", token=NEW)
        for number in range(600):
            box.put(trade(number))
        running = asyncio.create_task(box.run())
        assert await asyncio.to_thread(hangs.wait, 10)
        running.cancel()
        flushing = asyncio.create_task(box.flush())
        await asyncio.wait({flushing}, timeout=0.2)  # time enough to write all that it has
        goes_on.set()
        await flushing
        async with asyncio.timeout(10):
            while True not in late:
                await asyncio.sleep(0.005)

    asyncio.run(scenario())

    assert [each for batch in batches() for each in batch] == [trade(n) for n in range(600)]


def test_run_ends_when_a_newer_collector_writes() -> None:
    trade_log.append("binance", [trade(1)], token=NEW)

    async def scenario() -> None:
        box = Outbox("binance", token=OLD)
        box.put(trade(2))
        with pytest.raises(FencedOutError):
            await box.run()

    asyncio.run(scenario())

    assert batches() == [[trade(1)]]


def test_claim_shuts_out_the_one_before_and_nobody_after() -> None:
    assert trade_log.claim("binance", token=NEW)

    assert not trade_log.append("binance", [trade(1)], token=OLD)
    assert not trade_log.claim("binance", token=OLD)
    assert trade_log.append("binance", [trade(1)], token=NEW)


def test_is_full_counts_what_waits() -> None:
    async def scenario() -> None:
        box = Outbox("binance", token=NEW, max_queued=2)
        box.put(trade(1))
        assert not box.is_full
        box.put(trade(2))
        assert box.is_full

    asyncio.run(scenario())


def test_is_behind_only_while_writing_less_would_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "BEHIND", 1)
    monkeypatch.setattr(outbox, "RETRY_SECONDS", 0.01)
    away = [True]

    def append(*_: Any, **__: Any) -> bool:
        if away[0]:
            raise RedisConnectionError("away")
        return True

    monkeypatch.setattr(trade_log, "append", append)

    async def scenario() -> None:
        box = Outbox("binance", token=NEW)
        for number in range(1_000):
            box.put(trade(number))
        assert [box.is_behind] == [True]
        running = asyncio.create_task(box.run())
        while box.is_behind:
            await asyncio.sleep(0.005)
        assert len(box) == 1_000  # a socket that is read no more would be closed on us
        away[0] = False
        while len(box):
            await asyncio.sleep(0.005)
        running.cancel()

    asyncio.run(scenario())
