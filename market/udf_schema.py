"""What the UDF's answers look like, for OpenAPI."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework import serializers

from market import schema
from market.query import MAX_SECONDS

# TradingView's names of our resolutions.
RESOLUTIONS = {"1": "1m", "5": "5m", "15": "15m", "60": "1h", "240": "4h", "1D": "1d", "D": "1d"}
MAX_BARS = 20_000
MAX_FOUND, FOUND = 1_000, 30


class UdfError(serializers.Serializer[Any]):
    """An error, as TradingView reads it."""

    s = serializers.ChoiceField(("error",))
    errmsg = serializers.CharField()


def errors(*statuses: int) -> dict[int, OpenApiResponse]:
    """The error answers of an endpoint."""
    return {
        status: OpenApiResponse(UdfError, description=each.description)
        for status, each in schema.errors(*statuses).items()
    }


class UdfChoice(serializers.Serializer[Any]):
    """A value, and how it is shown."""

    value = serializers.CharField()
    name = serializers.CharField()


class UdfExchange(UdfChoice):
    """An exchange of the feed."""

    desc = serializers.CharField()


class UdfConfig(serializers.Serializer[Any]):
    """What the feed can do."""

    supported_resolutions = serializers.ListField(child=serializers.CharField())
    supports_search = serializers.BooleanField()
    supports_group_request = serializers.BooleanField()
    supports_marks = serializers.BooleanField()
    supports_timescale_marks = serializers.BooleanField()
    supports_time = serializers.BooleanField()
    exchanges = UdfExchange(many=True)
    symbols_types = UdfChoice(many=True)


class UdfSymbol(serializers.Serializer[Any]):
    """A symbol, as TradingView's LibrarySymbolInfo."""

    name = serializers.CharField()
    ticker = serializers.CharField()
    full_name = serializers.CharField()
    description = serializers.CharField()
    type = serializers.CharField()
    session = serializers.CharField()
    timezone = serializers.CharField()
    exchange = serializers.CharField()
    listed_exchange = serializers.CharField()
    currency_code = serializers.CharField()
    format = serializers.CharField()
    minmov = serializers.IntegerField()
    minmov2 = serializers.IntegerField()
    pricescale = serializers.IntegerField(help_text="10 to the number of decimals shown.")
    has_intraday = serializers.BooleanField()
    intraday_multipliers = serializers.ListField(child=serializers.CharField())
    has_daily = serializers.BooleanField()
    has_weekly_and_monthly = serializers.BooleanField()
    supported_resolutions = serializers.ListField(child=serializers.CharField())
    volume_precision = serializers.IntegerField()
    data_status = serializers.CharField()


class UdfFound(serializers.Serializer[Any]):
    """A symbol that was searched for."""

    symbol = serializers.CharField()
    ticker = serializers.CharField()
    full_name = serializers.CharField()
    description = serializers.CharField()
    exchange = serializers.CharField()
    type = serializers.CharField()


def _numbers() -> serializers.ListField:
    return serializers.ListField(child=schema.number(), required=False)


class UdfBars(serializers.Serializer[Any]):
    """Bars as columns; with `no_data` there are none."""

    s = serializers.ChoiceField(("ok", "no_data"))
    t = serializers.ListField(
        child=serializers.IntegerField(), required=False, help_text="Open times, unix seconds."
    )
    o = _numbers()
    h = _numbers()
    l = _numbers()  # noqa: E741  # TradingView's name
    c = _numbers()
    v = _numbers()
    nextTime = serializers.IntegerField(
        required=False, help_text="With no_data: when the last bar before `from` opens."
    )


SYMBOL = OpenApiParameter(
    "symbol",
    {"type": "string", "minLength": 1},
    required=True,
    description="BTC/USDT, btc-usdt or INDEX:BTC/USDT.",
)
SEARCH_PARAMETERS = (
    OpenApiParameter("query", str, description="Part of a name; nothing: all."),
    OpenApiParameter("type", str, description="crypto, or nothing."),
    OpenApiParameter("exchange", str, description="INDEX, or nothing."),
    OpenApiParameter("limit", schema.whole(1, MAX_FOUND), default=FOUND),
)
HISTORY_PARAMETERS = (
    SYMBOL,
    OpenApiParameter("resolution", str, enum=list(RESOLUTIONS), required=True),
    OpenApiParameter(
        "from", schema.whole(0, MAX_SECONDS), description="Unix seconds; not with countback."
    ),
    OpenApiParameter(
        "to", schema.whole(0, MAX_SECONDS), description="Unix seconds, exclusive; default: now."
    ),
    OpenApiParameter(
        "countback",
        schema.whole(1, MAX_BARS),
        description="So many bars before `to`, if there are.",
    ),
)
