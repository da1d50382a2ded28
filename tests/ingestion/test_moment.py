"""Points in time, in each spelling that people may type."""

from __future__ import annotations

from argparse import ArgumentParser

import pytest

from ingestion.moment import allow_ago, read_moment

NOW_MS = 1_700_000_040_123


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW_MS),
        ("-24h", NOW_MS - 86_400_000),
        ("-30m", NOW_MS - 1_800_000),
        ("-2d", NOW_MS - 172_800_000),
        ("1700000000", 1_700_000_000_000),
        ("2024-05-01", 1_714_521_600_000),
        ("2024-05-01T12:30", 1_714_566_600_000),
        ("2024-05-01T12:30:00+02:00", 1_714_559_400_000),
        ("2024-05-01T12:30:00Z", 1_714_566_600_000),
    ],
)
def test_read_moment_each_spelling(text: str, expected: int) -> None:
    assert read_moment(text, now_ms=NOW_MS) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "-24", "-24x", "1700000000000", "2024-13-01"])
def test_read_moment_anything_else_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(ValueError, match="is no point in time: write an ISO date such as"):
        read_moment(text, now_ms=NOW_MS)


def test_read_moment_before_1970_is_refused() -> None:
    with pytest.raises(ValueError, match="'-999999w' is no point in time since 1970"):
        read_moment("-999999w", now_ms=NOW_MS)


def test_allow_ago_takes_a_minus_for_a_value() -> None:
    parser = ArgumentParser()
    allow_ago(parser)
    parser.add_argument("--from", dest="start")
    assert parser.parse_args(["--from", "-24h"]).start == "-24h"
