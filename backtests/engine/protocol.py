"""What an engine does, and the rules every engine trades by.

1. The market is open all the time: bars follow each other, holes between them mean nothing.
2. A strategy wants a position (-1, 0, +1) at the close of each bar. A want that differs from that
   of the bar before is traded at the **open of the next bar**: what is open is closed, then the new
   position entered. A side that is not permitted counts as flat.
3. The first bar of a run places no order. A position that was in force before it (history) is
   joined at the open of the third.
4. Every fill pays ``slippage_bps`` on its price, against us, and commission on its value: entries,
   signal exits, stops and the closing at the end ``taker_ratio``, take-profits ``maker_ratio``.
5. An entry spends ``size_ratio`` of the cash, its commission included; units are not rounded. A
   short holds as many units as a long of the same cash would at its price. One position at a time.
6. Stop-loss and take-profit lie ``stop_loss_ratio`` and ``take_profit_ratio`` from the entry's fill
   and are in force from the entry bar on. If a bar reaches both, it was the stop. A bar that opens
   beyond either fills at its open. After such an exit the account stays flat until the want
   changes. Signal exits, being at the open, come before both.
7. What is still open at the end is closed at the **close of the last bar**, with costs.
8. Equity is marked at each close. At the first one at or below 0 the account is bust: the position
   is closed there, equity is 0 from that bar on, and nothing more is traded. There are no margin
   calls inside a bar.
9. Annualised by ``365 days / timeframe`` bars a year. Metrics: `backtests.stats`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from backtests.engine.candles import Candles
    from backtests.engine.config import EngineConfig
    from backtests.engine.results import Result, SweepResult

Progress = Callable[[int, "Sequence[SweepResult]"], None]


class EngineError(Exception):
    """The engine cannot run: unknown, not installed, or not allowed to write its cache."""

    retryable = False


class StoppedError(Exception):
    """``should_stop`` said so. ``done`` combinations had been run."""

    retryable = False

    def __init__(self, done: int) -> None:
        super().__init__(f"stopped after {done} combinations")
        self.done = done


class Engine(Protocol):
    """Runs backtests. ``id`` and ``version`` name it in what is kept of a run."""

    @property
    def id(self) -> str: ...

    @property
    def version(self) -> str: ...

    def run_single(
        self, config: EngineConfig, candles: Candles, params: Mapping[str, object]
    ) -> Result:
        """One backtest. ParameterError where ``params`` do not fit the strategy."""
        ...

    def run_sweep(
        self,
        config: EngineConfig,
        candles: Candles,
        param_grid: Sequence[Mapping[str, object]],
        *,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> list[SweepResult]:
        """One result per combination, in the order given.

        Between chunks, well within a second of each other, ``progress`` gets the number done and
        the latest results, and ``should_stop`` may end it with StoppedError. ValueError for an
        empty grid, ParameterError for a combination that does not fit, both before anything runs.
        """
        ...
