"""The queue and the files over REST, for its operator."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import FileResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.parsers import JSONParser
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from backtests import artifacts, asked, jobs, pins, schema, shown
from backtests.artifacts import ArtifactError
from backtests.jobs import RetryError
from backtests.models import Artifact, JobType
from market.query import ApiError, invalid

CONTENT_TYPES = {".csv": "text/csv; charset=utf-8", ".json": "application/json"}


class Jobs(APIView):
    """Jobs of every type, the newest first."""

    permission_classes = (IsAdminUser,)
    throttle_scope = "admin"

    @extend_schema(
        tags=["admin"],
        operation_id="jobs",
        parameters=[*schema.JOBS_PARAMETERS],
        responses={200: schema.JobsAnswer, **schema.errors(400, 401, 403)},
    )
    def get(self, request: Request) -> Response:
        params = request.query_params
        found = asked.jobs(params, types=tuple(map(str, JobType.values)))
        if (parent := asked.uuid(params, "parent_id")) is not None:
            found = found.filter(parent_id=parent)
        rows, meta = asked.paged(found, params)
        return Response({"jobs": [shown.job(row) for row in rows], "meta": meta})


class RetryJob(APIView):
    """Have a job done again that failed or was canceled, with those below it that did or were."""

    permission_classes = (IsAdminUser,)
    throttle_scope = "admin"

    @extend_schema(
        tags=["admin"],
        operation_id="job_retry",
        request=None,
        responses={202: schema.JobTaken, **schema.errors(401, 403, 404, 409)},
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        row = asked.job(job_id)
        details = {"id": str(job_id), "status": row.status}
        try:
            jobs.retry(row.pk)
        except RetryError as error:
            message = f"job {job_id} cannot be retried: {error}"
            raise ApiError(409, error.code, message, details) from error
        row.refresh_from_db()
        return Response({"id": str(row.pk), "status": row.status}, status=202)


class Artifacts(APIView):
    """Files that runs wrote, the newest first."""

    permission_classes = (IsAdminUser,)
    throttle_scope = "admin"

    @extend_schema(
        tags=["admin"],
        operation_id="artifacts",
        parameters=[*schema.ARTIFACTS_PARAMETERS],
        responses={200: schema.ArtifactsAnswer, **schema.errors(400, 401, 403)},
    )
    def get(self, request: Request) -> Response:
        params = request.query_params
        found = Artifact.objects.all()
        if workspace := asked.workspace_id(params):
            found = found.filter(workspace_id=workspace)
        if (run_id := asked.uuid(params, "run_id")) is not None:
            found = found.filter(job_id=run_id)
        if kind := params.get("kind"):
            found = found.filter(kind=kind.replace("\0", ""))
        rows, meta = asked.paged(found, params)
        return Response({"artifacts": [shown.artifact(row) for row in rows], "meta": meta})


class DownloadArtifact(APIView):
    """The file itself. `X-Checksum-SHA256` and `ETag` are its checksum."""

    permission_classes = (IsAdminUser,)
    throttle_scope = "admin"

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        renderer = self.get_renderers()[0]  # for errors; a file is of its own type
        return renderer, renderer.media_type

    @extend_schema(
        tags=["admin"],
        operation_id="artifact_download",
        responses={
            (200, "text/csv"): OpenApiTypes.BINARY,
            (200, "application/json"): OpenApiTypes.OBJECT,
            **schema.errors(401, 403, 404),
        },
    )
    def get(self, request: Request, artifact_id: int) -> FileResponse:
        row = Artifact.objects.filter(pk=artifact_id).first()
        if row is None:
            raise _unknown(artifact_id, f"there is no artifact {artifact_id}")
        try:
            path = artifacts.locate(row)
            file = path.open("rb")
        except (ArtifactError, OSError) as error:
            raise _unknown(artifact_id, str(error)) from error
        kind = CONTENT_TYPES.get(path.suffix, "application/octet-stream")
        name = f"{str(row.job_id)[:8]}-{path.name}"
        answer = FileResponse(file, as_attachment=True, filename=name, content_type=kind)
        answer["X-Checksum-SHA256"] = row.checksum
        answer["ETag"] = f'"{row.checksum}"'
        return answer


def _unknown(artifact_id: int, message: str) -> ApiError:
    hint = "GET /api/v1/admin/artifacts lists what there is"
    return ApiError(404, "ARTIFACT_UNKNOWN", f"{message}: {hint}", {"id": artifact_id})


class PinRun(APIView):
    """Keep the files of a run whatever their age, or let them go with the others."""

    permission_classes = (IsAdminUser,)
    parser_classes = (JSONParser,)
    throttle_scope = "admin"

    @extend_schema(
        tags=["admin"],
        operation_id="run_pin",
        request=schema.PinOrder,
        responses={200: schema.PinAnswer, **schema.errors(400, 401, 403, 404)},
    )
    def patch(self, request: Request, run_id: UUID) -> Response:
        row = asked.run(run_id)
        pinned = asked.body(request).get("pinned")
        if not isinstance(pinned, bool):
            raise invalid("pinned", pinned, "true or false")
        pins.pin([row.pk], pinned=pinned)
        return Response({"run_id": str(row.pk), "pinned": pinned})
