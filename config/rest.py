"""What all of the REST API shares: exact JSON, tokens, a limit per address, one error shape."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from decimal import Decimal
from functools import wraps
from math import ceil
from typing import Any

import msgspec
import structlog
from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.encoding import force_str
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rest_framework import exceptions
from rest_framework.authentication import TokenAuthentication
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle

from market.query import ApiError
from oracle import jsontext, ratelimit
from oracle.ratelimit import Verdict

# Views of one scope share a limit; a view that names none is of this one.
DEFAULT_SCOPE = "api"

# Causes that are not the request's fault. What else is raised is a bug: 500.
_UNAVAILABLE: tuple[tuple[tuple[type[Exception], ...], str, str], ...] = (
    (
        (OperationalError, InterfaceError),
        "DATABASE_UNAVAILABLE",
        "the database does not answer: prices are still served, history is not",
    ),
    (
        (RedisConnectionError, RedisTimeoutError),
        "REDIS_UNAVAILABLE",
        "the price store (Redis) does not answer: try again in a moment",
    ),
)
_CODES: dict[type[exceptions.APIException], str] = {
    exceptions.AuthenticationFailed: "UNAUTHENTICATED",
    exceptions.MethodNotAllowed: "METHOD_NOT_ALLOWED",
    exceptions.NotAcceptable: "NOT_ACCEPTABLE",
    exceptions.NotAuthenticated: "UNAUTHENTICATED",
    exceptions.NotFound: "NOT_FOUND",
    exceptions.ParseError: "BAD_REQUEST",
    exceptions.PermissionDenied: "FORBIDDEN",
    exceptions.UnsupportedMediaType: "UNSUPPORTED_MEDIA_TYPE",
    exceptions.ValidationError: "INVALID_PARAMETER",
}

log = structlog.get_logger(__name__)


class ExactJSONRenderer(JSONRenderer):
    """JSON whose decimals are numbers with the stored digits, less the zeros that end them."""

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        if data is None:
            return b""
        text = jsontext.encode(_trim(data))
        indent = self.get_indent(accepted_media_type or "", dict(renderer_context or {}))
        return msgspec.json.format(text, indent=indent) if indent else text


def _trim(value: Any) -> Any:
    match value:
        case Decimal() if value.is_finite():
            return Decimal(jsontext.exact(value)) if value else Decimal(0)
        case str():
            return str.__str__(value)  # DRF's and Django's own kinds of text, which msgspec refuses
        case Mapping():
            return {key: _trim(item) for key, item in value.items()}
        case list() | tuple():
            return [_trim(item) for item in value]
    return value


class BearerAuthentication(TokenAuthentication):
    """``Authorization: Bearer <token>``."""

    keyword = "Bearer"


class AddressThrottle(BaseThrottle):
    """So many requests a minute of one address in the view's `throttle_scope`; None: no limit."""

    _verdict = Verdict(allowed=True)

    def allow_request(self, request: Request, view: object) -> bool:
        self._verdict = count_request(
            request._request, getattr(view, "throttle_scope", DEFAULT_SCOPE)
        )
        return self._verdict.allowed

    def wait(self) -> float:
        return wait_seconds(self._verdict)


def count_request(request: HttpRequest, scope: str | None) -> Verdict:
    """Count a request under its client's address, once; ``scope`` None counts nothing."""
    if scope is None or request.META.get("oracle.counted"):
        return Verdict(allowed=True)
    request.META["oracle.counted"] = True
    address = ratelimit.client_address(
        request.META.get("REMOTE_ADDR") or "",
        request.META.get("HTTP_X_FORWARDED_FOR") or "",
        settings.TRUSTED_PROXIES,
    )
    return ratelimit.take(address, scope)


def wait_seconds(verdict: Verdict) -> int:
    """Whole seconds until the next request passes."""
    return max(1, ceil(verdict.retry_after_ms / 1_000))


def limited(
    scope: str, *, methods: Container[str | None] = ("GET", "HEAD", "POST")
) -> Callable[[Callable[..., HttpResponse]], Callable[..., HttpResponse]]:
    """Count the requests of an HTML page in ``scope``; over the limit, a page says so."""

    def decorate(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @wraps(view)
        def counted(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            verdict = count_request(request, scope if request.method in methods else None)
            if verdict.allowed:
                return view(request, *args, **kwargs)
            seconds = wait_seconds(verdict)
            page = {"title": "Too many requests", "message": f"Try again in {seconds} s."}
            answer = render(request, "oracle/error.html", page, status=429)
            answer["Retry-After"] = str(seconds)
            return answer

        return counted

    return decorate


def error_answer(error: Exception, context: Mapping[str, Any]) -> Response:
    """The answer to whatever a view raised, in the one shape of all errors.

    What was refused before the limiter was asked (a wrong token, an unknown media type) is counted
    here, so that guessing is limited too.
    """
    request = context.get("request")
    if request is not None and not isinstance(error, exceptions.Throttled):
        scope = getattr(context.get("view"), "throttle_scope", DEFAULT_SCOPE)
        verdict = count_request(request._request, scope)
        if not verdict.allowed:
            error = exceptions.Throttled(wait=wait_seconds(verdict))
    status, body = describe(error)
    headers = {}
    if status == 429:
        headers["Retry-After"] = str(body["error"]["details"]["retry_after"])
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    return Response(body, status=status, headers=headers)


def describe(error: Exception) -> tuple[int, dict[str, Any]]:
    """The HTTP status and the body for an error. Internals are logged, never told."""
    match error:
        case ApiError():
            return error.status_code, error_body(error.code, error.message, error.details)
        case exceptions.Throttled():
            seconds = ceil(getattr(error, "wait", None) or 1)
            limit = settings.RATE_LIMIT_PER_MINUTE
            message = f"more than {limit} requests in a minute: try again in {seconds} s"
            return 429, error_body(
                "RATE_LIMITED", message, {"limit_per_minute": limit, "retry_after": seconds}
            )
        case exceptions.APIException():
            return _describe_rest(error)
        case Http404():
            return 404, error_body(
                "NOT_FOUND", "there is nothing here: GET /api/v1/ lists what there is"
            )
        case PermissionDenied():
            return 403, error_body("FORBIDDEN", "this is not yours to do")
        case RequestDataTooBig():
            return 413, error_body("TOO_LARGE", "the request's body is too large")
        case SuspiciousOperation():
            return 400, error_body("BAD_REQUEST", "the request cannot be read")
    for causes, code, message in _UNAVAILABLE:
        if isinstance(error, causes):
            log.warning("api.unavailable", code=code, error=str(error))
            return 503, error_body(code, message)
    log.error("api.failed", exc_info=error)
    return 500, error_body(
        "INTERNAL", "something went wrong here; the log has it under X-Request-ID"
    )


def _describe_rest(error: exceptions.APIException) -> tuple[int, dict[str, Any]]:
    code = _CODES.get(type(error), "ERROR")
    if isinstance(error.detail, Mapping):
        details = {str(key): value for key, value in error.detail.items()}
        message = "; ".join(f"{key}: {force_str(_first(value))}" for key, value in details.items())
        return error.status_code, error_body(code, message, details)
    return error.status_code, error_body(code, force_str(_first(error.detail)))


def _first(detail: Any) -> Any:
    return detail[0] if isinstance(detail, list) and detail else detail


def error_body(code: str, message: str, details: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The one shape of all errors."""
    return {"error": {"code": code, "message": message, "details": dict(details or {})}}
