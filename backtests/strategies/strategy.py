"""What a strategy declares: its parameters, the indicators it reads, and its signal.

Nothing here loads numpy: what an API checks needs no arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Target = NDArray[np.int8]
    Signal = Callable[[Floats, tuple[Floats, ...], Floats, Target], None]

Number = int | float
Params = Mapping[str, Number]
# The name of an indicator in `backtests.engine.indicator_rows`, then its numbers.
IndicatorKey = tuple[str, *tuple[Number, ...]]

# Two averages of the same prices nearer than this are equal: what is left is rounding, and a quiet
# market would otherwise be traded on it. A ratio.
TIE = 1e-12


class ParameterError(ValueError):
    """A parameter is unknown, of the wrong type, out of its range, or at odds with another."""

    retryable = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One number a strategy takes, from ``low`` to ``high``; ``step`` is a usual distance."""

    name: str
    kind: type[int] | type[float]
    low: Number
    high: Number
    step: Number
    default: Number

    def checked(self, value: object) -> Number:
        """``value`` as this parameter's kind, or ParameterError. A float parameter takes an int."""
        if type(value) is not int and (
            self.kind is int or type(value) is not float or not isfinite(value)
        ):
            kind = "a whole number" if self.kind is int else "a finite number"
            raise ParameterError(f"{self.name} must be {kind}, got {str(value)[:80]!r}")
        if not self.low <= value <= self.high:
            raise ParameterError(
                f"{self.name} must be from {self.low} to {self.high}, got {str(value)[:80]}"
            )
        return self.kind(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A condition between parameters; ``text`` says it to a person."""

    text: str
    holds: Callable[[Params], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """A strategy by its parts, all of them pure.

    ``signal(close, indicators, numbers, target)`` writes the wanted position of every bar into
    ``target``: -1 short, 0 flat, +1 long. ``indicators`` are the rows of ``indicators(params)``,
    ``numbers`` the parameters in their declared order, both as float64. It is compiled by numba,
    reads nothing behind the bar it writes, and calls no function of another file. An indicator is
    NaN during its warm-up, when every comparison is false and the position stays flat.

    ``warm_up_bars(params)`` is the history that makes the first signal what a longer one would:
    exactly for windows, to about 1 % of the seed for averages that never quite forget.
    """

    id: str
    title: str
    parameters: tuple[Parameter, ...]
    constraints: tuple[Constraint, ...]
    indicators: Callable[[Params], tuple[IndicatorKey, ...]]
    signal: Signal
    warm_up_bars: Callable[[Params], int]

    def parameter(self, name: str) -> Parameter:
        """The parameter of this name, or a ParameterError that names those there are."""
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        known = ", ".join(each.name for each in self.parameters)
        raise ParameterError(f"{self.id} has no parameter {name!r}; it has {known}")

    def checked(self, params: Mapping[str, object]) -> dict[str, Number]:
        """All parameters in declared order, defaults filled in, or ParameterError."""
        for name in params:
            self.parameter(name)
        whole = {
            each.name: each.checked(params.get(each.name, each.default)) for each in self.parameters
        }
        if broken := self.broken_constraint(whole):
            given = ", ".join(f"{name} {value}" for name, value in whole.items())
            raise ParameterError(f"{self.id} needs {broken}, got {given}")
        return whole

    def broken_constraint(self, params: Params) -> str | None:
        """The text of the first constraint ``params`` break, None if they keep all."""
        return next((each.text for each in self.constraints if not each.holds(params)), None)
