"""Which combinations a tune tries, and which of them is the best.

A space is a mapping from parameter names to values: a list of them, or ``{"min", "max", "step"}``,
both ends included. A parameter that is not named keeps its default.

The grid is all combinations of the space that keep the strategy's constraints. Up to ``max_trials``
they are all tried, in grid order, the last parameter fastest. A larger grid is sampled, seeded: by
Latin hypercube (each parameter's values evenly used) or plainly at random; never is it cut off. A
grid is counted exactly up to COUNTED combinations before constraints; beyond that, constraints are
met by drawing again. The trials are a function of their arguments alone, on any machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import prod
from random import Random
from typing import TYPE_CHECKING, Literal, get_args

from backtests.strategies.registry import strategy
from backtests.strategies.strategy import Number, Params, Strategy

if TYPE_CHECKING:
    from backtests.engine.results import SweepResult

Sampling = Literal["latin_hypercube", "random"]
Method = Literal["grid", "latin_hypercube", "random"]
Objective = Literal["sharpe", "sharpe_dd_penalty", "return", "return_dd_penalty", "calmar"]

MAX_VALUES = 10_000  # of one parameter
COUNTED = 200_000
DRAWS_PER_TRIAL = 200  # before a space is held to have no more combinations
DRAWDOWN_PENALTY = 0.02  # lambda: what a percentage point of drawdown costs


class SearchError(ValueError):
    """The space, or what is asked of it, makes no sense. The text says what would."""

    retryable = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """The values of one parameter by their place, none of them made before it is asked for."""

    name: str
    values: tuple[Number, ...] = ()
    first: Decimal = Decimal(0)
    step: Decimal = Decimal(0)
    count: int

    def value(self, place: int) -> Number:
        """In decimal arithmetic, so that 0.1 + 2 x 0.1 is 0.3."""
        if self.values:
            return self.values[place]
        value = self.first + place * self.step
        return int(value) if value == value.to_integral_value() else float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The combinations of a strategy's axes, by number: 0 up to ``size``, constraints or not."""

    strategy: Strategy
    axes: tuple[Axis, ...]

    @property
    def size(self) -> int:
        return prod(axis.count for axis in self.axes)

    def places(self, number: int) -> tuple[int, ...]:
        """The place on each axis of combination ``number``; the last axis turns fastest."""
        places = []
        for axis in reversed(self.axes):
            number, place = divmod(number, axis.count)
            places.append(place)
        return tuple(reversed(places))

    def params(self, places: Sequence[int]) -> dict[str, Number] | None:
        """All parameters at ``places``, defaults filled in; None where a constraint is broken."""
        named = {
            axis.name: axis.value(place) for axis, place in zip(self.axes, places, strict=True)
        }
        whole = {
            each.name: each.kind(named.get(each.name, each.default))
            for each in self.strategy.parameters
        }
        return None if self.strategy.broken_constraint(whole) else whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """What is to be tried. ``grid_size`` counts before constraints, ``valid_count`` after; the
    latter is None where the grid is too large to be counted."""

    method: Method
    seed: int
    grid_size: int
    valid_count: int | None
    params: tuple[Params, ...]


def trials(
    strategy_id: str,
    param_space: Mapping[str, object],
    *,
    max_trials: int,
    seed: int,
    sampling: Sampling = "latin_hypercube",
    look: Callable[[], None] = lambda: None,
) -> Trials:
    """The combinations to try. SearchError or ParameterError where nothing can be made of it.

    Where hardly any keeps the constraints, finding them takes minutes: ``look`` is called all along
    and may raise, which ends it.
    """
    if type(max_trials) is not int or max_trials < 1:
        raise SearchError(f"max_trials must be a whole number of at least 1, got {max_trials!r}")
    if type(seed) is not int:
        raise SearchError(f"seed must be a whole number, got {seed!r}")
    if sampling not in get_args(Sampling):
        raise SearchError(f"sampling must be one of {', '.join(get_args(Sampling))}")
    space = param_space_of(strategy(strategy_id), param_space)
    valid = _counted(space, look)
    method: Method = "grid" if valid is not None and len(valid) <= max_trials else sampling
    if valid is not None and method == "grid":
        chosen: Iterator[tuple[int, ...]] = map(space.places, valid)
    else:
        latin = method != "random"
        chosen = _sampled(space, valid, max_trials, Random(seed), latin=latin, look=look)
    params = tuple(each for places in chosen if (each := space.params(places)) is not None)
    if not params:
        rules = ", ".join(each.text for each in space.strategy.constraints)
        raise SearchError(
            f"no combination of these values keeps the constraints of {strategy_id}: {rules}"
        )
    return Trials(
        method=method,
        seed=seed,
        grid_size=space.size,
        valid_count=None if valid is None else len(valid),
        params=params,
    )


def param_space_of(chosen: Strategy, param_space: object) -> Space:
    """Read a space, checking every name, value and range against the strategy."""
    if not isinstance(param_space, Mapping):
        raise SearchError(f"must be an object, got {type(param_space).__name__}")
    if not param_space:
        names = ", ".join(each.name for each in chosen.parameters)
        raise SearchError(f"is empty: name at least one of {names}")
    axes = [_axis(chosen, name, values) for name, values in param_space.items()]
    order = [each.name for each in chosen.parameters]
    return Space(strategy=chosen, axes=tuple(sorted(axes, key=lambda axis: order.index(axis.name))))


def _axis(chosen: Strategy, name: str, values: object) -> Axis:
    parameter = chosen.parameter(name)
    if isinstance(values, Mapping):
        return _range(chosen, name, values)
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise SearchError(
            f"{name} must be a list of values or an object with min, max and step, "
            f"got {str(values)[:80]!r}"
        )
    if not 1 <= len(values) <= MAX_VALUES:
        raise SearchError(f"{name} must have 1 to {MAX_VALUES} values, got {len(values)}")
    checked = tuple(dict.fromkeys(parameter.checked(value) for value in values))
    return Axis(name=name, values=checked, count=len(checked))


def _range(chosen: Strategy, name: str, values: Mapping[str, object]) -> Axis:
    parameter = chosen.parameter(name)
    if set(values) != {"min", "max", "step"}:
        raise SearchError(
            f"a range of {name} has min, max and step, got {sorted(map(str, values))}"
        )
    low, high = parameter.checked(values["min"]), parameter.checked(values["max"])
    if low > high:
        raise SearchError(f"{name}: min {low} is above max {high}")
    step = values["step"]
    if type(step) is not int and (type(step) is not float or parameter.kind is int):
        kind = "a whole number" if parameter.kind is int else "a number"
        raise SearchError(f"the step of {name} must be {kind}, got {str(step)[:80]!r}")
    if not 0 < step <= parameter.high:
        raise SearchError(
            f"the step of {name} must be above 0 and at most {parameter.high}, got {str(step)[:80]}"
        )
    if (high - low) / step >= MAX_VALUES:
        raise SearchError(
            f"{name} must have 1 to {MAX_VALUES} values, got {low} to {high} by {step}"
        )
    first, by = Decimal(str(low)), Decimal(str(step))
    count = int((Decimal(str(high)) - first) // by) + 1
    return Axis(name=name, first=first, step=by, count=count)


def _counted(space: Space, look: Callable[[], None]) -> list[int] | None:
    """The numbers of the combinations that keep the constraints; None if too many to look at."""

    def keeps(number: int) -> bool:
        look()
        return space.params(space.places(number)) is not None

    if space.size > COUNTED:
        return None
    if not space.strategy.constraints:
        return list(range(space.size))
    return list(filter(keeps, range(space.size)))


def _sampled(
    space: Space,
    valid: list[int] | None,
    count: int,
    random: Random,
    *,
    latin: bool,
    look: Callable[[], None],
) -> Iterator[tuple[int, ...]]:
    """``count`` distinct combinations, or as many as are found; valid ones if that is known.

    What a hypercube loses to constraints and duplicates is made up for by plain draws.
    """
    seen: set[tuple[int, ...]] = set()
    for places in _hypercube(space, count, random) if latin else ():
        look()
        if places not in seen and space.params(places) is not None:
            seen.add(places)
            yield places
    if valid is not None:
        for number in random.sample(valid, len(valid)):
            if len(seen) == count:
                return
            if (places := space.places(number)) not in seen:
                seen.add(places)
                yield places
        return
    for _ in range(DRAWS_PER_TRIAL * count):
        if len(seen) == count:
            return
        look()
        places = space.places(random.randrange(space.size))
        if places not in seen and space.params(places) is not None:
            seen.add(places)
            yield places


def _hypercube(space: Space, count: int, random: Random) -> Iterator[tuple[int, ...]]:
    """McKay, Beckman and Conover (1979): ``count`` strata on each axis, each of them used once."""
    columns = []
    for axis in space.axes:
        strata = random.sample(range(count), count)
        columns.append([stratum * axis.count // count for stratum in strata])
    return zip(*columns, strict=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """What a combination must keep to be chosen at all."""

    max_drawdown_ratio: float = 0.20
    min_trade_count: int = 10

    def __post_init__(self) -> None:
        drawdown, count = self.max_drawdown_ratio, self.min_trade_count
        if type(drawdown) not in (int, float) or not 0 < drawdown <= 1:
            raise SearchError(
                f"max_drawdown_ratio must be above 0 and at most 1 (0.2 is 20 %), got {drawdown!r}"
            )
        if type(count) is not int or count < 0:
            raise SearchError(f"min_trade_count must be a whole number from 0 on, got {count!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A trial judged. ``score`` is None, and ``failures`` says why, if it may not be chosen."""

    trial: int  # its place among the results
    result: SweepResult
    score: float | None
    failures: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """All trials, the eligible ones best first, then the others; and why any were left out."""

    best: Ranked | None
    ranked: tuple[Ranked, ...]
    failure_counts: Mapping[str, int]

    @property
    def reason(self) -> str:
        """One sentence for a person."""
        if self.best is not None:
            passed = sum(each.score is not None for each in self.ranked)
            return f"best of {passed} of {len(self.ranked)} trials that passed the gates"
        counts = ", ".join(f"{name}: {count}" for name, count in self.failure_counts.items())
        return f"none of {len(self.ranked)} trials passed the gates ({counts})"


def score(result: SweepResult, objective: Objective) -> float | None:
    """The objective, higher is better; None where its metric has no value.

    ``sharpe``, ``return`` (total, as a fraction) and ``calmar`` are the metrics. The two with a
    ``_dd_penalty`` take DRAWDOWN_PENALTY off for every percentage point of the maximum drawdown:
    sharpe 1.5 with a drawdown of 20 % scores 1.5 - 0.02 x 20 = 1.1.
    """
    metrics = result.metrics
    of: Mapping[str, float | None] = {
        "sharpe": metrics.sharpe,
        "return": metrics.return_ratio,
        "calmar": metrics.calmar,
    }
    if objective not in get_args(Objective):
        raise SearchError(
            f"no objective {str(objective)[:80]!r}; there are {', '.join(get_args(Objective))}"
        )
    name = objective.removesuffix("_dd_penalty")
    value = of[name]
    if value is None or name == objective:
        return value
    return value - DRAWDOWN_PENALTY * 100 * metrics.max_drawdown_ratio


def select(
    results: Sequence[SweepResult], objective: Objective, gates: Gates | None = None
) -> Selection:
    """Judge all trials and choose the best that passes the gates.

    Equal scores: the smaller drawdown, then the smaller parameters in their declared order, so that
    the order of the results decides nothing.
    """
    judged = [
        _judged(trial, result, objective, gates or Gates()) for trial, result in enumerate(results)
    ]
    ranked = tuple(sorted(judged, key=_rank))
    counts = Counter(failure.split(" ")[0] for each in judged for failure in each.failures)
    best = ranked[0] if ranked and ranked[0].score is not None else None
    return Selection(best=best, ranked=ranked, failure_counts=dict(sorted(counts.items())))


def _judged(trial: int, result: SweepResult, objective: Objective, gates: Gates) -> Ranked:
    metrics, value = result.metrics, score(result, objective)
    failures = []
    if metrics.max_drawdown_ratio > gates.max_drawdown_ratio:
        failures.append(
            f"max_drawdown {metrics.max_drawdown_ratio:.1%} is above {gates.max_drawdown_ratio:.1%}"
        )
    if metrics.trade_count < gates.min_trade_count:
        failures.append(f"trades {metrics.trade_count} are fewer than {gates.min_trade_count}")
    if value is None:
        failures.append(f"{objective} has no value here")
    return Ranked(
        trial=trial,
        result=result,
        score=None if failures else value,
        failures=tuple(failures),
    )


def _rank(one: Ranked) -> tuple[bool, float, float, tuple[Number, ...]]:
    return (
        one.score is None,
        -(one.score or 0.0),
        one.result.metrics.max_drawdown_ratio,
        tuple(one.result.params.values()),
    )
