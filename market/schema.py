"""What the market's answers look like, for OpenAPI."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, inline_serializer
from rest_framework import serializers

from market.query import MAX_SECONDS
from oracle.values import RESOLUTIONS

_DIGITS: Any = {"max_digits": None, "decimal_places": None, "coerce_to_string": False}
_REASONS = {
    400: "A parameter is missing or wrong; the message names it, its value and what is accepted.",
    401: "No or a wrong token.",
    404: "There is no such symbol, or it has no candles.",
    429: "Too many requests; Retry-After says how many seconds to wait.",
    503: "There is no such price, or a store is away; the code says which.",
}


def number(**options: Any) -> serializers.DecimalField:
    """A JSON number with all its digits."""
    return serializers.DecimalField(**_DIGITS, **options)


class ErrorBody(serializers.Serializer[Any]):
    """What went wrong."""

    code = serializers.CharField(help_text="For programs: INVALID_PARAMETER, PRICE_STALE, …")
    message = serializers.CharField(help_text="For people.")
    details = serializers.DictField(help_text="The field, the price, … as far as there is one.")


class ErrorAnswer(serializers.Serializer[Any]):
    """The one shape of every error."""

    error = ErrorBody()


def errors(*statuses: int) -> dict[int, OpenApiResponse]:
    """The error answers of an endpoint, each with its reason."""
    return {
        status: OpenApiResponse(ErrorAnswer, description=_REASONS[status])
        for status in (*statuses, 429)
    }


class SymbolAnswer(serializers.Serializer[Any]):
    """A symbol that is priced."""

    symbol = serializers.CharField()
    base = serializers.CharField()
    quote = serializers.CharField()
    exchanges = serializers.ListField(child=serializers.CharField())


class SymbolsAnswer(serializers.Serializer[Any]):
    """Every symbol that is priced."""

    symbols = SymbolAnswer(many=True)
    count = serializers.IntegerField()


class TickerAnswer(serializers.Serializer[Any]):
    """A symbol's price and its last 24 hours."""

    symbol = serializers.CharField()
    price = number()
    volume_24h = number(allow_null=True, help_text="Base volume of the price's markets.")
    change_24h = number(
        allow_null=True, help_text="Percent; null while history is shorter than 24 h (less 5 min)."
    )
    high_24h = number(allow_null=True)
    low_24h = number(allow_null=True)
    timestamp = serializers.IntegerField(help_text="Unix seconds.")
    status = serializers.ChoiceField(("fresh", "degraded", "stale"))
    age_ms = serializers.IntegerField(help_text="Age of the price's oldest part.")


class CandleAnswer(serializers.Serializer[Any]):
    """One candle; volumes are of trades, null where nobody listened to them."""

    time = serializers.IntegerField(help_text="When it opens, unix seconds.")
    open = number()
    high = number()
    low = number()
    close = number()
    volume = number(allow_null=True)
    quote_volume = number(allow_null=True)
    vwap = number(allow_null=True)
    trade_count = serializers.IntegerField(allow_null=True)
    source_count = serializers.IntegerField(help_text="Exchanges that its prices are made of.")
    closed = serializers.BooleanField(help_text="false while it may still change.")
    revision = serializers.IntegerField(help_text="How often its minutes changed after storing.")


class OhlcvAnswer(serializers.Serializer[Any]):
    """Candles, oldest first."""

    symbol = serializers.CharField()
    resolution = serializers.CharField()
    data = CandleAnswer(many=True)  # type: ignore[assignment]  # a field, as it happens
    meta = inline_serializer(
        "OhlcvMeta",
        {
            "count": serializers.IntegerField(),
            "from": serializers.IntegerField(),
            "to": serializers.IntegerField(),
            "next": serializers.IntegerField(
                allow_null=True, help_text="`from` of the next page; null on the last."
            ),
            "simulated": serializers.BooleanField(),
        },
    )


DEFAULT_LIMIT, MAX_LIMIT = 1_000, 5_000


def whole(least: int, most: int) -> dict[str, Any]:
    """A parameter that is a whole number of ``least`` to ``most``."""
    return {"type": "integer", "minimum": least, "maximum": most}


SYMBOL = OpenApiParameter(
    "symbol",
    {"type": "string", "minLength": 1},
    required=True,
    description="BTC/USDT, btc-usdt or, where only one symbol reads so, BTCUSDT.",
)
OHLCV_PARAMETERS = (
    SYMBOL,
    OpenApiParameter("resolution", str, enum=list(RESOLUTIONS), default="1m"),
    OpenApiParameter(
        "from",
        whole(0, MAX_SECONDS),
        description="Unix seconds, inclusive; default: `limit` candles up to `to`.",
    ),
    OpenApiParameter(
        "to",
        whole(0, MAX_SECONDS),
        description="Unix seconds, inclusive of the candle that opens then; default: now.",
    ),
    OpenApiParameter(
        "limit", whole(1, MAX_LIMIT), default=DEFAULT_LIMIT, description="So many candles at most."
    ),
)
CSV_PARAMETERS = (
    *OHLCV_PARAMETERS[:2],
    OpenApiParameter(
        "from",
        whole(0, MAX_SECONDS),
        description="Unix seconds, inclusive; default: the first candle.",
    ),
    OHLCV_PARAMETERS[3],
)
