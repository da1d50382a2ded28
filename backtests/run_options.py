"""The options that `manage.py tune` and `walkforward` share, and the payload they come to."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, get_args

from backtests.engine.config import EngineConfig
from backtests.engine.registry import ENGINE_IDS, KERNEL
from backtests.fields import OrderError
from backtests.search import Objective
from backtests.strategies.registry import STRATEGIES
from ingestion.exchange_candles import SETTLE_MS
from ingestion.moment import ACCEPTED, allow_ago, read_moment
from market import timeframes
from oracle.values import RESOLUTIONS

_ENGINE = {
    "initial_cash": (float, "money at the start"),
    "taker_ratio": (float, "commission at market, 0.001 is 0.1 %%"),
    "maker_ratio": (float, "commission of take-profits"),
    "slippage_bps": (float, "what each fill is worse by"),
    "size_ratio": (float, "share of the cash an entry spends"),
    "sides": (str, "long, short or both"),
    "stop_loss_ratio": (float, "distance from the entry, 0.05 is 5 %%"),
    "take_profit_ratio": (float, "distance from the entry"),
}
_ENGINE_DEFAULTS = {each.name: each.default for each in fields(EngineConfig)}
# What somebody typed for a field of the order; of those that are not named here, the name is the
# option's: ``oos_ratio`` is --oos-ratio.
_TYPED = {
    "strategy_id": "--strategy",
    "param_space": "--param",
    "gates": "--gate",
    "engine_id": "--engine",
    "workspace_id": "--workspace",
    "data_config": "--from and --to",
    "data_config.start_ts": "--from",
    "data_config.end_ts": "--to",
    "wfo_config.start_ts": "--folds-from",
    "wfo_config.end_ts": "--folds-to",
    "wfo_config.leaderboard_top_k": "--top",
}
_SECTIONS = ("engine_config", "wfo_config")  # whose fields have options, and they have none
_NAMES = (
    *("oos_ratio", "max_trials", "min_folds", "train_days", "test_days", "step_days"),
    *("allow_partial", "start_ts", "end_ts", "leaderboard_top_k", "data_config"),
    *(name for name in _ENGINE if "_" in name),
)
# Not what somebody typed, which an error repeats in quotes.
_NAME = re.compile(rf"(?<![\w'\"-])(?:{'|'.join(_NAMES)})(?![\w'\"])")


def add(parser: ArgumentParser) -> None:
    """Have a parser take them."""
    allow_ago(parser)
    parser.add_argument("--strategy", required=True, help=", ".join(STRATEGIES))
    parser.add_argument("--symbol", required=True, help="such as BTC/USDT")
    parser.add_argument("--exchange", default="index", help="index (default): our own candles")
    parser.add_argument("--timeframe", default="1h", help="1m 5m 15m 1h 4h 1d; default: 1h")
    parser.add_argument("--from", dest="start", metavar="TIME", required=True, help=ACCEPTED)
    parser.add_argument("--to", dest="end", metavar="TIME", default="now", help="default: now")
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="fast=5:50:5 from 5 to 50 by 5, fast=5,10,20 these, fast=5 this; once for each",
    )
    parser.add_argument(
        "--objective", default="sharpe", help=f"{', '.join(get_args(Objective))}; default: sharpe"
    )
    parser.add_argument(
        "--gate",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="max_drawdown=0.2, min_trades=10 are the defaults",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the sampling; default: 0")
    parser.add_argument("--max-trials", type=int, default=1_000, help="default: 1000")
    parser.add_argument(
        "--engine", default=KERNEL, help=f"{', '.join(ENGINE_IDS)}; default: {KERNEL}"
    )
    parser.add_argument("--workspace", default="default", help="whose run it is")
    for name, (kind, text) in _ENGINE.items():
        parser.add_argument(_option(name), type=kind, help=f"{text}; default: {_default(name)}")
    parser.add_argument(
        "--queue", action="store_true", help="leave it to the workers of a stack, and watch"
    )


def _default(name: str) -> str:
    value = _ENGINE_DEFAULTS[name]
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def told(error: OrderError) -> str:
    """An error as who typed the options reads it: the order's fields have other names."""
    section, _, rest = error.field.partition(".")
    problem = _NAME.sub(lambda name: _typed(name[0], section), error.problem)
    if section == "gates" and rest:
        return f"--gate: {rest}: {problem}"
    if error.field in _SECTIONS:
        name, space, more = problem.partition(" ")
        return f"{_option(name)}{space}{more}" if name in _ENGINE else problem
    if error.field.startswith("--"):
        return f"{error.field}: {problem}"
    return f"{_typed(rest or section, section)}: {problem}"


def _typed(name: str, section: str) -> str:
    """The option for a field, or for one that an error about its section names."""
    return _TYPED.get(f"{section}.{name}") or _TYPED.get(name) or _option(name)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def payload(options: Mapping[str, Any], *, now_ms: int) -> dict[str, Any]:
    """A tune's payload, without ``oos_ratio``. Raises OrderError; `TuneOrder.parse` checks it."""
    return {
        "workspace_id": options["workspace"],
        "strategy_id": options["strategy"],
        "param_space": _mapping("--param", options["param"], values),
        "objective": options["objective"],
        "gates": _mapping("--gate", options["gate"], number),
        "data_config": {
            "exchange": options["exchange"],
            "symbol": options["symbol"],
            "timeframe": options["timeframe"],
            "start_ts": moment(options["start"], "--from", now_ms=now_ms),
            "end_ts": moment(options["end"], "--to", now_ms=now_ms),
        },
        "engine_id": options["engine"],
        "engine_config": {name: options[name] for name in _ENGINE if options[name] is not None},
        "seed": options["seed"],
        "max_trials": options["max_trials"],
    }


def settled_now_ms(timeframe: str, *, clock_ms: int) -> int:
    """The ``now`` of what was typed: the end of the last candle closed for good, so that ``-5d`` to
    ``now`` are five whole days, and folds that fit them are there."""
    try:
        step_ms = RESOLUTIONS[timeframes.normalise(timeframe)]
    except timeframes.UnknownTimeframeError:  # refused with the order
        return clock_ms
    return (clock_ms - SETTLE_MS) // step_ms * step_ms


def moment(text: str, option: str, *, now_ms: int) -> int:
    """Unix seconds of what was typed."""
    try:
        return read_moment(text, now_ms=now_ms) // 1_000
    except ValueError as error:
        raise OrderError(option, str(error)) from error


def _mapping(option: str, texts: Iterable[str], read: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        name, value = _named(option, text, read)
        if name in found:
            raise OrderError(option, f"{name} stands there twice")
        found[name] = value
    return found


def _named(option: str, text: str, read: Any) -> tuple[str, Any]:
    name, equals, rest = text.partition("=")
    if not equals or not name:
        raise OrderError(option, f"write it as NAME=VALUE, got {text[:80]!r}")
    return name, read(option, rest)


def values(option: str, text: str) -> list[int | float] | dict[str, int | float]:
    """``5:50:5``, ``5,10,20`` or ``5``, as a param_space has it."""
    if ":" in text:
        parts = _numbers(option, text, text.split(":"))
        if len(parts) != 3:
            raise OrderError(option, f"a range is MIN:MAX:STEP, got {text[:80]!r}")
        return dict(zip(("min", "max", "step"), parts, strict=True))
    return _numbers(option, text, text.split(","))


def number(option: str, text: str) -> int | float:
    """A number, whole where it is written so."""
    return _numbers(option, text, [text])[0]


def _numbers(option: str, whole: str, parts: Iterable[str]) -> list[int | float]:
    found: list[int | float] = []
    for part in parts:
        try:
            found.append(int(part) if part.strip().lstrip("+-").isdigit() else float(part))
        except ValueError:
            raise OrderError(option, f"{part[:80]!r} is no number, in {whole[:80]!r}") from None
    return found
