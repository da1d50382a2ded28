"""What the backtests' API takes and answers, for OpenAPI."""

from __future__ import annotations

from typing import Any, get_args

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, inline_serializer
from rest_framework import serializers

from backtests.asked import DEFAULT_LIMIT, RUN_TYPES
from backtests.engine.registry import ENGINE_IDS
from backtests.models import JobEvent, JobType, Status
from backtests.search import Objective, Sampling
from backtests.wfo_order import MAX_TESTED
from market.query import MAX_OFFSET, MAX_ROWS
from market.schema import ErrorAnswer, whole

_REASONS = {
    400: "Something that was sent is wrong; the message names it and what is accepted.",
    401: "Not signed in (where the token is the only way to).",
    403: "No token, a wrong one, or neither a staff session nor a token of staff.",
    404: "There is no such thing.",
    409: "It cannot be done as things are; the message says why.",
    413: "The body is too large.",
    429: "Too many requests; Retry-After says how many seconds to wait.",
}
_Fields = dict[str, serializers.Field[Any, Any, Any, Any]]
_STATUSES = [str(value) for value in Status.values]
_TYPES = [str(value) for value in JobType.values]
OBJECTIVES: tuple[str, ...] = get_args(Objective)


def errors(*statuses: int) -> dict[Any, OpenApiResponse]:
    """The error answers of an endpoint for staff, JSON whatever was asked for."""
    return {
        (status, "application/json"): OpenApiResponse(ErrorAnswer, description=_REASONS[status])
        for status in (*statuses, 429)
    }


def _any(help_text: str, **options: Any) -> serializers.JSONField:
    return serializers.JSONField(help_text=help_text, **options)


# --- orders ---

_DATA = inline_serializer(
    "DataConfig",
    {
        "exchange": serializers.CharField(help_text="index, an exchange, or one ccxt knows."),
        "symbol": serializers.CharField(help_text="BTC/USDT"),
        "timeframe": serializers.CharField(help_text="1m 5m 15m 1h 4h 1d, also 60m, 24h, 1day."),
        "start_ts": _any("Unix seconds or ISO 8601, inclusive."),
        "end_ts": _any("Unix seconds or ISO 8601, exclusive."),
    },
)
_TUNE: _Fields = {
    "workspace_id": serializers.CharField(required=False, help_text="Default: default."),
    "strategy_id": serializers.CharField(help_text="See /api/v1/backtests/strategies."),
    "param_space": serializers.DictField(
        child=_any("A list of values, or {min, max, step}."), help_text="By parameter."
    ),
    "objective": serializers.ChoiceField(OBJECTIVES, required=False),
    "gates": inline_serializer(
        "Gates",
        {
            "max_drawdown_ratio": serializers.FloatField(required=False, help_text="0.2: 20 %."),
            "min_trade_count": serializers.IntegerField(required=False),
        },
        required=False,
    ),
    "data_config": _DATA,
    "oos_ratio": serializers.FloatField(
        required=False, help_text="The share of the range that the search never sees."
    ),
    "seed": serializers.IntegerField(required=False, help_text="The same one, the same trials."),
    "max_trials": serializers.IntegerField(
        required=False, help_text="A larger grid is sampled, never cut off. Default: 1000."
    ),
    "sampling": serializers.ChoiceField(get_args(Sampling), required=False),
    "engine_id": serializers.ChoiceField(ENGINE_IDS, required=False),
    "engine_config": serializers.DictField(
        required=False,
        help_text="initial_cash, taker_ratio, maker_ratio, slippage_bps, size_ratio, sides, "
        "stop_loss_ratio, take_profit_ratio.",
    ),
}
TuneOrder = inline_serializer("TuneOrder", _TUNE)
WfoOrder = inline_serializer(
    "WfoOrder",
    {
        **_TUNE,
        "wfo_config": inline_serializer(
            "WfoConfig",
            {
                "train_days": serializers.IntegerField(),
                "test_days": serializers.IntegerField(),
                "step_days": serializers.IntegerField(),
                "min_folds": serializers.IntegerField(required=False, help_text="Default: 3."),
                "start_ts": _any("Where the folds begin.", required=False),
                "end_ts": _any("Where they end.", required=False),
                "leaderboard_top_k": serializers.IntegerField(
                    required=False,
                    help_text=f"Default: 10. Times the folds, at most {MAX_TESTED}.",
                ),
                "allow_partial": serializers.BooleanField(required=False),
            },
        ),
    },
)


class RunTaken(serializers.Serializer[Any]):
    """A run's status. `Location` leads to the run."""

    run_id = serializers.UUIDField()
    status = serializers.ChoiceField(_STATUSES)


# --- runs ---

Page = inline_serializer(
    "BacktestsPage",
    {
        "count": serializers.IntegerField(),
        "limit": serializers.IntegerField(),
        "offset": serializers.IntegerField(),
        "next": serializers.IntegerField(allow_null=True, help_text="`offset` of the next page."),
    },
)
_PERCENT = serializers.IntegerField(allow_null=True, help_text="null: nobody can say.")
_MOMENTS: _Fields = {
    "created_at": serializers.DateTimeField(),
    "started_at": serializers.DateTimeField(allow_null=True),
    "finished_at": serializers.DateTimeField(allow_null=True),
}
_RUN: _Fields = {
    "run_id": serializers.UUIDField(),
    "type": serializers.ChoiceField(RUN_TYPES),
    "status": serializers.ChoiceField(_STATUSES),
    "workspace_id": serializers.CharField(),
    "parent_id": serializers.UUIDField(allow_null=True),
    "progress": _any("Phase, trials done and in all, the best so far."),
    "percent": _PERCENT,
    "error": serializers.CharField(),
    "pinned": serializers.BooleanField(),
    **_MOMENTS,
    "page": serializers.CharField(help_text="For people."),
}


class ArtifactAnswer(serializers.Serializer[Any]):
    """A file that a run wrote."""

    id = serializers.IntegerField()
    run_id = serializers.UUIDField()
    workspace_id = serializers.CharField()
    kind = serializers.CharField()
    path = serializers.CharField(help_text="Below ARTIFACTS_DIR.")
    size_bytes = serializers.IntegerField()
    checksum = serializers.CharField(help_text="SHA-256, hexadecimal.")
    revision = serializers.CharField(help_text="Of the candles it was made from.")
    pinned = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    download = serializers.CharField()


_CHILD = inline_serializer(
    "RunChild",
    {
        "run_id": serializers.UUIDField(),
        "type": serializers.ChoiceField(_TYPES),
        "status": serializers.ChoiceField(_STATUSES),
        "progress": _any("As the run's."),
        "percent": serializers.IntegerField(allow_null=True),
        "error": serializers.CharField(),
        "page": serializers.CharField(allow_null=True),
    },
)
_LINEAGE = inline_serializer(
    "RunData",
    {
        "exchange": serializers.CharField(),
        "symbol": serializers.CharField(),
        "timeframe": serializers.CharField(),
        "start_ts": serializers.IntegerField(help_text="Unix seconds."),
        "end_ts": serializers.IntegerField(help_text="Unix seconds, exclusive."),
        "revision": serializers.CharField(),
        "row_count": serializers.IntegerField(allow_null=True),
        "drift": inline_serializer(
            "RunDrift",
            {
                "changed": serializers.BooleanField(allow_null=True, help_text="null: unknown."),
                "message": serializers.CharField(),
            },
        ),
    },
    allow_null=True,
    help_text="The candles it read; null until it has.",
)
RunsAnswer = inline_serializer(
    "RunsAnswer",
    {"runs": serializers.ListField(child=inline_serializer("RunRow", _RUN)), "meta": Page},
)
RunAnswer = inline_serializer(
    "RunAnswer",
    {
        **_RUN,
        "payload": _any("What was asked."),
        "result": _any("What came of it; null until it has succeeded.", allow_null=True),
        "attempt": serializers.IntegerField(),
        "max_attempts": serializers.IntegerField(),
        "data": _LINEAGE,
        "artifacts": serializers.ListField(child=ArtifactAnswer()),
        "children": serializers.ListField(child=_CHILD, help_text="Folds of a walk-forward."),
    },
)
EventsAnswer = inline_serializer(
    "EventsAnswer",
    {
        "events": serializers.ListField(
            child=inline_serializer(
                "RunEvent",
                {
                    "id": serializers.IntegerField(),
                    "ts": serializers.DateTimeField(),
                    "level": serializers.ChoiceField([str(x) for x in JobEvent.Level.values]),
                    "message": serializers.CharField(),
                    "meta": _any("Facts beside it."),
                },
            )
        ),
        "meta": Page,
    },
)
CanceledAnswer = inline_serializer(
    "CanceledAnswer",
    {
        "status": serializers.ChoiceField(_STATUSES),
        "children_canceled": serializers.IntegerField(),
    },
)

# --- the queue ---

JobsAnswer = inline_serializer(
    "JobsAnswer",
    {
        "jobs": serializers.ListField(
            child=inline_serializer(
                "JobRow",
                {
                    "id": serializers.UUIDField(),
                    "type": serializers.CharField(),
                    "status": serializers.ChoiceField(_STATUSES),
                    "workspace_id": serializers.CharField(),
                    "parent_id": serializers.UUIDField(allow_null=True),
                    "priority": serializers.IntegerField(help_text="Lower ones first."),
                    "attempt": serializers.IntegerField(),
                    "max_attempts": serializers.IntegerField(),
                    "run_after": serializers.DateTimeField(),
                    "locked_by": serializers.CharField(),
                    "locked_at": serializers.DateTimeField(allow_null=True),
                    "dedupe_key": serializers.CharField(allow_null=True),
                    "payload": _any("What was asked."),
                    "progress": _any("How far it is."),
                    "percent": _PERCENT,
                    "error": serializers.CharField(),
                    "pinned": serializers.BooleanField(),
                    **_MOMENTS,
                    "page": serializers.CharField(allow_null=True),
                },
            )
        ),
        "meta": Page,
    },
)
ArtifactsAnswer = inline_serializer(
    "ArtifactsAnswer", {"artifacts": serializers.ListField(child=ArtifactAnswer()), "meta": Page}
)


class JobTaken(serializers.Serializer[Any]):
    """A job's status."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField(_STATUSES)


class PinOrder(serializers.Serializer[Any]):
    """Whether to keep a run's files."""

    pinned = serializers.BooleanField()


class PinAnswer(PinOrder):
    """Whether a run's files are kept."""

    run_id = serializers.UUIDField()


# --- strategies and the best found ---

_NUMBER = serializers.FloatField
StrategiesAnswer = inline_serializer(
    "StrategiesAnswer",
    {
        "strategies": serializers.ListField(
            child=inline_serializer(
                "StrategyAnswer",
                {
                    "id": serializers.CharField(),
                    "title": serializers.CharField(),
                    "parameters": serializers.ListField(
                        child=inline_serializer(
                            "StrategyParameter",
                            {
                                "name": serializers.CharField(),
                                "type": serializers.ChoiceField(("int", "float")),
                                "min": _NUMBER(),
                                "max": _NUMBER(),
                                "step": _NUMBER(help_text="A usual one."),
                                "default": _NUMBER(),
                            },
                        )
                    ),
                    "constraints": serializers.ListField(child=serializers.CharField()),
                },
            )
        ),
        "objectives": serializers.ListField(child=serializers.ChoiceField(OBJECTIVES)),
        "count": serializers.IntegerField(),
    },
)
LeaderboardAnswer = inline_serializer(
    "LeaderboardAnswer",
    {
        "leaderboard": serializers.ListField(
            child=inline_serializer(
                "Leader",
                {
                    "score": _NUMBER(help_text="Higher is better."),
                    "objective": serializers.ChoiceField(OBJECTIVES),
                    "type": serializers.ChoiceField(RUN_TYPES),
                    "strategy_id": serializers.CharField(),
                    "exchange": serializers.CharField(),
                    "symbol": serializers.CharField(),
                    "timeframe": serializers.CharField(),
                    "params": _any("By name."),
                    "metrics": _any("By name."),
                    "workspace_id": serializers.CharField(),
                    "run_id": serializers.UUIDField(),
                    "rank_in_run": serializers.IntegerField(),
                    "created_at": serializers.DateTimeField(),
                },
            )
        ),
        "count": serializers.IntegerField(),
    },
)

# --- parameters ---

WORKSPACE = OpenApiParameter("workspace_id", str, description="Default: all.")
_STATUS = OpenApiParameter("status", str, enum=_STATUSES)
PAGE = (
    OpenApiParameter("limit", whole(1, MAX_ROWS), default=DEFAULT_LIMIT),
    OpenApiParameter("offset", whole(0, MAX_OFFSET), default=0),
)
RUNS_PARAMETERS = (
    WORKSPACE,
    OpenApiParameter("type", str, enum=list(RUN_TYPES)),
    _STATUS,
    OpenApiParameter("include_children", bool, default=False),
    *PAGE,
)
JOBS_PARAMETERS = (
    WORKSPACE,
    OpenApiParameter("type", str, enum=_TYPES),
    _STATUS,
    OpenApiParameter("parent_id", str, description="Of this job only."),
    *PAGE,
)
ARTIFACTS_PARAMETERS = (
    WORKSPACE,
    OpenApiParameter("run_id", str, description="Of this run only."),
    OpenApiParameter("kind", str),
    *PAGE,
)
IDEMPOTENCY_KEY = OpenApiParameter(
    "X-Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="Of your choice, 1 to 200 characters: the same key is answered the same run.",
)
LEADERBOARD_PARAMETERS = (
    WORKSPACE,
    OpenApiParameter("objective", str, enum=list(OBJECTIVES)),
    OpenApiParameter("limit", whole(1, MAX_ROWS), default=DEFAULT_LIMIT),
)
