"""What the health answers and the list of endpoints look like, for OpenAPI."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import serializers

_UP_DOWN = ("up", "down")


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """BearerAuthentication as OpenAPI describes it; drf-spectacular finds it by being there."""

    target_class = "config.rest.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


class CheckAnswer(serializers.Serializer[Any]):
    """Whether something works, and in words."""

    status = serializers.ChoiceField(_UP_DOWN)
    latency_ms = serializers.IntegerField(allow_null=True)
    message = serializers.CharField()


class ServicesAnswer(serializers.Serializer[Any]):
    """The two stores."""

    redis = serializers.ChoiceField(_UP_DOWN)
    database = serializers.ChoiceField(_UP_DOWN)


class ExchangeAnswer(serializers.Serializer[Any]):
    """What an exchange sent last."""

    status = serializers.ChoiceField(_UP_DOWN)
    last_ticker_age_ms = serializers.IntegerField(
        allow_null=True, help_text="Since its tickers last changed."
    )
    last_trade_age_ms = serializers.IntegerField(allow_null=True)
    circuit = serializers.ChoiceField(("closed", "open", "half_open"))


class HealthAnswer(serializers.Serializer[Any]):
    """How everything is."""

    status = serializers.ChoiceField(("ok", "degraded", "down"))
    timestamp = serializers.IntegerField(help_text="Unix milliseconds.")
    version = serializers.CharField()
    uptime = serializers.IntegerField(help_text="Seconds since this web process started.")
    simulated = serializers.BooleanField()
    leader = serializers.BooleanField(help_text="Every elected role has a holder.")
    services = ServicesAnswer()
    checks = serializers.DictField(child=CheckAnswer())
    exchanges = serializers.DictField(child=ExchangeAnswer())


class LiveAnswer(serializers.Serializer[Any]):
    """The process answers."""

    status = serializers.ChoiceField(("ok",))


class ReadyAnswer(serializers.Serializer[Any]):
    """Whether it can be sent requests."""

    status = serializers.ChoiceField(("ok", "not_ready"))
    checks = serializers.DictField(child=CheckAnswer())


class RootAnswer(serializers.Serializer[Any]):
    """Every endpoint by name."""

    endpoints = serializers.DictField(child=serializers.CharField())
    documentation = serializers.CharField()
