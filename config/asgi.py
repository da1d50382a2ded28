"""The ASGI application: Django in threads. The live edge goes in front of it."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote_from_bytes

from a2wsgi import WSGIMiddleware
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# Requests wait for Redis and the database most of their time.
THREADS = 16

_django: Any = WSGIMiddleware(get_wsgi_application(), workers=THREADS)  # type: ignore[arg-type]
_URL_BYTES = bytes(range(0x21, 0x7F)).decode()


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer a connection; HTTP by Django."""
    if scope["type"] == "http":
        # a2wsgi reads the query as ASCII and fails on anything else; Django reads %XX leniently.
        query = quote_from_bytes(scope["query_string"], safe=_URL_BYTES).encode()
        scope = {**scope, "query_string": query}
    await _django(scope, receive, send)
