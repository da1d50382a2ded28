"""Candles as a CSV file over HTTP, of any length, streamed page by page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from threading import BoundedSemaphore
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from market import export, query, schema
from market.export import Table
from market.query import ApiError
from market.symbols import slug
from oracle.values import RESOLUTIONS

# Each holds a thread of the web until its reader has read it all.
AT_ONCE = 4
MAX_SECONDS = 600
CONTENT_TYPE = "text/csv; charset=utf-8"

_seats = BoundedSemaphore(AT_ONCE)


class OhlcvCsv(APIView):
    """Closed candles as a CSV file, oldest first: all of a range, however long.

    A header, then `time` (ISO 8601, UTC), `open`, `high`, `low`, `close`, `volume`,
    `quote_volume`, `vwap`, `trade_count`, `source_count`, `revision`: exact decimals, nothing
    where a number is not known. An answer that ends early, by an error or after ten minutes, is
    cut off as such: its last chunk is missing.
    """

    authentication_classes = ()
    throttle_scope = "market"

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        renderer = self.get_renderers()[0]  # for errors; who asks for text/csv gets that
        return renderer, renderer.media_type

    @extend_schema(
        tags=["market"],
        operation_id="ohlcv_csv",
        parameters=[*schema.CSV_PARAMETERS],
        responses={(200, "text/csv"): OpenApiTypes.STR, **schema.errors(400, 404, 503)},
    )
    def get(self, request: Request) -> HttpResponse | StreamingHttpResponse:
        params, now_ms = request.query_params, time.time_ns() // 1_000_000
        resolution = query.choice(params, "resolution", tuple(RESOLUTIONS), default="1m")
        seconds = partial(query.integer, least=0, most=query.MAX_SECONDS, unit="unix seconds")
        end = seconds(params, "to")
        start = seconds(params, "from") or 0
        end = now_ms // 1_000 if end is None else end
        if start > end:
            raise query.invalid("from", start, f"at most `to`, which is {end}")
        name = query.candle_symbol(params.get("symbol"), query.current_catalog())
        table = export.index_table(
            name,
            resolution=resolution,
            from_ms=start * 1_000,
            to_ms=end * 1_000 + 1,
            now_ms=now_ms,
        )
        headers = {"Content-Disposition": f'attachment; filename="{slug(name)}-{resolution}.csv"'}
        if request.method == "HEAD":
            return HttpResponse(content_type=CONTENT_TYPE, headers=headers)
        return StreamingHttpResponse(_start(table), content_type=CONTENT_TYPE, headers=headers)


class _Download:
    """The parts of a file, and a seat that is given back when these end or nobody reads them."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._until = time.monotonic() + MAX_SECONDS
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if time.monotonic() > self._until:
            raise TimeoutError(f"a download may take {MAX_SECONDS} s")
        return next(self._parts)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            _seats.release()


def _start(table: Table) -> _Download:
    """A download whose first page is read: a store that is away answers 503. Raises ApiError."""
    if not _seats.acquire(blocking=False):
        raise ApiError(
            503, "TOO_MANY_DOWNLOADS", f"{AT_ONCE} files are being read: try again in a moment"
        )
    try:
        pages = iter(table.pages)
        first = next(pages, ())
    except BaseException:
        _seats.release()
        raise
    return _Download(export.csv_parts(replace(table, pages=chain((first,), pages))))
