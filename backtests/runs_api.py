"""Runs over REST, for staff: the list, one with all there is to know, its events, its cancel."""

from __future__ import annotations

import time
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from backtests import asked, jobs, lineage, schema, shown
from backtests.models import Artifact, JobEvent
from ingestion.asked import flag


class Runs(APIView):
    """Tunes and walk-forwards, the newest first.

    The folds of a walk-forward are tunes too: left out unless `include_children` is true.
    """

    permission_classes = (IsAdminUser,)
    throttle_scope = "backtests"

    @extend_schema(
        tags=["backtests"],
        operation_id="runs",
        parameters=[*schema.RUNS_PARAMETERS],
        responses={200: schema.RunsAnswer, **schema.errors(400, 401, 403)},
    )
    def get(self, request: Request) -> Response:
        found = asked.jobs(request.query_params, types=asked.RUN_TYPES)
        if not flag(request.query_params, "include_children"):
            found = found.filter(parent=None)
        rows, meta = asked.paged(found, request.query_params)
        return Response({"runs": [shown.run(row) for row in rows], "meta": meta})


class OneRun(APIView):
    """A run: how it goes, what it was asked, what came of it, which candles it read.

    `data.drift` says if the candles have changed since; reading them all to tell may take a second.
    """

    permission_classes = (IsAdminUser,)
    throttle_scope = "backtests"

    @extend_schema(
        tags=["backtests"],
        operation_id="run",
        responses={200: schema.RunAnswer, **schema.errors(401, 403, 404)},
    )
    def get(self, request: Request, run_id: UUID) -> Response:
        row = asked.run(run_id)
        artifacts = Artifact.objects.filter(job=row).order_by("path")
        return Response(
            {
                **shown.run(row),
                "payload": row.payload,
                "result": row.result,
                "attempt": row.attempt,
                "max_attempts": row.max_attempts,
                "data": lineage.of(row, now_ms=time.time_ns() // 1_000_000),
                "artifacts": [shown.artifact(each) for each in artifacts],
                "children": shown.children(row),
            }
        )


class RunEvents(APIView):
    """What happened to a run, the first thing first."""

    permission_classes = (IsAdminUser,)
    throttle_scope = "backtests"

    @extend_schema(
        tags=["backtests"],
        operation_id="run_events",
        parameters=[*schema.PAGE],
        responses={200: schema.EventsAnswer, **schema.errors(400, 401, 403, 404)},
    )
    def get(self, request: Request, run_id: UUID) -> Response:
        row = asked.run(run_id)
        events = JobEvent.objects.filter(job=row).order_by("pk")
        rows, meta = asked.paged(events, request.query_params)
        return Response({"events": [shown.event(each) for each in rows], "meta": meta})


class CancelRun(APIView):
    """End a run and all below it; what runs stops within a second.

    What has ended stays as it ended: `status` says how.
    """

    permission_classes = (IsAdminUser,)
    throttle_scope = "backtests"

    @extend_schema(
        tags=["backtests"],
        operation_id="run_cancel",
        request=None,
        responses={200: schema.CanceledAnswer, **schema.errors(401, 403, 404)},
    )
    def post(self, request: Request, run_id: UUID) -> Response:
        status, count = jobs.cancel(asked.run(run_id).pk)
        return Response({"status": status, "children_canceled": count})
