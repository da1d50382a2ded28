"""Indicators by their usual definitions: an array in, one of the same length out, NaN at first.

Each value is made of the bars up to its own, so that cutting a series changes nothing before the
cut, to the last bit. Windows are never kept by adding one bar and taking one away, which lets
rounding grow and a spike leave a trace. The series is laid out in blocks as long as the window:
every window is then the end of one block and the beginning of the next, each of them plainly
accumulated (van Herk 1992, Gil and Werman 1993, for extrema; it works for sums as well).

Compiled functions call none of another file: numba's cache would not see that one change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@njit(nogil=True)
def sma(values: Floats, window: int) -> Floats:
    """Mean of the last ``window`` values."""
    out = np.full(len(values), np.nan)
    tail = np.zeros(window + 1)  # tail[k]: the block before this one, from its k-th value on
    for start in range(0, len(values), window):
        total = 0.0
        stop = min(start + window, len(values))
        for i in range(start, stop):
            total += values[i]
            if start > 0 or i == window - 1:
                out[i] = (tail[i - start + 1] + total) / window
        if stop - start == window:
            for k in range(window - 1, -1, -1):
                tail[k] = tail[k + 1] + values[start + k]
    return out


@njit(nogil=True)
def stdev(values: Floats, window: int) -> Floats:
    """Population standard deviation of the last ``window`` values, as Bollinger takes it.

    Bollinger, "Bollinger on Bollinger Bands" (2001). Welford's update inside a block, Chan, Golub
    and LeVeque (1979) to join two.
    """
    out = np.full(len(values), np.nan)
    means = np.zeros(window + 1)  # of the block before this one, from its k-th value on
    squares = np.zeros(window + 1)  # and its sum of squared deviations
    for start in range(0, len(values), window):
        mean, square = 0.0, 0.0
        stop = min(start + window, len(values))
        for i in range(start, stop):
            count = i - start + 1
            away = values[i] - mean
            mean += away / count
            square += away * (values[i] - mean)
            if start > 0 or i == window - 1:
                apart = mean - means[count]
                joined = squares[count] + apart * apart * count * (window - count) / window
                out[i] = np.sqrt((square + joined) / window)
        if stop - start == window:
            for k in range(window - 1, -1, -1):
                away = values[start + k] - means[k + 1]
                means[k] = means[k + 1] + away / (window - k)
                squares[k] = squares[k + 1] + away * (values[start + k] - means[k])
    return out


@njit(nogil=True)
def highest(values: Floats, window: int) -> Floats:
    """Highest of the ``window`` values before this bar: a channel without the bar itself."""
    out = np.full(len(values), np.nan)
    tail = np.full(window + 1, -np.inf)
    for start in range(0, len(values) - 1, window):
        most = -np.inf
        stop = min(start + window, len(values) - 1)
        for i in range(start, stop):
            most = max(most, values[i])
            if start > 0 or i == window - 1:
                out[i + 1] = max(tail[i - start + 1], most)
        if stop - start == window:
            for k in range(window - 1, -1, -1):
                tail[k] = max(tail[k + 1], values[start + k])
    return out


@njit(nogil=True)
def lowest(values: Floats, window: int) -> Floats:
    """Lowest of the ``window`` values before this bar."""
    return -highest(-values, window)


@njit(nogil=True)
def ema(values: Floats, window: int) -> Floats:
    """Exponential average, alpha 2 / (window + 1), seeded with the mean of the first window.

    The seed is TA-Lib's and StockCharts'. NaN at the beginning of ``values`` is passed over.
    """
    out = np.full(len(values), np.nan)
    first = 0
    while first < len(values) and np.isnan(values[first]):
        first += 1
    seeded = first + window - 1
    if seeded >= len(values):
        return out
    total = 0.0
    for i in range(first, seeded + 1):
        total += values[i]
    average = total / window
    out[seeded] = average
    alpha = 2.0 / (window + 1)
    for i in range(seeded + 1, len(values)):
        average += alpha * (values[i] - average)
        out[i] = average
    return out


@njit(nogil=True)
def rsi(values: Floats, window: int) -> Floats:
    """Wilder's relative strength index, 0 to 100; 50 where nothing moved.

    Wilder, "New Concepts in Technical Trading Systems" (1978): the first average gain and loss are
    means of ``window`` changes, each later one (before x (window - 1) + change) / window.
    """
    out = np.full(len(values), np.nan)
    gain, loss = 0.0, 0.0
    for i in range(1, len(values)):
        change = values[i] - values[i - 1]
        if i <= window:
            gain += max(change, 0.0) / window
            loss += max(-change, 0.0) / window
        else:
            gain = (gain * (window - 1) + max(change, 0.0)) / window
            loss = (loss * (window - 1) + max(-change, 0.0)) / window
        if i >= window:
            out[i] = 50.0 if gain + loss == 0 else 100 * gain / (gain + loss)
    return out


@njit(nogil=True)
def macd_histogram(fast: Floats, slow: Floats, smoothing: int) -> Floats:
    """MACD line less its signal line: ``fast`` and ``slow`` are EMAs of the close.

    Appel, "Technical Analysis: Power Tools for Active Investors" (2005).
    """
    line = fast - slow
    return line - ema(line, smoothing)
