"""What every answer carries: an id, security headers, CORS, and if its prices are simulated."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from uuid import uuid4

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers
from structlog.contextvars import bound_contextvars

from oracle import metrics, ratelimit

Answer = Callable[[HttpRequest], HttpResponse]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}", re.ASCII)

# Everything is served from here, and no script stands in a page. The admin and the browsable API
# set style attributes, which cannot run anything; pictures in CSS are data: URLs.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "style-src-attr 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # The other middleware set these too, but not on what they never see: preflights, early errors.
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
CORS_METHODS = "GET, HEAD, POST, PATCH, DELETE, OPTIONS"
CORS_HEADERS = (
    "Content-Type, Authorization, X-Idempotency-Key, X-Netron-Version, X-Request-ID, X-Trace-ID"
)
CORS_EXPOSED = "Retry-After, X-Request-ID, X-Oracle-Simulated"
CORS_MAX_AGE_SECONDS = "600"

API_PATHS = ("/api/", "/discover", "/health", "/netron/", "/openapi.json")


def headers(get_response: Answer) -> Answer:
    """The outermost of our middleware: it sees every answer, errors and static files included."""

    def answer(request: HttpRequest) -> HttpResponse:
        _drop_hearsay(request)
        request_id = _request_id(request)
        started = time.perf_counter()
        with bound_contextvars(request_id=request_id):
            response = _preflight(request) or get_response(request)
        _observe(request, response, time.perf_counter() - started)
        response["X-Request-ID"] = request_id
        if settings.SIMULATED:
            response["X-Oracle-Simulated"] = "true"
        for name, value in SECURITY_HEADERS.items():
            response.setdefault(name, value)
        if not request.path.startswith(settings.STATIC_URL):
            # A price from a cache would not say how old it is.
            response.setdefault("Cache-Control", "no-store")
        _allow_origin(request, response)
        return response

    return answer


def _drop_hearsay(request: HttpRequest) -> None:
    """Forget who claims to have spoken TLS and is no proxy of ours: Django would believe anyone."""
    peer = request.META.get("REMOTE_ADDR") or ""
    if not ratelimit.is_trusted(peer, settings.TRUSTED_PROXIES):
        request.META.pop("HTTP_X_FORWARDED_PROTO", None)


def _request_id(request: HttpRequest) -> str:
    given = request.headers.get("X-Request-ID", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex


def _preflight(request: HttpRequest) -> HttpResponse | None:
    """The answer to a browser that asks whether another site's page may ask."""
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
        return None
    response = HttpResponse(status=204)
    if _is_allowed(request):
        response["Access-Control-Allow-Methods"] = CORS_METHODS
        response["Access-Control-Allow-Headers"] = CORS_HEADERS
        response["Access-Control-Max-Age"] = CORS_MAX_AGE_SECONDS
    return response


def _allow_origin(request: HttpRequest, response: HttpResponse) -> None:
    """Let pages of the listed origins read the answer; never with the reader's cookies."""
    if not settings.CORS_ALLOWED_ORIGINS or not request.path.startswith(API_PATHS):
        return
    patch_vary_headers(response, ("Origin",))
    if _is_allowed(request):
        response["Access-Control-Allow-Origin"] = request.headers["Origin"]
        response["Access-Control-Expose-Headers"] = CORS_EXPOSED


def _is_allowed(request: HttpRequest) -> bool:
    origin = request.headers.get("Origin")
    allowed = settings.CORS_ALLOWED_ORIGINS
    return bool(origin) and (origin in allowed or "*" in allowed)


def _observe(request: HttpRequest, response: HttpResponse, seconds: float) -> None:
    """Time the API's requests by the view's name, of which there are as many as URLs."""
    if request.path.startswith(API_PATHS):
        match = request.resolver_match
        name = match.view_name if match and match.view_name else "none"
        metrics.API_DURATION.labels(name, str(response.status_code)).observe(seconds)
