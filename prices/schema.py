"""What the prices' answers look like, for OpenAPI."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from market.schema import number

SLUG = OpenApiParameter(
    "slug",
    str,
    OpenApiParameter.PATH,
    description="btc-usdt, BTC-USDT or, where only one symbol reads so, BTCUSDT.",
)
STRICT = (
    OpenApiParameter(
        "max_age_ms", int, description="Answer 503 PRICE_STALE when the price is older."
    ),
    OpenApiParameter(
        "min_sources",
        int,
        description="Answer 503 PRICE_UNAVAILABLE when fewer exchanges agree on the price.",
    ),
)


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


class ReceiptAnswer(serializers.Serializer[Any]):
    """What a price is made of: vwap is sum(price × weight) / sum(weight) of the kept sources."""

    symbol = serializers.CharField()
    price = number()
    method = serializers.ChoiceField(("vwap", "median"))
    status = serializers.ChoiceField(("fresh", "degraded", "stale"))
    timestamp = serializers.IntegerField(help_text="When it was computed, unix milliseconds.")
    age_ms = serializers.IntegerField()
    sources = SourceAnswer(many=True)
    simulated = serializers.BooleanField()
