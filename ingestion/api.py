"""The history over REST, for staff: core symbols, their sync and status, and backfills."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import extend_schema
from kombu.exceptions import OperationalError
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ingestion import asked, backfill, core_symbols, data_status, data_sync, schema, shown
from ingestion.backfill import BackfillError
from ingestion.candle_sources import CandleError, UnknownExchangeError
from ingestion.core_symbols import ACTIONS, CoreSymbolError
from ingestion.models import Backfill
from market import query
from market.coverage import INDEX
from market.models import Listing
from market.query import ApiError, invalid
from market.timeframes import UnknownTimeframeError

_ERRORS = schema.errors(400, 401, 403, 503)
_PAGE = ("limit", "offset")


class CoreSymbols(APIView):
    """Symbols of exchanges whose candles are kept up to date, apart from what is priced."""

    permission_classes = (IsAdminUser,)
    throttle_scope = "admin"

    @extend_schema(
        tags=["admin"],
        operation_id="core-symbols",
        parameters=[*schema.CORE_SYMBOL_PARAMETERS],
        responses={200: schema.CoreSymbolsAnswer, **_ERRORS, **schema.errors(404)},
    )
    def get(self, request: Request) -> Response:
        params = asked.params(request, "exchange_id", "include_disabled")
        found = core_symbols.listed(
            exchange=_one_exchange(params),
            include_disabled=asked.flag(params, "include_disabled"),
        )
        return Response(_core_symbols(list(found)))

    @extend_schema(
        tags=["admin"],
        operation_id="core-symbols-add",
        request=schema.CoreSymbolsAdd,
        responses={201: schema.CoreSymbolsAnswer, **_ERRORS, **schema.errors(404)},
    )
    def post(self, request: Request) -> Response:
        given = asked.body(request, "exchange_id", "symbols", "timeframes", "added_by")
        exchange = _exchange(given)
        names = asked.texts(given, "symbols", what="symbols such as BTC/USDT")
        timeframes = None
        if given.get("timeframes") is not None:
            timeframes = asked.texts(given, "timeframes", what="timeframes such as 1h")
        added_by = asked.text(given, "added_by", default=request.user.get_username()[:64])
        try:
            added = core_symbols.add(
                exchange, names, timeframes=timeframes, added_by=added_by, taken_over=True
            )
        except UnknownExchangeError as error:
            raise _unknown_exchange(error) from error
        except (UnknownTimeframeError, CandleError) as error:
            raise invalid_because("timeframes", error) from error
        except CoreSymbolError as error:
            raise invalid_because("symbols", error) from error
        return Response(_core_symbols(added), status=201)

    @extend_schema(
        tags=["admin"],
        operation_id="core-symbols-change",
        request=schema.CoreSymbolsChange,
        responses={200: schema.CoreSymbolsChanged, **_ERRORS, **schema.errors(404)},
    )
    def patch(self, request: Request) -> Response:
        given = asked.body(request, "action", "exchange_id", "symbols")
        action = given.get("action")
        if action not in ACTIONS:
            raise invalid("action", action, f"one of {', '.join(ACTIONS)}")
        exchange = _known_exchange(given)
        names = asked.texts(given, "symbols", what="symbols such as BTC/USDT")
        try:
            changed = core_symbols.change(action, exchange, names)
        except CoreSymbolError as error:
            raise ApiError(404, "CORE_SYMBOL_UNKNOWN", str(error), {"field": "symbols"}) from error
        return Response(
            {
                "action": action,
                "exchange_id": exchange,
                "affected": len(changed),
                "symbols": changed,
            }
        )


class SyncTrigger(APIView):
    """Send for the candles of core symbols now, not only when the clock says so."""

    permission_classes = (IsAdminUser,)
    throttle_scope = "admin"

    @extend_schema(
        tags=["admin"],
        operation_id="sync-trigger",
        parameters=[*schema.SYNC_PARAMETERS],
        request=schema.SyncOrder,
        responses={202: schema.SyncAnswer, **_ERRORS, **schema.errors(404)},
    )
    def post(self, request: Request) -> Response:
        params = asked.fields(request, "which", "exchange_id")
        wanted = query.choice(params, "which", ("all", *data_sync.SCHEDULES), default="all")
        # An empty name is refused here: it would send for every exchange.
        exchange = _known_exchange(params) if "exchange_id" in params else None
        now_ms = time.time_ns() // 1_000_000
        sent = 0
        exchanges: set[str] = set()
        for which in data_sync.SCHEDULES:
            if wanted in ("all", which):
                found = data_sync.orders(which, now_ms=now_ms, exchange=exchange)
                if found:
                    _send(which, exchange)
                sent += len(found)
                exchanges.update(order.series.exchange for order in found)
        return Response(
            {"which": wanted, "tasks": sent, "exchanges": sorted(exchanges)}, status=202
        )


class DataStatus(APIView):
    """Ranges, rows and gaps of core symbols and of the index; the last sync and its error.

    Above 10,000 rows are estimated: `rows_exact` says so. Gaps of a core symbol are those of all
    that was asked for; gaps of the index are those of the last 24 hours only.
    """

    permission_classes = (IsAdminUser,)
    throttle_scope = "admin"

    @extend_schema(
        tags=["admin"],
        operation_id="data-status",
        parameters=[*schema.STATUS_PARAMETERS],
        responses={200: schema.DataStatusAnswer, **_ERRORS, **schema.errors(404)},
    )
    def get(self, request: Request) -> Response:
        params = asked.params(request, "exchange_id", "symbol", *_PAGE)
        now_ms = time.time_ns() // 1_000_000
        page = query.page(params, default_limit=asked.DEFAULT_LIMIT)
        names = sorted(
            symbol.name for symbol in query.current_catalog().symbols if not symbol.derived_from
        )
        found = core_symbols.listed(
            exchange=_one_exchange(params, or_index=True), include_disabled=True
        )
        if params.get("symbol"):
            name = _symbol(params)
            names, found = [each for each in names if each == name], found.filter(symbol__name=name)
        rows, meta = page.of(found)
        statuses = data_status.of_core_symbols(rows)
        index = [] if page.offset else data_status.of_index(names, now_ms=now_ms)
        return Response(
            {
                "core_symbols": [
                    {
                        **shown.core_symbol(row),
                        "timeframes": [shown.series(each) for each in statuses[row.pk]],
                    }
                    for row in rows
                ],
                "index": [shown.index_status(each) for each in index],
                "meta": meta,
            }
        )


class BackfillOrder(APIView):
    """Order a range of a symbol's candles to be made of its exchanges' own."""

    permission_classes = (IsAdminUser,)
    throttle_scope = "admin"

    @extend_schema(
        tags=["admin"],
        operation_id="backfill",
        parameters=[*schema.BACKFILL_PARAMETERS],
        request=schema.BackfillOrder,
        responses={202: schema.BackfillTaken, **_ERRORS, **schema.errors(404)},
    )
    def post(self, request: Request) -> Response:
        params = asked.fields(request, "symbol", "from", "to", "overwrite")
        symbol = query.symbol(params.get("symbol"), query.current_catalog())
        now_ms = time.time_ns() // 1_000_000
        start = _seconds(params, "from")
        if start is None:
            raise invalid("from", None, "unix seconds, where the backfill begins")
        end = _seconds(params, "to")
        if start * 1_000 >= (now_ms if end is None else end * 1_000):
            raise invalid("from", start, "before now" if end is None else f"before to ({end})")
        try:
            row = backfill.order(
                symbol,
                start_ms=start * 1_000,
                end_ms=now_ms if end is None else end * 1_000,
                overwrite=asked.flag(params, "overwrite"),
                created_by=request.user.get_username()[:64],
                now_ms=now_ms,
            )
        except BackfillError as error:
            raise ApiError(400, "INVALID_PARAMETER", str(error), {"symbol": symbol}) from error
        return Response({"id": row.pk, "status": row.status}, status=202)


class Backfills(APIView):
    """Backfills and how they go, the newest first."""

    permission_classes = (IsAdminUser,)
    throttle_scope = "admin"

    @extend_schema(
        tags=["admin"],
        operation_id="backfills",
        parameters=[*schema.BACKFILLS_PARAMETERS],
        responses={200: schema.BackfillsAnswer, **_ERRORS, **schema.errors(404)},
    )
    def get(self, request: Request) -> Response:
        params = asked.params(request, "status", "symbol", *_PAGE)
        page = query.page(params, default_limit=asked.DEFAULT_LIMIT)
        found = Backfill.objects.all()
        if "status" in params:
            found = found.filter(
                status=query.choice(params, "status", Backfill.STATUSES, default="")
            )
        if params.get("symbol"):
            found = found.filter(symbol=_symbol(params))
        rows, meta = page.of(found)
        return Response({"backfills": [shown.backfill(row) for row in rows], "meta": meta})


class OneBackfill(APIView):
    """A backfill and how it goes."""

    permission_classes = (IsAdminUser,)
    throttle_scope = "admin"

    @extend_schema(
        tags=["admin"],
        operation_id="backfill-progress",
        responses={200: schema.BackfillAnswer, **_ERRORS, **schema.errors(404)},
    )
    def get(self, request: Request, backfill_id: int) -> Response:
        asked.params(request)
        return Response(shown.backfill(_find(backfill_id)))


class CancelBackfill(APIView):
    """End a backfill; what it has written stays."""

    permission_classes = (IsAdminUser,)
    throttle_scope = "admin"

    @extend_schema(
        tags=["admin"],
        operation_id="backfill-cancel",
        request=None,
        responses={200: schema.BackfillTaken, **_ERRORS, **schema.errors(404, 409)},
    )
    def post(self, request: Request, backfill_id: int) -> Response:
        asked.body(request)
        _find(backfill_id)
        canceled = backfill.cancel(backfill_id, now_ms=time.time_ns() // 1_000_000)
        return _now(backfill_id, done=canceled, verb="canceled", accepted=Backfill.LIVE)


class RetryBackfill(APIView):
    """Run a backfill again that failed or was canceled: what it has, it keeps."""

    permission_classes = (IsAdminUser,)
    throttle_scope = "admin"

    @extend_schema(
        tags=["admin"],
        operation_id="backfill-retry",
        request=None,
        responses={202: schema.BackfillTaken, **_ERRORS, **schema.errors(404, 409)},
    )
    def post(self, request: Request, backfill_id: int) -> Response:
        asked.body(request)
        _find(backfill_id)
        accepted = (Backfill.FAILED, Backfill.CANCELED)
        again = backfill.retry(backfill_id)
        return _now(backfill_id, done=again, verb="retried", accepted=accepted, status=202)


# --- what they share ---


def _core_symbols(rows: list[Listing]) -> dict[str, Any]:
    return {"core_symbols": [shown.core_symbol(row) for row in rows], "count": len(rows)}


def _exchange(given: Mapping[str, Any]) -> str:
    return asked.text(given, "exchange_id").lower()


def _known_exchange(given: Mapping[str, Any], *, or_index: bool = False) -> str:
    """The exchange that is named; 404 for one that nobody knows, instead of nothing found."""
    name = _exchange(given)
    if or_index and name == INDEX:
        return name
    try:
        core_symbols.check_exchange(name)
    except UnknownExchangeError as error:
        raise _unknown_exchange(error) from error
    return name


def _one_exchange(params: Mapping[str, str], *, or_index: bool = False) -> str | None:
    """The exchange that the request is about, if it names one."""
    return _known_exchange(params, or_index=or_index) if params.get("exchange_id") else None


def _unknown_exchange(error: UnknownExchangeError) -> ApiError:
    return ApiError(404, "EXCHANGE_UNKNOWN", str(error), {"field": "exchange_id"})


def invalid_because(field: str, error: Exception) -> ApiError:
    """The 400 for a field that a rule below refused, in its words."""
    return ApiError(400, "INVALID_PARAMETER", f"{field}: {error}", {"field": field})


def _symbol(params: Mapping[str, str]) -> str:
    try:
        [name] = core_symbols.canonical([asked.text(params, "symbol")])
    except CoreSymbolError as error:
        raise invalid_because("symbol", error) from error
    return name


def _seconds(params: Mapping[str, str], field: str) -> int | None:
    return query.integer(params, field, least=0, most=query.MAX_SECONDS, unit="unix seconds")


def _send(which: data_sync.Which, exchange: str | None) -> None:
    try:
        data_sync.send(which, exchange=exchange)
    except OperationalError as error:
        raise ApiError(
            503,
            "REDIS_UNAVAILABLE",
            "the task queue (Redis) does not answer: not all was sent; to ask again does no harm",
        ) from error


def _find(backfill_id: int) -> Backfill:
    row = Backfill.objects.filter(pk=backfill_id).first()
    if row is None:
        raise ApiError(
            404,
            "BACKFILL_UNKNOWN",
            f"there is no backfill {backfill_id}: GET /api/v1/admin/backfills lists what there is",
            {"id": backfill_id},
        )
    return row


def _now(
    backfill_id: int, *, done: bool, verb: str, accepted: tuple[str, ...], status: int = 200
) -> Response:
    row = _find(backfill_id)
    if not done:
        raise ApiError(
            409,
            "WRONG_STATUS",
            f"backfill {backfill_id} is {row.status}: only one that is {' or '.join(accepted)} "
            f"can be {verb}",
            {"id": backfill_id, "status": row.status},
        )
    return Response({"id": row.pk, "status": row.status}, status=status)
