"""The two ledgers: what they put out, in which order, and what they ask for."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingestion.dedupe import RESTART_COUNT
from ingestion.ledger import CountedLedger, Note, RecentLedger, Wanted
from oracle.trade_log import Hole, LoggedTrade, Position, logged
from oracle.values import Trade

NOW_MS = 1_700_000_000_000
BTC = "BTCUSDT"


def trade(trade_id: int | str | None, *, event_ms: int | None = None) -> Trade:
    at_ms = int(trade_id) if event_ms is None and trade_id is not None else event_ms or 0
    return Trade(
        exchange_symbol=BTC,
        price=Decimal(1),
        size=Decimal(1),
        side="buy",
        trade_id=None if trade_id is None else str(trade_id),
        event_ms=NOW_MS + at_ms,
        received_ms=NOW_MS,
    )


def put(*trades: Trade) -> list[LoggedTrade | Note]:
    return [logged(each) for each in trades]


def counted() -> tuple[CountedLedger, list[LoggedTrade | Note]]:
    out: list[LoggedTrade | Note] = []
    return CountedLedger(out.append, now_ms=lambda: NOW_MS), out


def recent() -> tuple[RecentLedger, list[LoggedTrade | Note]]:
    out: list[LoggedTrade | Note] = []
    return RecentLedger(out.append, now_ms=lambda: NOW_MS), out


def resume(ledger: Any, **more: Any) -> None:
    ledger.resume(**{"known": {}, "holes": [], "trades": [], "now_ms": NOW_MS} | more)


def open_hole(after_id: str, from_ms: int, to_ms: int) -> Hole:
    return Hole(
        exchange_symbol=BTC,
        after_id=after_id,
        before_id=None,
        from_ms=NOW_MS + from_ms,
        to_ms=NOW_MS + to_ms,
        missing=None,
        reason="being fetched",
        is_open=True,
        found_ms=NOW_MS,
    )


# --- ids that count ---


def test_counted_a_jump_is_noted_before_the_trade_and_taken_back_after_the_last_filled() -> None:
    ledger, out = counted()
    hole = open_hole("1", 1, 5)

    for number in (1, 5):
        assert ledger.take(trade(number))
    assert ledger.incomplete == {BTC}
    assert ledger.wanted(BTC) == Wanted("1", NOW_MS + 1)
    assert ledger.settle(BTC, [trade(n) for n in (1, 2, 3, 4, 5, 6)])

    assert ledger.wanted(BTC) is None
    assert out == [
        *put(trade(1)),
        Note(record=(hole,)),
        *put(trade(5), trade(2), trade(3), trade(4)),
        Note(forget=hole),
    ]


def test_counted_what_cannot_be_had_is_named_with_exact_ids() -> None:
    ledger, out = counted()
    for number in (1, 5, 8):
        ledger.take(trade(number))
    ledger.settle(BTC, [trade(3)])

    assert ledger.give_up(BTC, why="not listed") == 3

    note = out[-1]
    assert isinstance(note, Note)
    assert note.forget == open_hole("1", 1, 8)
    assert [(h.after_id, h.before_id, h.missing, h.from_ms - NOW_MS) for h in note.record] == [
        ("1", "3", 1, 1),
        ("3", "5", 1, 3),
        ("5", "8", 2, 5),
    ]
    assert not ledger.take(trade(2))  # it was named as lost


def test_counted_what_was_refused_until_the_ids_had_begun_anew_is_asked_for() -> None:
    ledger, out = counted()
    ledger.take(trade(1_000_000, event_ms=0))
    anew = [trade(number, event_ms=3_600_000 + number) for number in range(1, RESTART_COUNT + 1)]

    assert [ledger.take(each) for each in anew] == [False] * (RESTART_COUNT - 1) + [True]

    hole = open_hole("0", 0, 3_600_000 + RESTART_COUNT)
    assert out[1:] == [Note(record=(hole,)), *put(anew[-1])]
    assert ledger.incomplete == {BTC}
    assert ledger.wanted(BTC) == Wanted("0", NOW_MS)
    assert ledger.settle(BTC, anew)
    assert out[3:] == [*put(*anew[:-1]), Note(forget=hole)]
    assert ledger.wanted(BTC) is None


def test_counted_a_hole_that_is_being_fetched_grows_with_the_next_jump() -> None:
    ledger, out = counted()
    for number in (1, 5, 8):
        ledger.take(trade(number))
    ledger.settle(BTC, [trade(3)])

    assert out == [
        *put(trade(1)),
        Note(record=(open_hole("1", 1, 5),)),
        *put(trade(5)),
        Note(forget=open_hole("1", 1, 5), record=(open_hole("1", 1, 8),)),
        *put(trade(8), trade(3)),
    ]


def test_counted_an_answer_with_nothing_of_ours_is_no_progress() -> None:
    ledger, _ = counted()
    for number in (1, 5):
        ledger.take(trade(number))

    assert ledger.settle(BTC, [trade(1), trade(5), trade(9)]) is False


def test_counted_resume_jumps_from_where_the_predecessor_stopped() -> None:
    ledger, out = counted()
    resume(ledger, known={BTC: Position(trade_id="7", event_ms=NOW_MS + 7)})

    assert not ledger.take(trade(7))
    assert ledger.take(trade(10))

    assert ledger.wanted(BTC) == Wanted("7", NOW_MS + 7)
    assert out == [Note(record=(open_hole("7", 7, 10),)), *put(trade(10))]


def test_counted_resume_asks_again_for_an_open_hole_but_not_for_what_was_logged() -> None:
    ledger, out = counted()
    hole = open_hole("3", 3, 8)
    known = {BTC: Position(trade_id="9", event_ms=NOW_MS + 9)}
    resume(ledger, known=known, holes=[hole], trades=put(trade(8), trade(5), trade(9)))

    assert ledger.incomplete == {BTC}
    ledger.settle(BTC, [trade(n) for n in range(3, 10)])

    assert out == [*put(trade(4), trade(6), trade(7)), Note(forget=hole)]


def test_counted_resume_merged_trades_of_the_log_cover_all_their_ids() -> None:
    ledger, out = counted()
    hole = open_hole("3", 3, 9)
    known = {BTC: Position(trade_id="9", event_ms=NOW_MS + 9)}
    resume(ledger, known=known, holes=[hole], trades=[logged(trade(9), 5)])

    assert ledger.wanted(BTC) == Wanted("3", NOW_MS + 3)
    ledger.settle(BTC, [trade(n) for n in range(3, 10)])

    assert out == [*put(trade(4)), Note(forget=hole)]


def test_counted_a_quiet_symbol_is_asked_about_once_somebody_listens_again() -> None:
    """No later trade may come for an hour whose id would jump over what was missed."""
    ledger, out = counted()
    ledger.take(trade(7))
    ledger.interrupted([BTC], now_ms=NOW_MS, why="the socket broke")
    assert ledger.incomplete == set()
    ledger.listening([BTC], now_ms=NOW_MS)
    assert ledger.incomplete == {BTC}
    assert ledger.wanted(BTC) == Wanted("7", NOW_MS + 7)
    assert ledger.settle(BTC, [trade(8), trade(9)])
    assert ledger.wanted(BTC) is None
    assert out == put(trade(7), trade(8), trade(9))


def test_counted_a_successor_asks_about_every_symbol_it_finds() -> None:
    ledger, out = counted()
    resume(ledger, known={BTC: Position(trade_id="7", event_ms=NOW_MS + 7)})
    ledger.listening([BTC], now_ms=NOW_MS)
    assert ledger.wanted(BTC) == Wanted("7", NOW_MS + 7)
    assert ledger.settle(BTC, [])
    assert ledger.wanted(BTC) is None
    assert out == []


def test_counted_a_symbol_no_predecessor_had_a_trade_of_is_named_by_time() -> None:
    ledger, out = counted()
    resume(ledger, known={"ETHUSDT": Position(trade_id="3", event_ms=NOW_MS - 40_000)})
    ledger.listening([BTC], now_ms=NOW_MS)
    ledger.take(trade(7))
    note = out[0]
    assert isinstance(note, Note)
    [hole] = note.record
    assert (hole.after_id, hole.before_id) == (None, "7")
    assert (hole.from_ms, hole.to_ms) == (NOW_MS - 40_000, NOW_MS + 7)


def test_recent_a_symbol_no_predecessor_had_a_trade_of_is_a_hole() -> None:
    ledger, out = recent()
    resume(ledger, known={"ETHUSDT": Position(trade_id="x", event_ms=NOW_MS - 40_000)})
    ledger.listening([BTC], now_ms=NOW_MS)
    spans = [
        (hole.exchange_symbol, hole.from_ms)
        for note in out
        if isinstance(note, Note)
        for hole in note.record
    ]
    assert (BTC, NOW_MS - 40_000) in spans


def test_counted_a_full_page_is_asked_to_go_on() -> None:
    ledger, _ = counted()
    ledger.take(trade(1))
    ledger.interrupted([BTC], now_ms=NOW_MS, why="the socket broke")
    ledger.listening([BTC], now_ms=NOW_MS)
    assert ledger.settle(BTC, [trade(number) for number in range(2, 102)])
    assert ledger.wanted(BTC) == Wanted("101", NOW_MS + 101)


def test_counted_an_answer_with_a_bad_row_confirms_nothing() -> None:
    ledger, _ = counted()
    ledger.take(trade(7))
    ledger.interrupted([BTC], now_ms=NOW_MS, why="the socket broke")
    ledger.listening([BTC], now_ms=NOW_MS)
    assert ledger.settle(BTC, [], complete=False) is False
    assert ledger.wanted(BTC) == Wanted("7", NOW_MS + 7)


def test_counted_what_cannot_be_asked_about_is_named_by_time() -> None:
    ledger, out = counted()
    ledger.take(trade(7, event_ms=-50))
    ledger.interrupted([BTC], now_ms=NOW_MS, why="the socket broke")
    ledger.listening([BTC], now_ms=NOW_MS)
    assert ledger.give_up(BTC, why="no answer") == 1
    note = out[-1]
    assert isinstance(note, Note)
    [hole] = note.record
    assert (hole.after_id, hole.before_id, hole.missing) == ("7", None, None)
    assert (hole.from_ms, hole.to_ms) == (NOW_MS - 50, NOW_MS)
    assert ledger.wanted(BTC) is None


def test_counted_an_interruption_before_the_first_trade_is_named_by_time() -> None:
    ledger, out = counted()
    ledger.listening([BTC], now_ms=NOW_MS)
    ledger.interrupted([BTC], now_ms=NOW_MS + 1, why="broke")

    ledger.take(trade(5))

    note = out[0]
    assert isinstance(note, Note)
    assert [(h.after_id, h.before_id, h.from_ms, h.to_ms) for h in note.record] == [
        (None, "5", NOW_MS, NOW_MS + 5)
    ]


def test_counted_trades_without_ids_all_count() -> None:
    ledger, out = counted()

    assert ledger.take(trade(None))
    assert ledger.take(trade(None))

    assert len(out) == 2


@given(st.permutations(range(1, 12)), st.sets(st.integers(1, 11)))
def test_counted_every_id_is_put_out_once_or_named(order: list[int], dropped: set[int]) -> None:
    ledger, out = counted()
    resume(ledger, known={BTC: Position(trade_id="0", event_ms=NOW_MS)})
    heard = [each for each in order if each not in dropped]
    for each in heard:
        ledger.take(trade(each))
    if ledger.wanted(BTC) is not None:
        ledger.give_up(BTC, why="gone")

    put_out = [int(item.trade_id or 0) for item in out if isinstance(item, LoggedTrade)]
    named = {
        each
        for item in out
        if isinstance(item, Note)
        for hole in item.record
        if not hole.is_open
        for each in range(int(hole.after_id or 0) + 1, int(hole.before_id or 0))
    }
    assert sorted(put_out) == sorted(heard)
    assert named == set(range(1, max(heard, default=0) + 1)) - set(heard)


# --- ids that do not ---


def broken_recent() -> tuple[RecentLedger, list[LoggedTrade | Note]]:
    ledger, out = recent()
    ledger.listening([BTC], now_ms=NOW_MS)
    for number in (1, 2):
        ledger.take(trade(number))
    ledger.interrupted([BTC], now_ms=NOW_MS + 10, why="broke")
    ledger.listening([BTC], now_ms=NOW_MS + 20)
    assert ledger.wanted(BTC) is None  # nothing can be proven before a trade comes
    ledger.take(trade(30))
    out.clear()
    return ledger, out


def test_recent_an_interruption_is_named_until_a_list_overlaps_on_both_sides() -> None:
    ledger, out = broken_recent()
    assert ledger.incomplete == {BTC}
    assert ledger.wanted(BTC) == Wanted("2", NOW_MS + 2)

    assert ledger.settle(BTC, [trade(n) for n in (1, 2, 15, 30, 31)])

    assert out[:-1] == put(trade(15), trade(31))
    note = out[-1]
    assert isinstance(note, Note)
    assert note.record == ()
    assert note.forget is not None
    span = (note.forget.after_id, note.forget.before_id, note.forget.from_ms, note.forget.to_ms)
    assert span == ("2", "30", NOW_MS + 2, NOW_MS + 30)


def test_recent_a_list_that_reaches_back_too_little_fills_and_proves_nothing() -> None:
    ledger, out = broken_recent()

    assert ledger.settle(BTC, [trade(n) for n in (15, 30)]) is False

    assert out == put(trade(15))
    assert ledger.give_up(BTC, why="not listed") == 1
    note = out[-1]
    assert isinstance(note, Note)
    assert [(h.is_open, h.missing, h.reason) for h in note.record] == [
        (False, None, "broke; not listed")
    ]


def test_recent_a_list_that_has_not_our_first_one_yet_proves_nothing() -> None:
    ledger, out = broken_recent()

    assert ledger.settle(BTC, [trade(n) for n in (1, 2, 15)]) is False

    assert out == put(trade(15))
    assert not ledger.take(trade(15))


def test_recent_an_older_trade_of_the_list_is_not_counted_again() -> None:
    ledger, out = broken_recent()

    # 0 was logged before we can remember: it stands before one that we know.
    ledger.settle(BTC, [trade(0), trade(1), trade(2), trade(30)])

    assert [item for item in out if isinstance(item, LoggedTrade)] == []


def test_recent_interrupted_again_the_hole_grows() -> None:
    ledger, out = broken_recent()

    ledger.interrupted([BTC], now_ms=NOW_MS + 40, why="broke again")

    assert ledger.wanted(BTC) is None
    note = out[-1]
    assert isinstance(note, Note)
    assert [(h.after_id, h.from_ms, h.to_ms) for h in note.record] == [
        ("2", NOW_MS + 2, NOW_MS + 40)
    ]
    ledger.take(trade(50))
    assert ledger.settle(BTC, [trade(n) for n in (2, 15, 30, 35, 50)])
    assert ledger.wanted(BTC) is None


def test_recent_resume_begins_with_an_interruption_and_the_log_s_latest_ids() -> None:
    ledger, out = recent()
    old = open_hole("1", 1, 2)
    known = {BTC: Position(trade_id="7", event_ms=NOW_MS + 7)}
    resume(ledger, known=known, holes=[old], trades=put(trade(6), trade(7)))

    assert not ledger.take(trade(6))
    assert ledger.take(trade(9))

    kinds = [item.forget == old for item in out if isinstance(item, Note)]
    assert kinds[0] is True  # named for good
    assert ledger.wanted(BTC) == Wanted("7", NOW_MS + 7)


def test_recent_a_trade_there_is_no_room_for_is_an_interruption_once() -> None:
    ledger, out = recent()
    ledger.take(trade(1))
    for number in (2, 3, 4):
        ledger.lost([BTC], now_ms=NOW_MS + number, why="no room")

    notes = [item for item in out if isinstance(item, Note)]
    assert len(notes) == 1
    ledger.take(trade(5))
    assert ledger.settle(BTC, [trade(n) for n in (1, 2, 3, 4, 5)])
    assert [item.trade_id for item in out if isinstance(item, LoggedTrade)] == list("15234")
