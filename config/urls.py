"""Every URL of the project, and the answers where there is none."""

from __future__ import annotations

import sys

from django.contrib import admin
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponsePermanentRedirect,
)
from django.shortcuts import render
from django.templatetags.static import static
from django.urls import Resolver404, include, path, resolve, reverse
from django.views.generic import RedirectView, TemplateView
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularJSONAPIView
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from backtests.admin_urls import SHORT as QUEUE_SHORT
from config import edge_schema, health, pages, rest, schema, scrape
from config.middleware import API_PATHS
from ingestion.urls import SHORT as ADMIN_SHORT

ENDPOINTS = (
    "market:symbols",
    "market:ticker",
    "market:ohlcv",
    "market:ohlcv-csv",
    "udf:config",
    "prices:all",
    "ingestion:backfill",
    "ingestion:backfills",
    "ingestion:core-symbols",
    "ingestion:sync-trigger",
    "ingestion:data-status",
    "backtests:strategies",
    "backtests:tune",
    "backtests:wfo",
    "backtests:runs",
    "backtests:leaderboard",
    "backtests-admin:jobs",
    "backtests-admin:artifacts",
    "health",
    "health-live",
    "health-ready",
)


admin.autodiscover()


class Root(APIView):
    """Where to go from here."""

    authentication_classes = ()

    @extend_schema(tags=["api"], operation_id="root", responses=schema.RootAnswer)
    def get(self, request: Request) -> Response:
        paths = {name: reverse(name) for name in ENDPOINTS} | edge_schema.ENDPOINTS
        endpoints = {name: request.build_absolute_uri(path) for name, path in paths.items()}
        socket = request.build_absolute_uri(edge_schema.WEBSOCKET).replace("http", "ws", 1)
        one = request.build_absolute_uri(reverse("prices:one", args=["btc-usdt"]))
        return Response(
            {
                "endpoints": endpoints
                | {"prices:one": one, "prices:receipt": f"{one}/sources", "prices:socket": socket},
                "documentation": request.build_absolute_uri(reverse("docs")),
            }
        )


docs = rest.limited("page")(TemplateView.as_view(template_name="oracle/docs.html"))
urlpatterns = [
    path("", pages.board, name="board"),
    path("board.json", pages.Board.as_view(), name="board-rows"),
    path("prices/<str:text>", pages.receipt, name="receipt"),
    path("backtests/", include("backtests.page_urls")),
    # Before the admin's own, whose passwords anyone could guess at without an end.
    path("admin/login/", rest.limited("login", methods=("POST",))(admin.site.login)),
    # The API's short names; the admin's own answer to what it does not know is its login.
    path("admin/", include([*ADMIN_SHORT, *QUEUE_SHORT])),
    path("admin/", admin.site.urls),
    path("api/v1/", Root.as_view(), name="root"),
    path("api/v1/market/", include("market.urls")),
    path("api/v1/udf/", include("market.udf_urls")),
    path("api/v1/admin/", include("ingestion.urls")),
    path("api/v1/admin/", include("backtests.admin_urls")),
    path("api/v1/backtests/", include("backtests.urls")),
    path("api/v1/", include("prices.urls")),
    path("api/v1/health", health.Health.as_view(), name="health"),
    path("api/v1/health/live", health.Live.as_view(), name="health-live"),
    path("api/v1/health/ready", health.Ready.as_view(), name="health-ready"),
    path("health", health.Health.as_view(schema=None), name="health-alias"),
    path("favicon.ico", RedirectView.as_view(url=static("oracle/icon.svg"))),
    path("metrics", scrape.metrics, name="metrics"),
    path("openapi.json", SpectacularJSONAPIView.as_view(), name="openapi"),
    path("api/docs/", docs, name="docs"),
]


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's 400."""
    return _refuse(request, exception)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's 403."""
    return _refuse(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's 404; who only wrote a slash too many is sent to the right place."""
    if request.path.endswith("/") and _is_there(request.path.rstrip("/")):
        query = request.META.get("QUERY_STRING", "")
        bare = request.path.rstrip("/")
        return HttpResponsePermanentRedirect(f"{bare}?{query}" if query else bare)
    return _refuse(request, Http404())


def failed(request: HttpRequest) -> HttpResponse:
    """Django's 500, or the 503 that it really is."""
    error = sys.exc_info()[1]
    return _refuse(request, error if isinstance(error, Exception) else RuntimeError("unknown"))


handler400, handler403, handler404, handler500 = bad_request, forbidden, not_found, failed


def _refuse(request: HttpRequest, error: Exception) -> HttpResponse:
    """An error outside of any API view: JSON where programs ask, a page elsewhere."""
    if not request.path.startswith(API_PATHS):
        status, body = rest.describe(error)
        message = "There is no such page." if status == 404 else body["error"]["message"]
        page = {"title": f"Error {status}", "message": message}
        return render(request, "oracle/error.html", page, status=status)
    verdict = rest.count_request(request, rest.DEFAULT_SCOPE)
    if not verdict.allowed:
        error = Throttled(wait=rest.wait_seconds(verdict))
    status, body = rest.describe(error)
    text = rest.ExactJSONRenderer().render(body)
    answer = HttpResponse(text, status=status, content_type="application/json")
    if not verdict.allowed:
        answer["Retry-After"] = str(rest.wait_seconds(verdict))
    return answer


def _is_there(bare: str) -> bool:
    try:
        resolve(bare)
    except Resolver404:
        return False
    return True
