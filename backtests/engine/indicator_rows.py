"""Indicators of one series, each computed once for all combinations that read it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from threading import Lock
from typing import TYPE_CHECKING

from backtests.engine import indicators

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from backtests.engine.candles import Candles
    from backtests.strategies.strategy import IndicatorKey, Number

    Floats = NDArray[np.float64]

# Beyond it the rows longest unread are dropped, and computed again when they are read again.
MAX_BYTES = 96 * 1024 * 1024


class IndicatorRows:
    """The rows of one series, shared by threads. Two may compute the same row; both are right."""

    def __init__(self, candles: Candles, max_bytes: int = MAX_BYTES) -> None:
        self.candles = candles
        self._max_bytes = max_bytes
        self._rows: OrderedDict[IndicatorKey, Floats] = OrderedDict()
        self._lock = Lock()

    def row(self, key: IndicatorKey) -> Floats:
        """The row of ``key``: (name, number…), a name of `_ROWS`."""
        with self._lock:
            if key in self._rows:
                self._rows.move_to_end(key)
                return self._rows[key]
        name, *numbers = key
        row = _ROWS[name](self, *numbers)
        with self._lock:
            self._rows[key] = row
            while len(self._rows) > 1 and len(self._rows) * row.nbytes > self._max_bytes:
                self._rows.popitem(last=False)
        return row


def _macd_histogram(rows: IndicatorRows, fast: Number, slow: Number, smoothing: Number) -> Floats:
    return indicators.macd_histogram(
        rows.row(("ema", fast)), rows.row(("ema", slow)), int(smoothing)
    )


_ROWS: Mapping[str, Callable[..., Floats]] = {
    "sma": lambda rows, window: indicators.sma(rows.candles.close, window),
    "stdev": lambda rows, window: indicators.stdev(rows.candles.close, window),
    "ema": lambda rows, window: indicators.ema(rows.candles.close, window),
    "rsi": lambda rows, window: indicators.rsi(rows.candles.close, window),
    "highest": lambda rows, window: indicators.highest(rows.candles.high, window),
    "lowest": lambda rows, window: indicators.lowest(rows.candles.low, window),
    "macd_histogram": _macd_histogram,
}
COMPILED = (
    indicators.sma,
    indicators.stdev,
    indicators.ema,
    indicators.rsi,
    indicators.highest,
    indicators.lowest,
    indicators.macd_histogram,
)
