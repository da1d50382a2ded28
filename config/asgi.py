"""The ASGI application: the live edge, and Django in threads behind it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_from_bytes

from a2wsgi import WSGIMiddleware
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# Requests wait for Redis and the database most of their time.
THREADS = 16

_django: Any = WSGIMiddleware(get_wsgi_application(), workers=THREADS)  # type: ignore[arg-type]
_URL_BYTES = bytes(range(0x21, 0x7F)).decode()

# What follows imports settings and models, which are there only now.
from django.conf import settings  # noqa: E402

from config import bulkhead, health, middleware, rest  # noqa: E402
from config.state import read_state  # noqa: E402
from config.uptime import uptime_seconds  # noqa: E402
from prices.live.app import Edge  # noqa: E402
from prices.live.frame import Frame  # noqa: E402


async def django(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer a request by Django."""
    # a2wsgi reads the query as ASCII and fails on anything else; Django reads %XX leniently.
    query = quote_from_bytes(scope["query_string"], safe=_URL_BYTES).encode()
    await _django({**scope, "query_string": query}, receive, send)


def frame() -> Frame:
    """What the edge's answers share with those of Django's middleware."""
    headers = {
        **middleware.SECURITY_HEADERS,
        "Referrer-Policy": settings.SECURE_REFERRER_POLICY,
        "Cross-Origin-Opener-Policy": settings.SECURE_CROSS_ORIGIN_OPENER_POLICY,
        "Cache-Control": "no-store",
    }
    if settings.SECURE_HSTS_SECONDS:
        seconds = f"max-age={settings.SECURE_HSTS_SECONDS}"
        headers["Strict-Transport-Security"] = f"{seconds}; includeSubDomains; preload"
    return Frame(
        render=rest.ExactJSONRenderer().render,
        describe=rest.describe,
        headers=headers,
        exposed=middleware.CORS_EXPOSED,
    )


def _health() -> Mapping[str, Any]:
    return health.health_body(read_state(), uptime_seconds=uptime_seconds())


def _ready() -> Mapping[str, Any]:
    return health.ready_body(read_state())


application = Edge(django, frame=frame(), guard=bulkhead.visiting, health=_health, ready=_ready)
