import json

import pytest

from bench.figures import Figure, percentile, save


def figure(**changes):
    return Figure(**{"name": "tick", "value": 10.0, "unit": "ms", "floor": 4.0, **changes})


@pytest.mark.parametrize(
    ("samples", "share", "expected"),
    [
        ([5], 0.99, 5),
        (range(1, 101), 0.99, 99),
        (range(1, 101), 0.5, 50),
        (range(1, 1001), 0.999, 999),
        ([3, 1, 2], 1.0, 3),
    ],
)
def test_percentile_is_the_nearest_rank(samples, share, expected):
    assert percentile(list(samples), share) == expected


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"limit": 10}, True),
        ({"limit": 9.9}, False),
        ({"max_ratio": 2.5}, True),
        ({"max_ratio": 2.4}, False),
        ({"floor": None, "limit": 11}, True),
        ({"floor": None, "max_ratio": 5}, False),  # a promised ratio needs a floor
        ({"at_least": 10}, True),
        ({"at_least": 10.1}, False),
        ({"at_least": 9, "limit": 9.5}, False),
        ({"min_ratio": 2.5}, True),
        ({"min_ratio": 2.6}, False),
        ({"floor": None, "min_ratio": 1}, False),
    ],
)
def test_a_figure_holds_when_it_keeps_each_promise(changes, holds):
    assert figure(**changes).holds is holds


def test_a_figure_that_falls_short_says_so():
    assert "FALLS SHORT (<= 9 ms)" in figure(limit=9).line()
    assert "2.50 x the floor of 4.00 ms" in figure().line()


def test_save_keeps_what_other_runs_measured(tmp_path):
    report = tmp_path / "home" / "bench.json"
    save([figure(name="a"), figure(name="b", floor=None)], report)
    save([figure(name="a", value=8.0)], report)
    assert json.loads(report.read_text()) == {
        "a": {"value": 8.0, "unit": "ms", "floor": 4.0, "ratio": 2.0},
        "b": {"value": 10.0, "unit": "ms", "floor": None, "ratio": None},
    }
