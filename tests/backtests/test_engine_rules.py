"""The rules of `backtests.engine.protocol`, each on bars that can be followed by hand.

SMA cross with windows 1 and 2 wants +1 after a close above the one before, -1 after one below.
"""

from __future__ import annotations

from typing import Any

import pytest

from backtests.engine.config import EngineConfig
from backtests.engine.kernel import KernelEngine
from backtests.engine.results import Reason, Result
from tests.backtests.series import bars

UP_DOWN = {"fast": 1, "slow": 2}


def run(kernel: KernelEngine, *rows: tuple[float, float, float, float], **rules: Any) -> Result:
    free = {"taker_ratio": 0.0, "maker_ratio": 0.0, "slippage_bps": 0.0, "initial_cash": 1_000.0}
    config = EngineConfig(strategy_id="sma_cross", timeframe="1h", **{**free, **rules})
    return kernel.run_single(config, bars(*rows), UP_DOWN)


def told(result: Result) -> list[tuple[int, float, int, float, str]]:
    return [
        (t.entry_bar, t.entry_price, t.exit_bar, t.exit_price, str(t.reason)) for t in result.trades
    ]


RISE_THEN_FALL = (
    (100, 100, 100, 100),
    (100, 110, 100, 110),  # wants long
    (120, 130, 115, 125),  # enters at 120
    (125, 126, 100, 101),  # wants short
    (90, 95, 85, 88),  # leaves at 90
    (88, 89, 80, 81),
)


def test_signal_fills_at_the_open_of_the_next_bar(kernel: KernelEngine):
    result = run(kernel, *RISE_THEN_FALL)
    assert told(result) == [(2, 120.0, 4, 90.0, "signal")]
    assert result.equity.tolist() == pytest.approx(
        [1_000, 1_000, 1_000 * 125 / 120, 1_000 * 101 / 120, 750, 750]
    )


def test_reversal_closes_and_enters_at_the_same_open(kernel: KernelEngine):
    result = run(kernel, *RISE_THEN_FALL, sides="both")
    assert told(result) == [(2, 120.0, 4, 90.0, "signal"), (4, 90.0, 5, 81.0, "end")]
    assert [trade.size for trade in result.trades] == pytest.approx([1_000 / 120, -750 / 90])
    assert result.equity[-1] == pytest.approx(750 * 1.1)


def test_end_closes_at_the_last_close_with_costs(kernel: KernelEngine):
    result = run(kernel, *RISE_THEN_FALL[:4], taker_ratio=0.01, slippage_bps=100)
    entry, leave = 120 * 1.01, 101 * 0.99
    size = 1_000 / (entry * 1.01)
    (trade,) = result.trades
    assert (trade.entry_bar, trade.exit_bar, trade.reason) == (2, 3, Reason.END)
    assert (trade.size, trade.entry_price, trade.exit_price) == pytest.approx((size, entry, leave))
    assert trade.fee == pytest.approx(size * 0.01 * (entry + leave))
    assert result.equity[2] == pytest.approx(1_000 - size * entry * 0.01 + size * (125 - entry))
    assert result.equity[-1] == pytest.approx(1_000 + trade.pnl)


def test_last_signal_without_a_next_bar_trades_nothing(kernel: KernelEngine):
    assert run(kernel, *RISE_THEN_FALL[:2], (110, 111, 109, 110)).trades[0].entry_bar == 2
    quiet = (100, 100, 100, 100)
    assert run(kernel, quiet, quiet, (100, 120, 100, 120)).trades == ()


@pytest.mark.parametrize(
    ("bar", "expected"),
    [
        ((120, 140, 100, 130), (2, 120.0, 2, 108.0, "stop")),  # both reached: it was the stop
        ((120, 140, 110, 130), (2, 120.0, 2, 132.0, "limit")),
        ((120, 125, 118, 121), (2, 120.0, 3, 125.0, "end")),
    ],
    ids=["both", "limit", "neither"],
)
def test_brackets_inside_the_entry_bar(
    kernel: KernelEngine, bar: tuple[float, float, float, float], expected: tuple[Any, ...]
):
    result = run(
        kernel, *RISE_THEN_FALL[:2], bar, (122, 126, 121, 125),
        stop_loss_ratio=0.1, take_profit_ratio=0.1,
    )  # fmt: skip
    ((entry_bar, entry, exit_bar, leave, reason),) = told(result)
    assert (entry_bar, entry, exit_bar, pytest.approx(leave), reason) == expected


@pytest.mark.parametrize(
    ("bar", "price", "reason"),
    [((90, 95, 85, 94), 90.0, "stop"), ((150, 151, 149, 150), 150.0, "limit")],
)
def test_gap_through_a_bracket_fills_at_the_open(
    kernel: KernelEngine, bar: tuple[float, float, float, float], price: float, reason: str
):
    result = run(
        kernel, *RISE_THEN_FALL[:3], bar, bar,
        stop_loss_ratio=0.1, take_profit_ratio=0.1,
    )  # fmt: skip
    assert told(result) == [(2, 120.0, 3, price, reason)]


def test_after_a_stop_the_account_waits_for_another_want(kernel: KernelEngine):
    rising = [(120, 125, 107, 120 + k) for k in range(1, 5)]
    result = run(kernel, *RISE_THEN_FALL[:2], *rising, stop_loss_ratio=0.1)
    assert [trade.reason for trade in result.trades] == [Reason.STOP]
    assert result.equity[2:].tolist() == pytest.approx([900] * 4)


def test_take_profit_pays_the_maker_stop_the_taker(kernel: KernelEngine):
    costs = {"taker_ratio": 0.01, "maker_ratio": 0.002, "stop_loss_ratio": 0.1}
    won = run(
        kernel, *RISE_THEN_FALL[:2], (120, 140, 119, 130), (130, 130, 130, 130),
        take_profit_ratio=0.1, **costs,
    ).trades[0]  # fmt: skip
    assert won.fee == pytest.approx(won.size * (120 * 0.01 + 132 * 0.002))
    lost = run(
        kernel, *RISE_THEN_FALL[:2], (120, 121, 100, 101), (101, 101, 101, 101), **costs
    ).trades[0]
    assert lost.fee == pytest.approx(lost.size * (120 + 108) * 0.01)


def test_size_ratio_spends_that_share_of_the_cash(kernel: KernelEngine):
    (trade,) = run(kernel, *RISE_THEN_FALL, size_ratio=0.25, taker_ratio=0.01).trades
    assert trade.size * 120 * 1.01 == pytest.approx(250)


@pytest.mark.parametrize("sides", ["long", "short"])
def test_side_not_permitted_is_flat(kernel: KernelEngine, sides: str):
    sizes = [trade.size for trade in run(kernel, *RISE_THEN_FALL, sides=sides).trades]
    assert len(sizes) == 1
    assert (sizes[0] > 0) == (sides == "long")


def test_bust_ends_the_run_at_zero(kernel: KernelEngine):
    result = run(
        kernel,
        (100, 100, 100, 100),
        (100, 100, 90, 90),  # wants short
        (90, 95, 80, 85),  # enters at 90
        (85, 200, 80, 190),  # more than doubled: gone
        (190, 190, 100, 100),
        (100, 120, 100, 120),
        (120, 130, 120, 130),
        sides="both",
    )
    assert told(result) == [(2, 90.0, 3, 190.0, "bust")]
    assert result.equity[3:].tolist() == [0.0] * 4
    assert result.metrics.return_ratio == -1.0
    assert result.metrics.max_drawdown_ratio == 1.0


def test_first_bar_places_no_order(kernel: KernelEngine):
    candles = bars(*((100 + k, 101 + k, 99 + k, 100.5 + k) for k in range(8)))
    config = EngineConfig(strategy_id="sma_cross", timeframe="1h")
    late = kernel.run_single(config, candles.part(4, 8, history_bars=3), UP_DOWN)
    assert [trade.entry_bar for trade in late.trades] == [3 + 2]
    assert len(late.equity) == 4


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"strategy_id": "nope"}, "no strategy 'nope'; there are sma_cross"),
        ({"timeframe": "2h"}, "timeframe must be one of 1m, 5m"),
        ({"initial_cash": 0}, "initial_cash must be above 0"),
        ({"initial_cash": float("inf")}, "initial_cash must be a finite number"),
        ({"taker_ratio": -0.1}, "taker_ratio must be at least 0"),
        ({"maker_ratio": 0.5}, "maker_ratio must be at most 0.1"),
        ({"slippage_bps": True}, "slippage_bps must be a finite number"),
        ({"size_ratio": 1.5}, "size_ratio must be at most 1"),
        ({"sides": "up"}, "sides must be long, short or both"),
        ({"stop_loss_ratio": 1}, "stop_loss_ratio must be below 1"),
        ({"sides": "both", "take_profit_ratio": 1.0}, "take_profit_ratio must be below 1"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_config_wrong_is_refused_with_what_would_do(wrong: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        EngineConfig(**{"strategy_id": "sma_cross", "timeframe": "1h", **wrong})
