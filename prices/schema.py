"""What the prices' answers look like, for OpenAPI."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, inline_serializer
from rest_framework import serializers

from market.query import MAX_SECONDS
from market.schema import number, whole
from prices.changes import CUSTOM, PERIODS_MS
from prices.published import SPOT_INDEX, TRADE_RATE

# As old as a currency authority's rate may be set to be, and with it a price derived by it.
MAX_AGE_MS = 30 * 86_400_000
MAX_SOURCES = 1_000
PERIODS = (*PERIODS_MS, CUSTOM)
DEFAULT_LIMIT, MAX_LIMIT = 1_000, 5_000
SLUG = OpenApiParameter(
    "slug",
    {"type": "string", "minLength": 1},
    OpenApiParameter.PATH,
    description="btc-usdt, BTC-USDT or, where only one symbol reads so, BTCUSDT.",
)
STRICT = (
    OpenApiParameter(
        "max_age_ms",
        whole(1, MAX_AGE_MS),
        description="Answer 503 PRICE_STALE when the price is older.",
    ),
    OpenApiParameter(
        "min_sources",
        whole(1, MAX_SOURCES),
        description="Answer 503 PRICE_UNAVAILABLE when fewer exchanges agree on the price.",
    ),
)


_TIMES = (
    OpenApiParameter("from", whole(0, MAX_SECONDS), description="Unix seconds, inclusive."),
    OpenApiParameter(
        "to", whole(0, MAX_SECONDS), description="Unix seconds, inclusive; default: now."
    ),
)
PERIOD = (
    OpenApiParameter(
        "period",
        str,
        enum=list(PERIODS),
        description="Up to now, without `from` and `to`; or `custom`: `from` to `to`. "
        "Default: `custom` with `from`, else 24hours.",
    ),
    *_TIMES,
)
RANGE = (
    *_TIMES,
    OpenApiParameter(
        "limit", whole(1, MAX_LIMIT), default=DEFAULT_LIMIT, description="So many rates at most."
    ),
)


BASES = (SPOT_INDEX, TRADE_RATE)
BASIS_HELP = "What the price is: the index of each second, or the rate of trades of each 10 s."
DERIVED_HELP = "The symbol whose trade rate was converted; null where none was."


class PriceAnswer(serializers.Serializer[Any]):
    """A price, how old it is and how far its sources agree."""

    symbol = serializers.CharField()
    price = number()
    method = serializers.ChoiceField(
        ("vwap", "median"), help_text="median where no source states a volume."
    )
    status = serializers.ChoiceField(
        ("fresh", "degraded", "stale"),
        help_text="degraded: fewer exchanges than wanted; stale: none any more.",
    )
    timestamp = serializers.IntegerField(help_text="When it was computed, unix milliseconds.")
    age_ms = serializers.IntegerField(help_text="Age of its oldest part.")
    confidence = number(help_text="max(p50 - p25, p75 - p50) of the kept sources.")
    spread_bps = number(help_text="Between the lowest and the highest kept source.")
    stdev = number()
    variance = number()
    source_count = serializers.IntegerField(help_text="Distinct exchanges it is made of.")
    outliers_removed = serializers.IntegerField()
    sources = serializers.ListField(child=serializers.CharField())
    basis = serializers.ChoiceField(BASES, help_text=BASIS_HELP)
    derived_from = serializers.CharField(allow_null=True, help_text=DERIVED_HELP)
    simulated = serializers.BooleanField()


class PricesAnswer(serializers.Serializer[Any]):
    """The prices of all symbols."""

    prices = PriceAnswer(many=True)
    count = serializers.IntegerField()
    unavailable = serializers.ListField(
        child=serializers.CharField(), help_text="Symbols without a price."
    )


class SourceAnswer(serializers.Serializer[Any]):
    """One listing's part in a price."""

    exchange = serializers.CharField()
    exchange_symbol = serializers.CharField()
    price = number(allow_null=True, help_text="In the symbol's quote currency.")
    native_price = number(allow_null=True, help_text="As the exchange quotes it.")
    weight = number(allow_null=True, help_text="24 h volume in the symbol's quote currency.")
    weight_share = number(
        allow_null=True, help_text="Its part of all kept weight, 0 to 1; null when it has none."
    )
    volume = number(allow_null=True, help_text="24 h volume in base currency.")
    age_ms = serializers.IntegerField(allow_null=True)
    path = serializers.ListField(
        child=serializers.CharField(), help_text='Conversions, such as "KRW→USDT".'
    )
    kept = serializers.BooleanField()
    reason = serializers.CharField(allow_null=True, help_text="Why it was not kept.")


class ConversionAnswer(serializers.Serializer[Any]):
    """A step by which all of a derived price was converted."""

    path = serializers.CharField(help_text='Such as "USD→RUB".')
    factor = number(help_text="What an amount was multiplied by.")
    source = serializers.CharField(  # type: ignore[assignment]  # a field, as it happens
        help_text="On whose word: `cbr` (Central Bank of Russia), or `index`."
    )
    date = serializers.DateField(
        allow_null=True, help_text="The day that the authority names for its rate."
    )
    timestamp = serializers.IntegerField(help_text="Since when it is valid, unix milliseconds.")
    age_ms = serializers.IntegerField()


class ReceiptAnswer(serializers.Serializer[Any]):
    """What a price is made of: vwap is sum(price × weight) / sum(weight) of the kept sources."""

    symbol = serializers.CharField()
    price = number()
    method = serializers.ChoiceField(("vwap", "median"))
    status = serializers.ChoiceField(("fresh", "degraded", "stale"))
    timestamp = serializers.IntegerField(help_text="When it was computed, unix milliseconds.")
    age_ms = serializers.IntegerField()
    sources = SourceAnswer(many=True)
    basis = serializers.ChoiceField(BASES, help_text=BASIS_HELP)
    derived_from = serializers.CharField(allow_null=True, help_text=DERIVED_HELP)
    conversions = ConversionAnswer(many=True)
    simulated = serializers.BooleanField()


class ChangeAnswer(serializers.Serializer[Any]):
    """How a price has changed."""

    symbol = serializers.CharField()
    period = serializers.ChoiceField(PERIODS)
    start_timestamp = serializers.IntegerField(help_text="Of the first price, unix milliseconds.")
    end_timestamp = serializers.IntegerField(help_text="Of the last price, unix milliseconds.")
    start_price = number()
    end_price = number()
    change_percent = number(help_text="To two places.")


class RateAnswer(serializers.Serializer[Any]):
    """A trade rate of the past."""

    timestamp = serializers.IntegerField(help_text="End of its window, unix milliseconds.")
    price = number()
    method = serializers.CharField(help_text="vwap, median or mean.")
    sources = serializers.ListField(child=serializers.CharField())
    volume = number(allow_null=True, help_text="Base volume of its 30 s window; windows overlap.")


class HistoryAnswer(serializers.Serializer[Any]):
    """Trade rates, newest first."""

    symbol = serializers.CharField()
    data = RateAnswer(many=True)  # type: ignore[assignment]  # a field, as it happens
    meta = inline_serializer(
        "HistoryMeta",
        {
            "count": serializers.IntegerField(),
            "from": serializers.IntegerField(),
            "to": serializers.IntegerField(),
            "next": serializers.IntegerField(
                allow_null=True, help_text="`to` of the next page; null on the last."
            ),
            "simulated": serializers.BooleanField(),
        },
    )
