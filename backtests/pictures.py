"""What a run's page draws and follows, as JSON for its scripts. Staff only, as the page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from backtests import artifacts, asked, chart_candles, curves, lineage, shown, trials
from backtests.artifacts import ArtifactError
from backtests.models import Artifact, Job, JobEvent
from backtests.trials import Others, UnknownColumnError
from market import query
from market.query import ApiError, invalid
from market.ranges import TimeRange
from oracle.values import RESOLUTIONS

SCOPE = "backtests-page"
LATEST_EVENTS = 30
MAX_MS = query.MAX_SECONDS * 1_000


@extend_schema(exclude=True)
class State(APIView):
    """How a run goes: asked for again and again while it does."""

    permission_classes = (IsAdminUser,)
    throttle_scope = SCOPE

    def get(self, request: Request, run_id: UUID) -> Response:
        row = asked.run(run_id)
        events = list(JobEvent.objects.filter(job=row).order_by("-pk")[:LATEST_EVENTS])
        return Response(
            {
                **shown.run(row),
                "attempt": row.attempt,
                "max_attempts": row.max_attempts,
                "children": shown.children(row),
                "events": [shown.event(each) for each in reversed(events)],
            }
        )


@extend_schema(exclude=True)
class Drift(APIView):
    """Whether a run's candles are others now: apart from its page, for it may take a second."""

    permission_classes = (IsAdminUser,)
    throttle_scope = SCOPE

    def get(self, request: Request, run_id: UUID) -> Response:
        return Response(lineage.of(asked.run(run_id), now_ms=time.time_ns() // 1_000_000))


@extend_schema(exclude=True)
class Equity(APIView):
    """Equity and drawdown."""

    permission_classes = (IsAdminUser,)
    throttle_scope = SCOPE

    def get(self, request: Request, run_id: UUID) -> Response:
        row = asked.run(run_id)
        parts = curves.equity(file(row, "equity"), stitched=row.type == asked.WFO)
        return Response({"parts": parts, "simulated": settings.SIMULATED})


@extend_schema(exclude=True)
class CandlesAndTrades(APIView):
    """Candles of a window, as few as a screen shows, and the trades in it."""

    permission_classes = (IsAdminUser,)
    throttle_scope = SCOPE

    def get(self, request: Request, run_id: UUID) -> Response:
        row = asked.run(run_id)
        trades = file(row, "trades")
        found = lineage.data(row)
        if found is None:
            raise gone(row, "trades")
        all_of_it, series = lineage.whole(found), lineage.series(found)
        wanted = _window(request, all_of_it)
        bars = chart_candles.read(series, wanted)
        start_ms, end_ms = bars.whole.start_ms, bars.whole.end_ms
        inside = curves.trades(trades, start_ms=start_ms, end_ms=end_ms)
        return Response(
            {
                "start_ms": start_ms,
                "end_ms": end_ms,
                "step_ms": bars.step_ms,
                "candle_ms": RESOLUTIONS[series.timeframe],
                "all": [all_of_it.start_ms, all_of_it.end_ms],
                "candles": bars.rows,
                **inside,
            }
        )


def _window(request: Request, all_of_it: TimeRange) -> TimeRange:
    params = request.query_params
    start = query.integer(params, "from_ms", least=0, most=MAX_MS, unit="unix milliseconds")
    end = query.integer(params, "to_ms", least=0, most=MAX_MS, unit="unix milliseconds")
    start_ms = max(all_of_it.start_ms, start or 0)
    end_ms = min(all_of_it.end_ms, MAX_MS if end is None else end)
    if start_ms >= end_ms:
        raise invalid("from_ms", start, "before to_ms, and within the run's candles")
    return TimeRange(start_ms=start_ms, end_ms=end_ms)


@extend_schema(exclude=True)
class Heat(APIView):
    """A metric over two parameters."""

    permission_classes = (IsAdminUser,)
    throttle_scope = SCOPE

    def get(self, request: Request, run_id: UUID) -> Response:
        params = request.query_params
        path = file(asked.run(run_id), "trials")
        others = query.choice(params, "others", ("best", "fixed"), default="best")
        x = params.get("x", "")
        try:
            return Response(
                trials.heat(
                    path,
                    x=x,
                    y=params.get("y") or None,
                    metric=params.get("metric", trials.SCORE),
                    others=cast(Others, others),
                )
            )
        except UnknownColumnError as error:
            raise ApiError(400, "INVALID_PARAMETER", str(error)) from error


def file(row: Job, kind: str) -> Path:
    """The run's file of a kind. Raises ApiError where it is gone."""
    found: Any = Artifact.objects.filter(job=row, kind=kind).first()
    if found is None:
        raise gone(row, kind)
    try:
        return artifacts.locate(found)
    except ArtifactError as error:
        raise gone(row, kind) from error


def gone(row: Job, kind: str) -> ApiError:
    """The 404 for a file that a run has not, or no more."""
    return ApiError(
        404,
        "ARTIFACT_UNKNOWN",
        f"this run has no {kind} file: it has not ended well, or its files were removed",
        {"run_id": str(row.pk), "kind": kind},
    )
