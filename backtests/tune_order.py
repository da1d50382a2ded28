"""What a tune is asked to do, checked before anything runs: by the API, the command, the worker."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, cast, get_args

from backtests import data_range, search
from backtests.engine.config import EngineConfig
from backtests.engine.registry import ENGINE_IDS, KERNEL
from backtests.fields import (
    OrderError,
    choice,
    integer,
    known,
    refuse,
    section,
    share,
    text,
)
from backtests.search import Gates, Objective, Sampling
from backtests.strategies.registry import UnknownStrategyError, strategy
from backtests.strategies.strategy import ParameterError
from market.coverage import Series
from market.ranges import TimeRange
from oracle.values import RESOLUTIONS

MIN_IN_SAMPLE, MIN_OUT_OF_SAMPLE = 200, 100  # bars
MAX_TRIALS = 100_000
MAX_BARS = 5_000_000  # 1m candles of nine years; some 250 MB of arrays
MAX_SEED = 2**63 - 1
_WORKSPACE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_GATES = {"max_drawdown": "max_drawdown_ratio", "min_trades": "min_trade_count"}
_ENGINE_FIELDS = tuple(
    each.name for each in fields(EngineConfig) if each.name not in ("strategy_id", "timeframe")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOrder:
    """A search for the best parameters of a strategy on a range of candles.

    ``oos_ratio`` of the candles, the last ones, are out of sample: the winner is run on them, and
    they choose nothing. `parse` and `payload` say how it is written as JSON.
    """

    workspace_id: str
    param_space: Mapping[str, Any]
    objective: Objective
    gates: Gates
    series: Series
    wanted: TimeRange
    engine_id: str
    config: EngineConfig
    oos_ratio: float
    seed: int
    max_trials: int
    sampling: Sampling

    def __post_init__(self) -> None:
        if self.config.timeframe != self.series.timeframe:
            raise OrderError("data_config.timeframe", "must be that of the engine")
        try:
            search.param_space_of(strategy(self.strategy_id), self.param_space)
        except (search.SearchError, ParameterError) as error:
            raise OrderError("param_space", str(error)) from error
        count = self.wanted.length_ms // RESOLUTIONS[self.series.timeframe]
        if count > MAX_BARS:
            raise OrderError(
                "data_config",
                f"the range has {count} candles of {self.series.timeframe}, "
                f"and at most {MAX_BARS} are taken: shorten it, or take longer candles",
            )

    @property
    def strategy_id(self) -> str:
        return self.config.strategy_id

    @classmethod
    def parse(cls, payload: Mapping[str, Any]) -> TuneOrder:
        """The order that a JSON object is. Raises OrderError; fields it does not know are refused.

        ``start_ts`` and ``end_ts`` are unix seconds or ISO 8601, the end excluded. Only
        strategy_id, param_space and data_config have no default.
        """
        known(payload, FIELDS)
        if "data_config" not in payload:
            names = ", ".join(data_range.FIELDS)
            raise OrderError("data_config", f"is missing: an object with {names}")
        series, wanted = data_range.read(section(payload, "data_config"), within="data_config.")
        return cls(
            workspace_id=_workspace(payload),
            param_space=section(payload, "param_space"),
            objective=cast(
                Objective,
                choice(payload, "objective", get_args(Objective), default="sharpe"),
            ),
            gates=_gates(section(payload, "gates")),
            series=series,
            wanted=wanted,
            engine_id=choice(payload, "engine_id", ENGINE_IDS, default=KERNEL),
            config=_engine(payload, series.timeframe),
            oos_ratio=share(payload, "oos_ratio", default=0.3),
            seed=integer(payload, "seed", least=0, most=MAX_SEED, default=0),
            max_trials=integer(payload, "max_trials", least=1, most=MAX_TRIALS, default=1_000),
            sampling=cast(
                Sampling,
                choice(payload, "sampling", get_args(Sampling), default="latin_hypercube"),
            ),
        )

    def payload(self) -> dict[str, Any]:
        """What `parse` makes this order of again, every default spelled out."""
        engine = asdict(self.config)
        return {
            "workspace_id": self.workspace_id,
            "strategy_id": self.strategy_id,
            "param_space": dict(self.param_space),
            "objective": self.objective,
            "gates": asdict(self.gates),
            "data_config": data_range.payload(self.series, self.wanted),
            "engine_id": self.engine_id,
            "engine_config": {name: engine[name] for name in _ENGINE_FIELDS},
            "oos_ratio": self.oos_ratio,
            "seed": self.seed,
            "max_trials": self.max_trials,
            "sampling": self.sampling,
        }


FIELDS = (
    *("workspace_id", "strategy_id", "param_space", "objective", "gates", "data_config"),
    *("engine_id", "engine_config", "oos_ratio", "seed", "max_trials", "sampling"),
)


def _workspace(payload: Mapping[str, Any]) -> str:
    name = text(payload, "workspace_id", default="default")
    if not _WORKSPACE.fullmatch(name):
        raise refuse("workspace_id", name, "1 to 64 letters, digits and . _ -")
    return name


def _gates(given: Mapping[str, Any]) -> Gates:
    """Under the names of `Gates`, or the short ones that a failure is reported by."""
    long = {_GATES.get(name, name): value for name, value in given.items()}
    known(long, tuple(_GATES.values()), within="gates.")
    if len(long) < len(given):
        raise OrderError("gates", "one of them stands there twice, under two names")
    try:
        return Gates(**long)
    except search.SearchError as error:
        raise OrderError("gates", str(error)) from error


def _engine(payload: Mapping[str, Any], timeframe: str) -> EngineConfig:
    strategy_id = text(payload, "strategy_id")
    given = section(payload, "engine_config")
    known(given, _ENGINE_FIELDS, within="engine_config.")
    try:
        return EngineConfig(strategy_id=strategy_id, timeframe=timeframe, **given)
    except UnknownStrategyError as error:
        raise OrderError("strategy_id", str(error)) from error
    except (TypeError, ValueError) as error:
        raise OrderError("engine_config", str(error)) from error
