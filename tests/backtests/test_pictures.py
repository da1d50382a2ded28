"""What the pages of runs draw, from files and candles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backtests import chart_candles, curves, metric_words, trials
from market.coverage import INDEX, Series
from market.ranges import TimeRange
from tests.backtests.series import HOUR_MS, START_MS
from tests.backtests.stored import SYMBOL, store, trending


def test_equity_is_thinned_and_keeps_its_extremes(tmp_path: Path):
    path = tmp_path / "equity.csv"
    values = [1_000 + bar % 97 for bar in range(20_000)]
    values[7_777], values[12_345] = 5_000, 100
    rows = "\n".join(f"in_sample,{bar * 60_000},{value}" for bar, value in enumerate(values))
    path.write_text(f"part,time_ms,equity\n{rows}\n")

    (part,) = curves.equity(path, stitched=False)

    assert len(part["equity"]) <= curves.MAX_POINTS
    assert [7_777 * 60_000, 5_000.0] in part["equity"]
    assert [12_345 * 60_000, 100.0] in part["equity"]
    assert part["deepest"] == [12_345 * 60_000, 100 / 5_000 - 1]
    assert part["deepest"] in part["drawdown"]
    assert (part["equity"][0][0], part["equity"][-1][0]) == (0, 19_999 * 60_000)


def test_trades_of_a_window_are_those_that_touch_it(tmp_path: Path):
    path = tmp_path / "trades.csv"
    path.write_text(
        "part,entry_ms,exit_ms,size,entry_price,exit_price,fee,pnl,return_ratio,reason\n"
        "in_sample,0,10,1.0,2.0,3.0,0.1,0.9,0.45,signal\n"
        "in_sample,20,30,-1.0,3.0,2.0,0.1,0.9,0.3,stop\n"
    )
    found = curves.trades(path, start_ms=15, end_ms=20)
    assert (found["trades"], found["inside"], found["total"]) == ([], 0, 2)
    found = curves.trades(path, start_ms=10, end_ms=21)
    assert [trade["reason"] for trade in found["trades"]] == ["signal", "stop"]


TRIALS = """rank,trial,param_fast,param_slow,param_width,score,failures,sharpe,max_drawdown_ratio
1,3,5,20,1.0,2.0,,2.0,0.1
2,0,5,20,2.0,1.5,,1.5,0.05
3,1,3,20,1.0,1.0,,1.0,0.2
4,2,3,30,1.0,,trades 1 are fewer than 10,3.0,0.3
"""


@pytest.fixture
def trials_csv(tmp_path: Path) -> Path:
    path = tmp_path / "trials.csv"
    path.write_text(TRIALS)
    return path


def test_heat_takes_the_best_of_a_cell(trials_csv: Path):
    heat = trials.heat(trials_csv, x="fast", y="slow", metric="score", others="best")
    assert heat["cells"] == [[0, 0, 1.0, 1], [0, 1, None, 1], [1, 0, 2.0, 2]]
    assert heat["best"] == [1, 0]


def test_heat_of_a_drawdown_takes_the_lowest(trials_csv: Path):
    metric = "max_drawdown_ratio"
    heat = trials.heat(trials_csv, x="fast", y=None, metric=metric, others="best")
    assert heat["cells"] == [[0, 0, 0.2, 2], [1, 0, 0.05, 2]]


def test_heat_fixed_leaves_out_whose_other_parameters_are_others(trials_csv: Path):
    heat = trials.heat(trials_csv, x="fast", y="slow", metric="score", others="fixed")
    assert heat["cells"] == [[0, 0, 1.0, 1], [0, 1, None, 1], [1, 0, 2.0, 1]]


def test_heat_of_many_values_puts_neighbours_together(tmp_path: Path):
    path = tmp_path / "trials.csv"
    rows = "".join(f"{n},{n},{n},{n / 10},\n" for n in range(1, 1_001))
    path.write_text("rank,trial,param_fast,score,failures\n" + rows)
    heat = trials.heat(path, x="fast", y=None, metric="score", others="best")
    assert len(heat["x"]["labels"]) <= trials.MAX_SIDE
    assert heat["x"]["labels"][0] == "1–17"
    assert heat["cells"][0] == [0, 0, 1.7, 17]


def test_summary_names_what_varies(trials_csv: Path):
    found = trials.summary(trials_csv, top_count=1)
    assert (found.count, found.varied) == (4, ("fast", "slow", "width"))
    assert found.metrics == ("score", "sharpe", "max_drawdown_ratio")
    assert found.top == [
        {
            "rank": 1,
            "params": {"fast": 5, "slow": 20, "width": 1.0},
            "score": 2.0,
            "failures": "",
            "metrics": {"sharpe": 2.0, "max_drawdown_ratio": 0.1},
        }
    ]


@pytest.mark.django_db
def test_candles_of_a_long_range_are_put_together():
    candles = trending(2_000)
    store(candles)
    series = Series(exchange=INDEX, symbol=SYMBOL, timeframe="1h")
    whole = TimeRange(start_ms=START_MS, end_ms=START_MS + 2_000 * HOUR_MS)

    bars = chart_candles.read(series, whole)
    second = bars.rows[1]
    inside = [
        place for place, at in enumerate(candles.time_ms) if 0 <= at - second[0] < bars.step_ms
    ]

    assert (bars.step_ms, len(inside)) == (3 * HOUR_MS, 3)
    assert len(bars.rows) <= chart_candles.MAX_BARS
    assert second[1:5] == pytest.approx(
        [
            candles.open[inside[0]],
            max(candles.high[inside]),
            min(candles.low[inside]),
            candles.close[inside[-1]],
        ]
    )


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("return_ratio", -0.0159, "-1.59 %"),
        ("sharpe", 1.23456, "1.235"),
        ("trade_count", 12_345, "12,345"),
        ("max_drawdown_ms", 3 * 86_400_000, "3.0 d"),
        ("max_drawdown_ms", 3_600_000, "60 min"),
        ("calmar", None, "—"),
    ],
)
def test_metrics_are_shown_with_their_unit(name: str, value: Any, words: str):
    assert metric_words.text(name, value) == words
