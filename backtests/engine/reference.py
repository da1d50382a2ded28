"""The same rules traded by backtesting.py (optional, AGPL), which the kernel is tested against.

Signals are ours; orders, fills, stops, cash and equity are backtesting.py's. Where it has no notion
of a rule, its own hooks carry it:

- *Units* there are whole. Prices are therefore scaled down by a power of two, which rounds
  nothing, until a position is some 2^60 units and one of them more or less is below any rounding.
- *Slippage* there (``spread``) worsens entries only, and *commission* knows no maker. The
  commission function adds the exit's slippage, and knows an entry by its trade being open.
- *Stops* there are given before the fill that ours are measured from. The order is placed with
  stops out of reach, which has it look at the entry bar as well, and then gets those of the coming
  open. (``Order._replace`` is private; without it a gap larger than the stop would be refused.)
- *The end* there is the open of the last bar. One bar is added, all of it at the last close, on
  whose open the last position is closed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from math import copysign, floor, log2
from typing import TYPE_CHECKING, Any

import numpy as np

from backtests import stats
from backtests.engine.indicator_rows import IndicatorRows
from backtests.engine.kernel import checked_grid
from backtests.engine.protocol import EngineError, Progress, StoppedError
from backtests.engine.results import Reason, Result, SweepResult, Trade
from backtests.strategies.registry import strategy

try:
    import backtesting
    import pandas
except ImportError as error:
    raise EngineError(
        "the engine backtesting.py is not installed: pip install -r requirements/backtesting.txt "
        "(it is under the AGPL)"
    ) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backtests.engine.candles import Candles
    from backtests.engine.config import EngineConfig
    from backtests.engine.signals import Signals
    from backtests.strategies.strategy import Params

    Target = NDArray[np.int8]

UNITS = 2.0**60
# A share of 1 means one unit there. What is left of the cash is less than a unit in the last place.
MAX_SHARE = 1 - 2.0**-50
OUT_OF_REACH = 2.0**20


class ReferenceEngine:
    """One run after the other, in Python: a second for 100,000 bars."""

    id = "backtesting.py"
    version = str(backtesting.__version__)

    def __init__(self, signals: Signals) -> None:
        self._signals = signals

    def run_single(
        self, config: EngineConfig, candles: Candles, params: Mapping[str, object]
    ) -> Result:
        """One backtest, with its equity curve and trades."""
        chosen = strategy(config.strategy_id)
        whole = chosen.checked(params)
        target = self._signals.target(chosen, IndicatorRows(candles), whole)
        return _Account(config, candles, target).result(whole)

    def run_sweep(
        self,
        config: EngineConfig,
        candles: Candles,
        param_grid: Sequence[Mapping[str, object]],
        *,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> list[SweepResult]:
        """One result per combination; `Engine.run_sweep` says the rest. A chunk is one run."""
        results: list[SweepResult] = []
        for params in checked_grid(strategy(config.strategy_id), param_grid):
            if should_stop is not None and should_stop():
                raise StoppedError(len(results))
            one = self.run_single(config, candles, params)
            results.append(SweepResult(params=one.params, metrics=one.metrics))
            if progress is not None:
                progress(len(results), results[-1:])
        return results


class _Account:
    """A config on a series and its targets in backtesting.py's terms, and what it asks of them."""

    def __init__(self, config: EngineConfig, candles: Candles, target: Target) -> None:
        self.config = config
        self.candles = candles
        self.first = candles.first_bar
        least, most = -1 if config.sides != "long" else 0, 1 if config.sides != "short" else 0
        self.target: list[int] = np.clip(target, least, most).tolist()
        dearest = float(candles.high[self.first :].max())
        self.scale = 2.0 ** floor(log2(config.initial_cash / dearest / UNITS))
        self.open = (candles.open[self.first :] * self.scale).tolist()
        self.slippage = config.slippage_bps / 10_000
        self.orders: _Orders  # set by itself
        self.leaving: Reason | None = None  # why the open position is being closed by an order
        self.stop: float | None = None
        self.limit: float | None = None
        self.reasons: list[Reason] = []  # of the closed trades

    def result(self, params: Params) -> Result:
        """Run it and read the answer."""
        with warnings.catch_warnings():
            # Its statistics, which are not read, divide by zero where an account goes bust and use
            # what pandas wants to drop; its entry without cash is refused, as ours is.
            warnings.filterwarnings("ignore", category=RuntimeWarning)
            warnings.filterwarnings("ignore", module=r"backtesting\.")
            answer = backtesting.Backtest(
                self._frame(),
                _Orders,
                cash=self.config.initial_cash,
                spread=self.slippage,
                commission=self.commission,
            ).run(account=self)
        marked = answer["_equity_curve"]["Equity"].to_numpy()
        # The bar that was added is the closing of the one before.
        equity = np.append(marked[:-2], marked[-1])
        trades = tuple(map(self._trade, self.orders.closed_trades, self.reasons))
        time_ms = self.candles.time_ms[self.first :]
        return Result(
            params=params,
            metrics=stats.measure(equity, time_ms, trades, self.config.timeframe_ms),
            time_ms=time_ms,
            equity=equity,
            trades=trades,
        )

    def commission(self, size: float, price: float) -> float:
        """Cash a fill costs beyond ``price``. A size below 1 is that of an entry being sized."""
        if abs(size) < 1:
            fill = price * (1 + copysign(self.slippage, size))
            return abs(size) * fill * self.config.taker_ratio
        if self.orders.trades:  # just entered, at a price that has its slippage
            self.leaving = None
            return abs(size) * price * self.config.taker_ratio
        # An exit. It is asked for twice, the second time for a statistic.
        reason = self._reason(copysign(1, size), price)
        if len(self.reasons) < len(self.orders.closed_trades):
            self.reasons.append(reason)
        fill = price * (1 - copysign(self.slippage, size))
        return abs(size) * (abs(fill - price) + fill * self._ratio(reason))

    def set_brackets(self, side: int, bar: int) -> None:
        """Stop and limit of an entry at the open of ``bar``."""
        fill = self.open[bar] * (1 + side * self.slippage)
        stop, limit = self.config.stop_loss_ratio, self.config.take_profit_ratio
        self.stop = None if stop is None else fill * (1 - side * stop)
        self.limit = None if limit is None else fill * (1 + side * limit)

    def _reason(self, side: float, price: float) -> Reason:
        if self.leaving is not None:
            return self.leaving
        if self.limit is not None and side * price >= side * self.limit:
            return Reason.LIMIT
        if self.stop is not None and side * price <= side * self.stop:
            return Reason.STOP
        return Reason.BUST

    def _ratio(self, reason: Reason) -> float:
        return self.config.maker_ratio if reason is Reason.LIMIT else self.config.taker_ratio

    def _frame(self) -> Any:
        candles, first = self.candles, self.first
        prices = {
            name: np.append(getattr(candles, name.lower())[first:], candles.close[-1]) * self.scale
            for name in ("Open", "High", "Low", "Close")
        }
        added_ms = candles.time_ms[-1] + self.config.timeframe_ms
        times = pandas.to_datetime(np.append(candles.time_ms[first:], added_ms), unit="ms")
        return pandas.DataFrame(prices, index=times)

    def _trade(self, trade: Any, reason: Reason) -> Trade:
        size = float(trade.size) * self.scale
        entry, traded = trade.entry_price / self.scale, trade.exit_price / self.scale
        leave = traded * (1 - copysign(self.slippage, size))
        entry_bar = self.first + trade.entry_bar
        exit_bar = min(self.first + trade.exit_bar, len(self.candles) - 1)
        return Trade(
            entry_bar=entry_bar,
            exit_bar=exit_bar,
            entry_ms=int(self.candles.time_ms[entry_bar]),
            exit_ms=int(self.candles.time_ms[exit_bar]),
            size=size,
            entry_price=entry,
            exit_price=leave,
            fee=abs(size) * (entry * self.config.taker_ratio + leave * self._ratio(reason)),
            reason=reason,
        )


class _Orders(backtesting.Strategy):  # type: ignore[misc]
    """Orders for what the targets want, at each bar."""

    account: Any = None  # backtesting.py wants its parameters declared

    def init(self) -> None:
        self.account.orders = self

    def next(self) -> None:
        account, bar = self.account, len(self.data) - 1
        last = len(account.target) - 1
        wanted = account.target[bar] if bar < last else 0
        if bar < last and wanted == account.target[bar - 1]:
            return
        if self.position:
            account.leaving = Reason.SIGNAL if bar < last else Reason.END
            self.position.close()
        if wanted:
            self._enter(wanted, bar + 1)

    def _enter(self, side: int, bar: int) -> None:
        account = self.account
        account.set_brackets(side, bar)
        below, above = self.data.Close[-1] / OUT_OF_REACH, self.data.Close[-1] * OUT_OF_REACH
        place = self.buy if side > 0 else self.sell
        order = place(
            size=min(account.config.size_ratio, MAX_SHARE),
            sl=None if account.stop is None else (below if side > 0 else above),
            tp=None if account.limit is None else (above if side > 0 else below),
        )
        order._replace(sl_price=account.stop, tp_price=account.limit)
