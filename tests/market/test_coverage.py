from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market import coverage
from market.coverage import INDEX, Series
from market.models import Coverage
from market.ranges import TimeRange, join, subtract

pytestmark = pytest.mark.django_db

START_MS = 1_700_000_040_000
SERIES = Series(exchange=INDEX, symbol="BTC/USDT", timeframe="1m")
OTHER = Series(exchange="binance", symbol="BTC/USDT", timeframe="1m")
WHOLE = TimeRange(start_ms=START_MS, end_ms=START_MS + 100)

ranges = st.builds(
    lambda start, length: TimeRange(
        start_ms=START_MS + start, end_ms=START_MS + min(100, start + length)
    ),
    st.integers(0, 90),
    st.integers(1, 30),
)
steps = st.lists(st.tuples(st.booleans(), ranges), max_size=8)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps)
def test_mark_and_forget_in_any_order_are_their_sums(
    db: None, steps: list[tuple[bool, TimeRange]]
) -> None:
    Coverage.objects.all().delete()
    expected: list[TimeRange] = []
    for marked, each in steps:
        (coverage.mark if marked else coverage.forget)(SERIES, each)
        expected = (
            join([*expected, each])
            if marked
            else [left for part in expected for left in subtract(part, [each])]
        )
    assert coverage.covered(SERIES, WHOLE) == expected
    assert coverage.missing(SERIES, WHOLE) == subtract(WHOLE, expected)
    assert Coverage.objects.count() == len(expected)
    assert coverage.covered(OTHER, WHOLE) == []


def test_covered_is_clipped_to_what_is_asked() -> None:
    coverage.mark(SERIES, WHOLE)
    inner = TimeRange(start_ms=START_MS + 10, end_ms=START_MS + 20)
    after = TimeRange(start_ms=WHOLE.end_ms, end_ms=WHOLE.end_ms + 5)
    assert coverage.covered(SERIES, inner) == [inner]
    assert coverage.covered(SERIES, after) == []
