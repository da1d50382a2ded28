"""A target position per bar, traded: equity and trades by the rules of `backtests.engine.protocol`.

A target that changes at bar i trades at the open of bar i + 1, so a run is a row of holdings, each
from one such open to the next; nothing else is carried over but the cash. ``ledger`` has a row per
trade: entry bar, exit bar, size, entry price, exit price, fees, reason. Compiled functions call
none of another file: numba's cache would not see that one change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Target = NDArray[np.int8]

SIGNAL, STOP, LIMIT, END, BUST = range(5)  # why a trade ended: `Trade.reason`, in this order
ENTRY_BAR, EXIT_BAR, SIZE, ENTRY, EXIT, FEE, REASON = range(7)
LEDGER_COLUMNS = 7


class Rules(NamedTuple):
    """`EngineConfig` as numbers. ``stop`` and ``limit`` are 0 where there is none."""

    cash: float
    taker: float
    maker: float
    slippage: float
    size: float
    longs: bool
    shorts: bool
    stop: float
    limit: float


class Prices(NamedTuple):
    """What is traded on."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats


@njit(nogil=True)
def restrict(target: Target, rules: Rules) -> int:
    """Flatten what is not permitted, in place; return how many entries are left to trade."""
    least, most = -1 if rules.shorts else 0, 1 if rules.longs else 0
    for bar in range(len(target)):
        target[bar] = min(max(target[bar], least), most)
    entries = 0
    for bar in range(1, len(target)):
        entries += (target[bar] != target[bar - 1]) & (target[bar] != 0)
    return entries


@njit(nogil=True)
def simulate(prices: Prices, target: Target, rules: Rules, equity: Floats, ledger: Floats) -> int:
    """Fill ``equity`` (at each close) and ``ledger``; return the number of trades.

    ``target`` holds only what is permitted, and 0 at first: that bar places no order.
    """
    bars = len(target)
    cash, trades, first, side = rules.cash, 0, 0, 0
    while first < bars:
        until = first + 1  # the next bar whose open changes the side
        while until < bars and target[until - 1] == side:
            until += 1
        if side == 0:
            equity[first:until] = cash
        else:
            row = ledger[trades]
            cash = _hold(prices, rules, side, first, until, cash, equity, row)
            trades += 1
            exit_bar = int(row[EXIT_BAR])
            if cash <= 0:
                equity[exit_bar:] = 0.0
                return trades
            equity[exit_bar:until] = cash
        side, first = target[until - 1], until
    return trades


@njit(nogil=True)
def _hold(
    prices: Prices,
    rules: Rules,
    side: int,
    first: int,
    until: int,
    cash: float,
    equity: Floats,
    row: Floats,
) -> float:
    """Enter at the open of ``first``, leave at that of ``until`` or before; the cash then."""
    fill = prices.open[first] * (1 + side * rules.slippage)
    size = side * cash * rules.size / (fill * (1 + rules.taker))
    fee = rules.taker * abs(size) * fill
    stop, limit = fill * (1 - side * rules.stop), fill * (1 + side * rules.limit)
    exit_bar, price, reason = until, 0.0, SIGNAL
    if rules.stop > 0 or rules.limit > 0:
        exit_bar, price, reason = _bracket(prices, rules, side, first, until, stop, limit)
    if reason == SIGNAL and until == len(prices.close):
        exit_bar, price, reason = until - 1, prices.close[until - 1], END
    elif reason == SIGNAL:
        price = prices.open[until]
    marked = exit_bar + 1 if reason == END else exit_bar
    bust_bar = _mark(prices.close, first, marked, cash - fee, size, fill, equity)
    if bust_bar < marked:
        exit_bar, price, reason = bust_bar, prices.close[bust_bar], BUST
    leave = price * (1 - side * rules.slippage)
    ratio = rules.maker if reason == LIMIT else rules.taker
    exit_fee = ratio * abs(size) * leave
    row[ENTRY_BAR], row[EXIT_BAR], row[REASON] = first, exit_bar, reason
    row[SIZE], row[ENTRY], row[EXIT], row[FEE] = size, fill, leave, fee + exit_fee
    left: float = cash - fee + size * (leave - fill) - exit_fee
    return left


@njit(nogil=True)
def _bracket(
    prices: Prices, rules: Rules, side: int, first: int, until: int, stop: float, limit: float
) -> tuple[int, float, int]:
    """The bar, price and kind of the first stop or limit hit in ``[first, until)``.

    Which of the two came first inside a bar is not known: it was the stop.
    """
    for bar in range(first, until):
        worst, best = prices.low[bar], prices.high[bar]
        if side < 0:
            worst, best = best, worst
        if rules.stop > 0 and side * worst <= side * stop:
            return bar, side * min(side * prices.open[bar], side * stop), STOP
        if rules.limit > 0 and side * best >= side * limit:
            return bar, side * max(side * prices.open[bar], side * limit), LIMIT
    return until, 0.0, SIGNAL


@njit(nogil=True)
def _mark(
    close: Floats, first: int, until: int, cash: float, size: float, fill: float, equity: Floats
) -> int:
    """Equity at each close of ``[first, until)``; the first bar it is gone, or ``until``.

    A long cannot be gone: it was paid in full, and prices are above 0.
    """
    # Slices from 0: numba would test each index of another range for being negative.
    marks, prices = equity[first:until], close[first:until]
    for k in range(len(marks)):
        marks[k] = cash + size * (prices[k] - fill)
    if size < 0:
        for bar in range(first, until):
            if equity[bar] <= 0:
                return bar
    return until
