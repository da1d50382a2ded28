"""What the admin API takes and answers, for OpenAPI."""

from __future__ import annotations

from typing import Any, get_args

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, inline_serializer
from rest_framework import serializers

from ingestion.asked import DEFAULT_LIMIT, MAX_ITEMS
from ingestion.core_symbols import ACTIONS
from ingestion.data_status import EXACT_ROWS
from ingestion.data_sync import SCHEDULES, Outcome
from ingestion.models import Backfill
from ingestion.shown import MAX_GAPS
from market import schema
from market.query import MAX_OFFSET, MAX_ROWS, MAX_SECONDS
from market.schema import ErrorAnswer

_REASONS = {
    401: "A wrong token.",
    403: "Neither a staff session nor a token of staff.",
    404: "There is no such exchange, symbol or backfill; the message says what there is.",
    409: "It is in another status than this can be done in.",
}


def errors(*statuses: int) -> dict[int, OpenApiResponse]:
    """The error answers of an endpoint for staff."""
    ours = {
        status: OpenApiResponse(ErrorAnswer, description=_REASONS[status])
        for status in statuses
        if status in _REASONS
    }
    return schema.errors(*(status for status in statuses if status not in _REASONS)) | ours


_Fields = dict[str, serializers.Field[Any, Any, Any, Any]]
_SYMBOLS = serializers.ListField(
    child=serializers.CharField(), min_length=1, max_length=MAX_ITEMS, help_text="BTC/USDT, …"
)
_FROM: _Fields = {"from": serializers.IntegerField(allow_null=True, help_text="Unix seconds.")}
_TO: _Fields = {
    "to": serializers.IntegerField(allow_null=True, help_text="Unix seconds, exclusive.")
}
Gap = inline_serializer("Gap", {**_FROM, **_TO})
IndexGap = inline_serializer(
    "IndexGap",
    {
        **_FROM,
        **_TO,
        "empty": serializers.BooleanField(help_text="Asked for, and no exchange has any."),
    },
)
Page = inline_serializer(
    "PageMeta",
    {
        "count": serializers.IntegerField(),
        "limit": serializers.IntegerField(),
        "offset": serializers.IntegerField(),
        "next": serializers.IntegerField(allow_null=True, help_text="`offset` of the next page."),
    },
)


class CoreSymbolAnswer(serializers.Serializer[Any]):
    """A symbol of an exchange whose candles are kept up to date."""

    exchange_id = serializers.CharField()
    symbol = serializers.CharField()
    exchange_symbol = serializers.CharField(help_text="As the exchange spells it.")
    timeframes = serializers.ListField(child=serializers.CharField())
    enabled = serializers.BooleanField(help_text="Whether it is kept up to date at present.")
    added_by = serializers.CharField()
    created_at = serializers.DateTimeField()


class CoreSymbolsAnswer(serializers.Serializer[Any]):
    """Core symbols."""

    core_symbols = CoreSymbolAnswer(many=True)
    count = serializers.IntegerField()


class CoreSymbolsAdd(serializers.Serializer[Any]):
    """Core symbols to add."""

    exchange_id = serializers.CharField(help_text="An exchange of ours, or any that ccxt knows.")
    symbols = _SYMBOLS
    timeframes = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text="1m 5m 15m 1h 4h 1d; default: all but 4h.",
    )
    added_by = serializers.CharField(
        required=False, help_text="Default: who asks. Also of those that were listed before."
    )


class CoreSymbolsChange(serializers.Serializer[Any]):
    """What to do with core symbols."""

    action = serializers.ChoiceField(ACTIONS)
    exchange_id = serializers.CharField()
    symbols = _SYMBOLS


class CoreSymbolsChanged(serializers.Serializer[Any]):
    """Which core symbols were changed."""

    action = serializers.ChoiceField(ACTIONS)
    exchange_id = serializers.CharField()
    affected = serializers.IntegerField()
    symbols = serializers.ListField(child=serializers.CharField())


class SyncOrder(serializers.Serializer[Any]):
    """Which candles to send for."""

    which = serializers.ChoiceField(("all", *SCHEDULES), required=False)
    exchange_id = serializers.CharField(required=False)


class SyncAnswer(serializers.Serializer[Any]):
    """What was sent."""

    which = serializers.ChoiceField(("all", *SCHEDULES))
    tasks = serializers.IntegerField(help_text="One for each core symbol and timeframe.")
    exchanges = serializers.ListField(child=serializers.CharField())


_ROWS: _Fields = {
    "rows": serializers.IntegerField(help_text=f"Estimated above {EXACT_ROWS:,}."),
    "rows_exact": serializers.BooleanField(help_text="false: estimated, at most so many."),
}
_SeriesStatus = inline_serializer(
    "SeriesStatusAnswer",
    {
        "timeframe": serializers.CharField(),
        **_FROM,
        **_TO,
        **_ROWS,
        "gap_count": serializers.IntegerField(help_text="Between `from` and `to`."),
        "gaps": serializers.ListField(
            child=Gap, help_text=f"Between `from` and `to`, the first {MAX_GAPS}."
        ),
        "last_sync": serializers.DateTimeField(
            allow_null=True, help_text="When one last went well."
        ),
        "last_fetch": inline_serializer(
            "LastFetch",
            {
                "time": serializers.DateTimeField(),
                "outcome": serializers.ChoiceField(get_args(Outcome)),
            },
            allow_null=True,
        ),
        "last_error": serializers.CharField(allow_null=True),
    },
)
_LAST_DAY = "Of the last 24 hours only, whatever `from` is."
_IndexStatus = inline_serializer(
    "IndexStatusAnswer",
    {
        "symbol": serializers.CharField(),
        **_FROM,
        **_TO,
        **_ROWS,
        "missing_minutes": serializers.IntegerField(help_text=_LAST_DAY),
        "empty_minutes": serializers.IntegerField(help_text=_LAST_DAY),
        "gap_count": serializers.IntegerField(help_text=_LAST_DAY),
        "gaps": serializers.ListField(
            child=IndexGap, help_text=f"{_LAST_DAY} The first {MAX_GAPS}."
        ),
    },
)


class CoreSymbolStatusAnswer(CoreSymbolAnswer):
    """A core symbol with the status of each of its timeframes."""

    timeframes = serializers.ListField(child=_SeriesStatus)


class DataStatusAnswer(serializers.Serializer[Any]):
    """What history there is; the index on the first page only."""

    core_symbols = CoreSymbolStatusAnswer(many=True)
    index = serializers.ListField(child=_IndexStatus)
    meta = Page


BackfillOrder = inline_serializer(
    "BackfillOrder",
    {
        "symbol": serializers.CharField(),
        "from": serializers.IntegerField(help_text="Unix seconds, inclusive."),
        "to": serializers.IntegerField(required=False, help_text="Exclusive; default: now."),
        "overwrite": serializers.BooleanField(
            required=False, help_text="Replace what our own index made of these minutes."
        ),
    },
)


class BackfillTaken(serializers.Serializer[Any]):
    """A backfill's status."""

    id = serializers.IntegerField()
    status = serializers.ChoiceField(Backfill.STATUSES)


BackfillAnswer = inline_serializer(
    "BackfillAnswer",
    {
        "id": serializers.IntegerField(),
        "symbol": serializers.CharField(),
        **_FROM,
        **_TO,
        "overwrite": serializers.BooleanField(),
        "status": serializers.ChoiceField(Backfill.STATUSES),
        "progress": inline_serializer(
            "BackfillProgress",
            {
                "minutes_total": serializers.IntegerField(),
                "minutes_done": serializers.IntegerField(),
                "percent": serializers.IntegerField(),
                "candles_written": serializers.IntegerField(),
            },
        ),
        "errors": serializers.ListField(
            child=serializers.DictField(), help_text="Each range that an exchange did not give."
        ),
        "attempt": serializers.IntegerField(),
        "created_by": serializers.CharField(),
        "created_at": serializers.DateTimeField(),
        "started_at": serializers.DateTimeField(allow_null=True),
        "finished_at": serializers.DateTimeField(allow_null=True),
    },
)


class BackfillsAnswer(serializers.Serializer[Any]):
    """Backfills, the newest first."""

    backfills = serializers.ListField(child=BackfillAnswer)
    meta = Page


_EXCHANGE = OpenApiParameter("exchange_id", str, description="Of this exchange only.")
_SYMBOL = OpenApiParameter("symbol", str, description="Of this symbol only.")
_PAGE = (
    OpenApiParameter("limit", schema.whole(1, MAX_ROWS), default=DEFAULT_LIMIT),
    OpenApiParameter("offset", schema.whole(0, MAX_OFFSET), default=0),
)
CORE_SYMBOL_PARAMETERS = (
    _EXCHANGE,
    OpenApiParameter("include_disabled", bool, default=False),
)
SYNC_PARAMETERS = (
    OpenApiParameter("which", str, enum=["all", *SCHEDULES], default="all"),
    _EXCHANGE,
)
STATUS_PARAMETERS = (
    OpenApiParameter(
        "exchange_id", str, description="Core symbols of this one only; `index`: no core symbols."
    ),
    _SYMBOL,
    *_PAGE,
)
BACKFILLS_PARAMETERS = (
    OpenApiParameter("status", str, enum=list(Backfill.STATUSES)),
    _SYMBOL,
    *_PAGE,
)
_TIME = schema.whole(0, MAX_SECONDS)
BACKFILL_PARAMETERS = (
    OpenApiParameter("symbol", str, description="Here or in the body."),
    OpenApiParameter("from", _TIME, description="Unix seconds, inclusive; here or in the body."),
    OpenApiParameter("to", _TIME, description="Unix seconds, exclusive; default: now."),
    OpenApiParameter("overwrite", bool, default=False),
)
