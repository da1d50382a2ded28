"""What a walk-forward is asked to do: a tune's order, and how its range is cut into folds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from backtests import folds
from backtests.fields import OrderError, flag, integer, known, moment_ms, section
from backtests.folds import DAY_MS, TooFewFoldsError, Windows
from backtests.tune_order import MIN_IN_SAMPLE, TuneOrder
from market.candles import to_datetime
from market.ranges import TimeRange
from oracle.values import RESOLUTIONS

MAX_DAYS = 36_500
MAX_FOLDS = 200
MAX_TOP = 1_000
MAX_TESTED = 10_000  # of all folds; what the result says of them stays below a megabyte
MIN_TEST_BARS = 20  # fewer than a tune's own: they are judged together with the other folds'
_WITHIN = "wfo_config."
WFO_FIELDS = (
    *("train_days", "test_days", "step_days", "min_folds", "start_ts", "end_ts"),
    *("leaderboard_top_k", "allow_partial"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WfoOrder:
    """Tunes of folds, one after the other in time. ``span`` is what is cut into folds: the range of
    the tune's candles or a part of it; candles before it are history."""

    tune: TuneOrder
    windows: Windows
    span: TimeRange
    min_folds: int = 3
    top_count: int = 10
    allow_partial: bool = False

    def __post_init__(self) -> None:
        step_ms = RESOLUTIONS[self.tune.series.timeframe]
        for name, days, least in (
            ("train_days", self.windows.train_days, MIN_IN_SAMPLE),
            ("test_days", self.windows.test_days, MIN_TEST_BARS),
            ("step_days", self.windows.step_days, MIN_TEST_BARS),
        ):
            bars = days * DAY_MS // step_ms
            if bars < least:
                raise OrderError(
                    f"{_WITHIN}{name}",
                    f"{days} days have {bars} candles of {self.tune.series.timeframe}, "
                    f"and {least} are needed: {-(-least * step_ms // DAY_MS)} days would do",
                )
        wanted = self.tune.wanted
        if self.span.start_ms < wanted.start_ms or self.span.end_ms > wanted.end_ms:
            raise OrderError("wfo_config", "start_ts and end_ts must lie in those of data_config")
        try:
            found = folds.enough(self.span, self.windows, min_folds=self.min_folds)
        except TooFewFoldsError as error:
            raise OrderError("wfo_config", str(error)) from error
        if len(found) > MAX_FOLDS:
            raise OrderError(
                f"{_WITHIN}step_days",
                f"{self.windows.step_days} days make {len(found)} folds, at most {MAX_FOLDS} "
                "are done",
            )
        if (tested := self.top_count * len(found)) > MAX_TESTED:
            raise OrderError(
                f"{_WITHIN}leaderboard_top_k",
                f"{self.top_count} of each of {len(found)} folds are {tested} candidates, and at "
                f"most {MAX_TESTED} are tested: {MAX_TESTED // len(found)} would do",
            )

    @classmethod
    def parse(cls, payload: Mapping[str, Any]) -> WfoOrder:
        """The order that a JSON object is. Raises OrderError.

        A tune's fields, without ``oos_ratio``, and ``wfo_config``; ``step_days`` is by default as
        long as ``test_days``, which leaves no day untested and tests none twice.
        """
        if "oos_ratio" in payload:
            raise OrderError("oos_ratio", "has no meaning here: folds have test windows")
        rest = {name: value for name, value in payload.items() if name != "wfo_config"}
        tune = TuneOrder.parse(rest)
        given = section(payload, "wfo_config")
        known(given, WFO_FIELDS, within=_WITHIN)
        test_days = _days(given, "test_days")
        return cls(
            tune=tune,
            windows=Windows(
                train_days=_days(given, "train_days"),
                test_days=test_days,
                step_days=_days(given, "step_days", default=test_days),
            ),
            span=_span(given, tune.wanted),
            min_folds=integer(
                given, "min_folds", least=2, most=MAX_FOLDS, within=_WITHIN, default=3
            ),
            top_count=integer(
                given, "leaderboard_top_k", least=1, most=MAX_TOP, within=_WITHIN, default=10
            ),
            allow_partial=flag(given, "allow_partial", within=_WITHIN, default=False),
        )

    def payload(self) -> dict[str, Any]:
        """What `parse` makes this order of again, every default spelled out."""
        rest = self.tune.payload()
        del rest["oos_ratio"]
        return {
            **rest,
            "wfo_config": {
                **asdict(self.windows),
                "min_folds": self.min_folds,
                "start_ts": self.span.start_ms // 1_000,
                "end_ts": self.span.end_ms // 1_000,
                "leaderboard_top_k": self.top_count,
                "allow_partial": self.allow_partial,
            },
        }


def _days(given: Mapping[str, Any], name: str, *, default: int | None = None) -> int:
    return integer(given, name, least=1, most=MAX_DAYS, within=_WITHIN, default=default)


def _span(given: Mapping[str, Any], wanted: TimeRange) -> TimeRange:
    start_ms, end_ms = wanted.start_ms, wanted.end_ms
    if "start_ts" in given:
        start_ms = moment_ms(given, "start_ts", within=_WITHIN)
    if "end_ts" in given:
        end_ms = moment_ms(given, "end_ts", within=_WITHIN)
    if start_ms >= end_ms:
        start, end = to_datetime(start_ms), to_datetime(end_ms)
        raise OrderError(f"{_WITHIN}start_ts", f"must be before end_ts, got {start} and {end}")
    return TimeRange(start_ms=start_ms, end_ms=end_ms)
