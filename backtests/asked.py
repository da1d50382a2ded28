"""What a request asks for: its body, its filters, its job; or an error that teaches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from rest_framework.exceptions import ParseError
from rest_framework.request import Request

from backtests.job_orders import Idempotency
from backtests.models import Job, JobType, Status
from market import query
from market.query import ApiError, invalid

MAX_BODY_BYTES = 1_048_576  # a space of thousands of values
MAX_KEY_CHARS = 200
MAX_WORKSPACE_CHARS = 64
DEFAULT_LIMIT = 50
TUNE, WFO = JobType.TUNE.value, JobType.WFO.value
RUN_TYPES = (TUNE, WFO)

_STATUSES = tuple(map(str, Status.values))


def body(request: Request) -> Mapping[str, Any]:
    """The JSON object that was sent. Raises ApiError, and ParseError for what is none."""
    return query.body(request, max_bytes=MAX_BODY_BYTES)


def digest(given: Mapping[str, Any]) -> str:
    """SHA-256 of the body, whatever the order of its fields and its spaces.

    Raises ParseError for what is JSON, but nothing that the database can keep.
    """
    try:
        text = json.dumps(
            given, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        data = text.encode()
    except RecursionError:
        raise ParseError("the body is nested too deeply") from None
    except UnicodeEncodeError:
        raise ParseError("the body has half a surrogate pair, which is no text") from None
    except ValueError:
        raise ParseError("the body has a number beyond all bounds") from None
    if any("\0" in each for each in _texts(given)):
        raise ParseError("the body has a NUL character")
    return sha256(data).hexdigest()


def _texts(given: Mapping[str, Any]) -> Iterator[str]:
    """Every name and text in a JSON value, however deep."""
    left: list[Any] = [given]
    while left:
        match left.pop():
            case str(text):
                yield text
            case Mapping() as fields:
                left += [*fields, *fields.values()]
            case list(items):
                left += items


def idempotency(request: Request, endpoint: str, given: Mapping[str, Any]) -> Idempotency | None:
    """What makes a repeated POST the same one, if it has a key. Checks the body, key or none."""
    found = digest(given)
    key = request.headers.get("X-Idempotency-Key")
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_CHARS or not key.isascii() or not key.isprintable():
        accepted = f"1 to {MAX_KEY_CHARS} printable ASCII characters"
        raise invalid("X-Idempotency-Key", key, accepted)
    return Idempotency(endpoint=endpoint, key=key, digest=found)


def job(job_id: UUID) -> Job:
    """The job of this id. Raises ApiError."""
    found = Job.objects.filter(pk=job_id).first()
    if found is None:
        message = f"there is no job {job_id}: GET /api/v1/admin/jobs lists what there is"
        raise ApiError(404, "JOB_UNKNOWN", message, {"id": str(job_id)})
    return found


def run(run_id: UUID) -> Job:
    """The tune or walk-forward of this id. Raises ApiError."""
    found = Job.objects.filter(pk=run_id, type__in=RUN_TYPES).first()
    if found is None:
        message = f"there is no run {run_id}: GET /api/v1/backtests/runs lists what there is"
        raise ApiError(404, "RUN_UNKNOWN", message, {"run_id": str(run_id)})
    return found


def jobs(params: Mapping[str, str], *, types: tuple[str, ...]) -> QuerySet[Job]:
    """Jobs as the query narrows them down: by workspace, type and status; no list shows results."""
    found = Job.objects.filter(type__in=types).defer("result")
    if workspace := workspace_id(params):
        found = found.filter(workspace_id=workspace)
    if params.get("type"):
        found = found.filter(type=query.choice(params, "type", types, default=""))
    if params.get("status"):
        found = found.filter(status=query.choice(params, "status", _STATUSES, default=""))
    return found


def workspace_id(params: Mapping[str, str]) -> str | None:
    """The workspace that the query is about, if it names one."""
    text = params.get("workspace_id") or None
    if text is not None and (len(text) > MAX_WORKSPACE_CHARS or "\0" in text):
        raise invalid("workspace_id", text, f"a text of 1 to {MAX_WORKSPACE_CHARS} characters")
    return text


def uuid(params: Mapping[str, str], field: str) -> UUID | None:
    """The id that ``field`` is; None where it is not asked for."""
    text = params.get(field)
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        example = "an id such as 7c9e6679-7425-40de-944b-e07fc1f90ae7"
        raise invalid(field, text, example) from None


def paged(rows: QuerySet[Any], params: Mapping[str, str]) -> tuple[list[Any], dict[str, Any]]:
    """The page of rows that is asked for, and what says where the next one begins."""
    return query.page(params, default_limit=DEFAULT_LIMIT).of(rows)
