"""Ids: what is new is taken once, and what was jumped over is known exactly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingestion.dedupe import RECENT_IDS, RESTART_COUNT, CountedIds, RecentIds, Span

ids = st.lists(st.integers(1, 60), min_size=1, max_size=120)


def missing(track: CountedIds) -> set[int]:
    return {each for span in track.missing for each in range(span.first, span.last + 1)}


@given(ids)
def test_counted_ids_are_accepted_once_and_the_rest_is_missing(arriving: list[int]) -> None:
    track = CountedIds()

    accepted = [each for each in arriving if track.accept(each, event_ms=each)]

    assert len(accepted) == len(set(accepted))
    assert track.high == max(accepted)
    everything = set(range(arriving[0], max(accepted) + 1))
    assert set(accepted) | missing(track) == everything
    assert set(accepted).isdisjoint(missing(track))
    assert set(accepted) == {each for each in arriving if each >= arriving[0]}


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 5)), min_size=1, max_size=80))
def test_counted_ids_merged_trades_never_count_an_id_twice(
    arriving: list[tuple[int, int]],
) -> None:
    track, counted = CountedIds(0), list[int]()

    for last, fills in arriving:
        fills = min(fills, last)
        if track.accept(last, event_ms=last, fills=fills):
            counted += range(last - fills + 1, last + 1)

    assert len(counted) == len(set(counted))
    assert set(counted) | missing(track) == set(range(1, (track.high or 0) + 1))
    assert set(counted).isdisjoint(missing(track))


def test_counted_ids_a_merged_trade_known_in_part_is_asked_for_singly() -> None:
    track = CountedIds(10, 1_000)

    assert track.accept(12, event_ms=1_100, fills=3) is False

    assert track.missing == [Span(11, 12, 1_000)]
    assert [track.accept(each, event_ms=1_100) for each in (11, 12)] == [True, True]
    assert track.missing == []


def test_counted_ids_a_filled_part_moves_the_time_to_ask_from() -> None:
    track = CountedIds(10, 1_000)
    track.accept(20, event_ms=2_000)

    track.accept(15, event_ms=1_500)

    assert track.missing == [Span(11, 14, 1_000), Span(16, 19, 1_500)]


def test_counted_ids_follow_an_exchange_that_counts_anew() -> None:
    track = CountedIds(1_000_000, 1_000)
    later_ms = 1_000 + 3_600_000

    verdicts = [track.accept(each, event_ms=later_ms) for each in range(1, RESTART_COUNT + 2)]

    assert verdicts == [False] * (RESTART_COUNT - 1) + [True, True]
    # Those refused were no duplicates, and nobody would ask for them otherwise.
    assert track.missing == [Span(1, RESTART_COUNT - 1, 1_000)]
    assert [track.accept(each, event_ms=later_ms) for each in (1, 1)] == [True, False]


def test_counted_ids_anew_in_another_order_miss_none_of_those_refused() -> None:
    track = CountedIds(1_000_000, 1_000)
    arriving = [*range(2, RESTART_COUNT + 2), 1, RESTART_COUNT + 2]
    arriving[4], arriving[RESTART_COUNT - 1] = arriving[RESTART_COUNT - 1], arriving[4]

    accepted = {each for each in arriving if track.accept(each, event_ms=3_600_000)}

    assert accepted | missing(track) == set(range(2, RESTART_COUNT + 3))
    assert accepted.isdisjoint(missing(track))


def test_counted_ids_merged_trades_refused_are_missing_with_all_their_ids() -> None:
    track = CountedIds(1_000_000, 1_000)

    for last in range(3, 3 * RESTART_COUNT + 1, 3):
        track.accept(last, event_ms=3_600_000, fills=3)

    assert track.high == 3 * RESTART_COUNT
    assert track.missing == [Span(1, 3 * RESTART_COUNT - 3, 1_000)]


def test_counted_ids_refused_before_a_known_one_came_are_not_missing() -> None:
    track = CountedIds(1_000_000, 1_000)
    track.accept(5, event_ms=3_600_000)
    track.accept(1_000_001, event_ms=1_100)

    for each in range(10, RESTART_COUNT + 10):
        track.accept(each, event_ms=3_600_000)

    assert track.missing == [Span(10, RESTART_COUNT + 8, 1_100)]


def test_counted_ids_repeats_are_no_new_count() -> None:
    track = CountedIds(100, 1_000)

    assert not any(track.accept(each % 100, event_ms=1_000) for each in range(1_000))
    assert track.high == 100


@given(st.lists(st.text(min_size=1, max_size=2)))
def test_recent_ids_are_accepted_once(arriving: list[str]) -> None:
    track = RecentIds()

    accepted = [each for each in arriving if track.accept(each)]

    assert sorted(accepted) == sorted(set(arriving))


def test_recent_ids_are_bounded_and_forget_the_oldest() -> None:
    track = RecentIds()
    for number in range(RECENT_IDS + 1):
        track.accept(str(number))

    assert len(track.snapshot()) == RECENT_IDS
    assert "0" not in track
    assert "1" in track
