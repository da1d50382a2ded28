"""Backtests over REST, for staff: what can be tried, the orders, and the best that was found."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.parsers import JSONParser
from rest_framework.permissions import IsAdminUser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from backtests import asked, job_orders, leaderboard, schema, shown
from backtests.fields import OrderError
from backtests.job_orders import IdempotencyError, Order
from backtests.strategies.registry import STRATEGIES
from backtests.tune_order import TuneOrder
from backtests.wfo_order import WfoOrder
from market import query
from market.query import ApiError


class Strategies(APIView):
    """The strategies there are, with their parameters, ranges and constraints; and objectives."""

    permission_classes = (IsAdminUser,)
    throttle_scope = "backtests"

    @extend_schema(
        tags=["backtests"],
        operation_id="strategies",
        responses={200: schema.StrategiesAnswer, **schema.errors(401, 403)},
    )
    def get(self, request: Request) -> Response:
        found = [shown.strategy(each) for each in STRATEGIES.values()]
        objectives = list(schema.OBJECTIVES)
        return Response({"strategies": found, "objectives": objectives, "count": len(found)})


class Tune(APIView):
    """Order a search for a strategy's best parameters. The winner is then run out of sample."""

    permission_classes = (IsAdminUser,)
    parser_classes = (JSONParser,)
    throttle_scope = "backtests"

    @extend_schema(
        tags=["backtests"],
        operation_id="tune",
        parameters=[schema.IDEMPOTENCY_KEY],
        request=schema.TuneOrder,
        responses={202: schema.RunTaken, **schema.errors(400, 401, 403, 409, 413)},
    )
    def post(self, request: Request) -> Response:
        return _order(request, asked.TUNE, lambda given: TuneOrder.parse(given).payload())


class Wfo(APIView):
    """Order a walk-forward: tunes of folds, whose best are run on the windows right after."""

    permission_classes = (IsAdminUser,)
    parser_classes = (JSONParser,)
    throttle_scope = "backtests"

    @extend_schema(
        tags=["backtests"],
        operation_id="wfo",
        parameters=[schema.IDEMPOTENCY_KEY],
        request=schema.WfoOrder,
        responses={202: schema.RunTaken, **schema.errors(400, 401, 403, 409, 413)},
    )
    def post(self, request: Request) -> Response:
        return _order(request, asked.WFO, lambda given: WfoOrder.parse(given).payload())


def _order(
    request: Request, job_type: str, parse: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> Response:
    """Answer with the run that the body orders; ``parse`` spells it out."""
    given = asked.body(request)
    idempotency = asked.idempotency(request, job_type, given)
    try:
        payload = parse(given)
    except OrderError as error:
        details = {"field": error.field}
        raise ApiError(400, "INVALID_PARAMETER", str(error), details) from error
    order = Order(type=job_type, payload=payload, workspace_id=payload["workspace_id"])
    try:
        row, _ = job_orders.enqueue(order, idempotency=idempotency)
    except IdempotencyError as error:
        raise ApiError(409, "IDEMPOTENCY_KEY_REUSED", str(error)) from error
    location = {"Location": reverse("backtests:run", args=[row.pk])}
    return Response({"run_id": str(row.pk), "status": row.status}, status=202, headers=location)


_RENDERERS: Any = api_settings.DEFAULT_RENDERER_CLASSES
_SHORT = {"params": "param", "metrics": "metric"}


class LeaderboardCsv(BaseRenderer):
    """The leaderboard as a CSV file, parameters and metrics a column each; errors stay JSON."""

    media_type = "text/csv"
    format = "csv"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        if "leaderboard" not in data:
            if renderer_context is not None:
                renderer_context["response"]["Content-Type"] = "application/json"
            return json.dumps(data, default=str).encode()
        rows = [_flat(row) for row in data["leaderboard"]]
        columns = dict.fromkeys(name for row in rows for name in row) or {"score": None}
        text = io.StringIO()
        writer = csv.DictWriter(text, list(columns), lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{_SHORT.get(name, name)}.")
        else:
            flat[prefix + name] = value
    return flat


class Leaderboard(APIView):
    """The candidates that finished runs recommend, the best first; `Accept: text/csv` for a file.

    Scores of different objectives do not compare: name one. Nor do those of a tune, of its one
    out-of-sample part, and of a walk-forward, of many folds: `type` says which it is.
    """

    permission_classes = (IsAdminUser,)
    renderer_classes = (*_RENDERERS, LeaderboardCsv)
    throttle_scope = "backtests"

    @extend_schema(
        tags=["backtests"],
        operation_id="leaderboard",
        parameters=[*schema.LEADERBOARD_PARAMETERS],
        responses={
            (200, "application/json"): schema.LeaderboardAnswer,
            (200, "text/csv"): OpenApiTypes.STR,
            **schema.errors(400, 401, 403),
        },
    )
    def get(self, request: Request) -> Response:
        params = request.query_params
        limit = query.row_limit(params, default=asked.DEFAULT_LIMIT)
        objective = None
        if params.get("objective"):
            objective = query.choice(params, "objective", schema.OBJECTIVES, default="")
        workspace = asked.workspace_id(params)
        found = leaderboard.read(workspace, objective=objective, limit=limit)
        rows = [shown.leader(row) for row in found]
        return Response({"leaderboard": rows, "count": len(rows)})
