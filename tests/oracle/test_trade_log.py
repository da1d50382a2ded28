"""The trade log against a real Redis: fencing, exactness, trimming, and what is named when lost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from oracle import keys, trade_log
from oracle.connection import redis_client
from oracle.trade_log import GROUP, Hole, LoggedTrade, Position

OLD, NEW = "0000000000000001", "0000000000000002"
EVENT_MS = 1_700_000_000_000


def trade(number: int, *, symbol: str = "BTCUSDT", **fields: Any) -> LoggedTrade:
    values: dict[str, Any] = {
        "exchange_symbol": symbol,
        "price": Decimal("0.00000123"),
        "size": Decimal("1.50"),
        "side": "buy",
        "trade_id": str(number),
        "event_ms": EVENT_MS + number,
        "received_ms": EVENT_MS + number + 5,
    }
    return LoggedTrade(**{**values, **fields})


def entries() -> list[tuple[bytes, dict[bytes, bytes]]]:
    rows: Any = redis_client().xrange(keys.trades_stream("binance"))
    return list(rows)


def logged() -> list[LoggedTrade]:
    return [trade for _, entry in entries() for trade in trade_log.decode(entry)]


def acknowledge(count: int) -> None:
    """Read ``count`` entries as the aggregators do, and acknowledge them."""
    stream = keys.trades_stream("binance")
    rows: Any = redis_client().xreadgroup(GROUP, "one", {stream: ">"}, count=count)
    for identifier, _ in rows[0][1]:
        redis_client().xack(stream, GROUP, identifier)


def test_append_one_batch_is_one_entry_with_every_digit() -> None:
    batch = [trade(1), trade(2, price=Decimal("1E-18")), trade(3, symbol="ETHUSDT", trade_id=None)]

    assert trade_log.append("binance", batch, token=NEW) is True

    (entry,) = entries()
    assert trade_log.decode(entry[1]) == batch
    assert str(trade_log.decode(entry[1])[0].size) == "1.50"


def test_append_with_an_older_token_is_refused_and_writes_nothing() -> None:
    trade_log.append("binance", [trade(2)], token=NEW)

    assert trade_log.append("binance", [trade(3)], token=OLD) is False

    assert logged() == [trade(2)]
    assert trade_log.positions("binance")["BTCUSDT"].trade_id == "2"


def test_append_sent_twice_is_logged_once() -> None:
    batch = [trade(1), trade(2)]

    assert [trade_log.append("binance", batch, token=NEW) for _ in range(2)] == [True, True]

    assert logged() == batch


def test_append_too_many_or_none_is_refused() -> None:
    for batch in ([], [trade(n) for n in range(501)]):
        with pytest.raises(ValueError, match="an entry has"):
            trade_log.append("binance", batch, token=NEW)


def test_positions_hold_the_largest_id_whatever_the_order() -> None:
    trade_log.append("binance", [trade(100), trade(99), trade(7, symbol="ETHUSDT")], token=NEW)
    trade_log.append("binance", [trade(98, event_ms=EVENT_MS + 9_999)], token=NEW)

    assert trade_log.positions("binance") == {
        "BTCUSDT": Position(trade_id="100", event_ms=EVENT_MS + 100),
        "ETHUSDT": Position(trade_id="7", event_ms=EVENT_MS + 7),
    }


def test_positions_of_ids_without_order_follow_time() -> None:
    trade_log.append("kucoin", [trade(2, trade_id="ff"), trade(1, trade_id="zz")], token=NEW)
    trade_log.append("kucoin", [trade(3, trade_id="aa")], token=NEW)

    assert trade_log.positions("kucoin")["BTCUSDT"].trade_id == "aa"


def test_append_trims_old_entries_that_were_acknowledged(settings: Any) -> None:
    settings.TRADE_LOG_KEEP_MS = -1_000
    trade_log.ensure_group("binance")
    for number in range(3):
        trade_log.append("binance", [trade(number)], token=NEW)
    acknowledge(2)

    trade_log.append("binance", [trade(3)], token=NEW)

    # The last acknowledged entry may stay; what nobody has read does.
    assert logged()[-2:] == [trade(2), trade(3)]
    assert trade(0) not in logged()


def test_append_keeps_old_entries_that_are_pending(settings: Any) -> None:
    settings.TRADE_LOG_KEEP_MS = -1_000
    trade_log.ensure_group("binance")
    trade_log.append("binance", [trade(0)], token=NEW)
    redis_client().xreadgroup(GROUP, "dies", {keys.trades_stream("binance"): ">"})

    trade_log.append("binance", [trade(1)], token=NEW)

    assert logged() == [trade(0), trade(1)]


def test_append_keeps_everything_while_there_was_no_aggregator_yet(settings: Any) -> None:
    settings.TRADE_LOG_KEEP_MS = -1_000
    for number in range(3):
        trade_log.append("binance", [trade(number)], token=NEW)

    trade_log.ensure_group("binance")
    acknowledge(3)

    assert logged() == [trade(0), trade(1), trade(2)]


def test_append_at_the_hard_limit_drops_the_oldest_and_names_them(settings: Any) -> None:
    settings.TRADE_LOG_MAX_ENTRIES = 2
    trade_log.append("binance", [trade(0), trade(1)], token=NEW)
    trade_log.append("binance", [trade(2)], token=NEW)

    trade_log.append("binance", [trade(3)], token=NEW)

    assert logged() == [trade(2), trade(3)]
    (hole,) = trade_log.holes("binance")
    assert (hole.exchange_symbol, hole.from_ms, hole.to_ms, hole.missing) == (
        "BTCUSDT",
        EVENT_MS,
        EVENT_MS + 1,
        2,
    )
    assert hole.reason.endswith("0 to 1")


def test_append_at_the_hard_limit_is_no_loss_when_they_were_acknowledged(settings: Any) -> None:
    settings.TRADE_LOG_MAX_ENTRIES = 2
    trade_log.ensure_group("binance")
    trade_log.append("binance", [trade(0)], token=NEW)
    trade_log.append("binance", [trade(1)], token=NEW)
    acknowledge(2)

    trade_log.append("binance", [trade(2)], token=NEW)

    assert logged() == [trade(1), trade(2)]
    assert trade_log.holes("binance") == []


def test_ensure_group_starts_at_the_first_entry_and_may_be_called_again() -> None:
    trade_log.append("binance", [trade(1)], token=NEW)
    trade_log.ensure_group("binance")
    trade_log.ensure_group("binance")

    stream = keys.trades_stream("binance")
    rows: Any = redis_client().xreadgroup(GROUP, "one", {stream: ">"})

    assert [trade_log.decode(entry) for _, entry in rows[0][1]] == [[trade(1)]]


def test_decode_of_something_else_says_so() -> None:
    with pytest.raises(ValueError, match="field trades"):
        trade_log.decode({b"other": b""})


def test_tail_is_the_newest_entries_oldest_first() -> None:
    for number in range(4):
        trade_log.append("binance", [trade(number)], token=NEW)

    assert trade_log.tail("binance", entries=2) == [trade(2), trade(3)]


def hole(to_ms: int, **fields: Any) -> Hole:
    values: dict[str, Any] = {
        "exchange_symbol": "BTCUSDT",
        "after_id": "5",
        "before_id": "9",
        "from_ms": to_ms - 10,
        "to_ms": to_ms,
        "missing": 3,
        "reason": "reconnect",
    }
    return Hole(**{**values, **fields})


def test_holes_are_kept_in_order_and_a_filled_one_is_taken_back() -> None:
    later, earlier = hole(EVENT_MS + 100), hole(EVENT_MS, is_open=True)
    for each in (later, earlier, earlier):
        trade_log.record_hole("binance", each)
    assert trade_log.holes("binance") == [earlier, later]

    trade_log.forget_hole("binance", earlier)

    assert trade_log.holes("binance") == [later]


def test_holes_of_more_than_a_week_ago_go() -> None:
    trade_log.record_hole("binance", hole(EVENT_MS))
    trade_log.record_hole("binance", hole(EVENT_MS + trade_log.KEEP_HOLES_MS + 1))

    assert [each.to_ms for each in trade_log.holes("binance")] == [
        EVENT_MS + trade_log.KEEP_HOLES_MS + 1
    ]
