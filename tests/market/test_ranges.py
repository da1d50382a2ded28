from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.ranges import TimeRange, cut, join, subtract, widen

ranges = st.builds(
    lambda start, length: TimeRange(start_ms=start, end_ms=start + length),
    st.integers(0, 60),
    st.integers(1, 25),
)


def points(parts: list[TimeRange]) -> set[int]:
    return {point for part in parts for point in range(part.start_ms, part.end_ms)}


def apart(parts: list[TimeRange]) -> bool:
    return all(a.end_ms < b.start_ms for a, b in pairwise(parts))


@pytest.mark.parametrize("end_ms", [5, 4])
def test_range_empty_or_backwards_is_refused(end_ms: int) -> None:
    with pytest.raises(ValueError, match="must be before"):
        TimeRange(start_ms=5, end_ms=end_ms)


@given(st.lists(ranges))
def test_join_same_points_apart_and_in_order(parts: list[TimeRange]) -> None:
    joined = join(parts)
    assert points(joined) == points(parts)
    assert apart(joined)


@given(ranges, st.lists(ranges))
def test_subtract_leaves_the_other_points(whole: TimeRange, parts: list[TimeRange]) -> None:
    left = subtract(whole, parts)
    assert points(left) == points([whole]) - points(parts)
    assert apart(left)


@given(ranges, st.integers(1, 9))
def test_widen_is_the_smallest_of_whole_buckets(whole: TimeRange, step_ms: int) -> None:
    wide = widen(whole, step_ms=step_ms)
    assert points([whole]) <= points([wide])
    assert (wide.start_ms % step_ms, wide.end_ms % step_ms) == (0, 0)
    assert whole.start_ms - wide.start_ms < step_ms
    assert wide.end_ms - whole.end_ms < step_ms


@given(ranges, st.integers(1, 9), st.booleans())
def test_cut_pieces_are_the_whole_in_order(
    whole: TimeRange, length_ms: int, newest_first: bool
) -> None:
    pieces = list(cut(whole, length_ms=length_ms, newest_first=newest_first))
    assert all(piece.length_ms == length_ms for piece in pieces[:-1])
    assert pieces[-1].length_ms <= length_ms
    assert sum(piece.length_ms for piece in pieces) == whole.length_ms
    assert join(pieces) == [whole]
    assert pieces == sorted(pieces, reverse=newest_first)
