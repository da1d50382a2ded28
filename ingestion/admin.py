"""The exchanges in the admin: switch them on and off, see how their feeds do, reset a breaker."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from redis.exceptions import RedisError

from ingestion import breaker
from ingestion import history_admin as history_admin  # registers the admin of what it is of
from ingestion.breaker import Circuit
from ingestion.models import FxRate
from ingestion.registry import ADAPTERS
from market.admin import PublishingAdmin
from market.models import Exchange
from market.records import RecordAdmin
from oracle import ticker_book
from oracle.jsontext import exact
from oracle.ticker_book import Feed

UNKNOWN = "unknown"  # Redis is away


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How an exchange does, as Redis knows it at ``now_ms``."""

    circuit: Circuit
    feed: Feed
    now_ms: int


class ExchangeForm(forms.ModelForm):  # type: ignore[type-arg]  # no parameter at run time
    """An exchange is its adapter: without one there is nothing to fetch with."""

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if name not in ADAPTERS:
            raise forms.ValidationError(f"No adapter of that name; there is {', '.join(ADAPTERS)}.")
        return name

    def clean_enabled(self) -> bool:
        enabled: bool = self.cleaned_data["enabled"]
        if enabled and self.instance.pk and self.instance.name not in ADAPTERS:
            raise forms.ValidationError(
                f"{self.instance} has no adapter, and so no tickers: only its candles are kept."
            )
        return enabled


class ExchangeRowForm(forms.ModelForm):  # type: ignore[type-arg]
    """An exchange in the list: the same rule for what is editable there."""

    clean_enabled = ExchangeForm.clean_enabled


@admin.register(Exchange)
class ExchangeAdmin(PublishingAdmin):
    """Lists the exchanges with the state of their breaker and ticker feed."""

    form = ExchangeForm
    change_form_template = "ingestion/exchange_change_form.html"
    list_display = (
        *("name", "title", "enabled", "listing_count"),
        *("breaker_state", "ticker_age", "last_error"),
    )
    list_editable = ("enabled",)
    list_filter = ("enabled",)
    search_fields = ("name", "title")
    ordering = ("name",)
    actions = ("reset_breakers",)
    readonly_fields = ("listing_count", "breaker_state", "ticker_age", "last_error")

    def get_changelist_form(self, request: HttpRequest, **options: Any) -> Any:
        return super().get_changelist_form(request, **{"form": ExchangeRowForm, **options})

    # --- what is shown ---

    def get_queryset(self, request: HttpRequest) -> QuerySet[Exchange]:
        exchanges: QuerySet[Exchange] = super().get_queryset(request)
        return exchanges.annotate(listing_count=Count("listings"))

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        _read_statuses(changelist.result_list)
        return changelist

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Exchange | None:
        exchange = super().get_object(request, object_id, from_field)
        if exchange is not None:
            _read_statuses([exchange])
        return exchange

    def get_readonly_fields(
        self, request: HttpRequest, obj: Exchange | None = None
    ) -> tuple[str, ...]:
        # The name is the adapter's, and what Redis keeps is kept under it.
        return self.readonly_fields if obj is None else ("name", *self.readonly_fields)

    @admin.display(description="listings", ordering="listing_count")
    def listing_count(self, exchange: Exchange) -> int:
        return int(getattr(exchange, "listing_count", 0))

    @admin.display(description="breaker")
    def breaker_state(self, exchange: Exchange) -> str:
        status = _status(exchange)
        if status is None:
            return UNKNOWN
        count = status.circuit.failure_count
        state = status.circuit.state.replace("_", " ")
        return f"{state}, {count} recent failure{'s'[: count != 1]}" if count else state

    @admin.display(description="last ticker")
    def ticker_age(self, exchange: Exchange) -> str:
        status = _status(exchange)
        if status is None:
            return UNKNOWN
        if status.feed.received_ms is None:
            return "never"
        return f"{max(0, status.now_ms - status.feed.received_ms) / 1000:.1f} s ago"

    @admin.display(description="last error")
    def last_error(self, exchange: Exchange) -> str:
        status = _status(exchange)
        if status is None:
            return UNKNOWN
        feed = status.feed
        if feed.error is None or feed.failed_ms is None:
            return "none"
        at = datetime.fromtimestamp(feed.failed_ms / 1000, tz=UTC)
        return f"{at:%Y-%m-%d %H:%M:%S} {feed.error}: {feed.detail or ''}"

    # --- resetting a breaker ---

    @admin.action(description="Reset breaker", permissions=["change"])
    def reset_breakers(self, request: HttpRequest, chosen: QuerySet[Exchange]) -> None:
        """Close the breakers of the chosen exchanges."""
        self._reset(request, list(chosen))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.reset_breaker_view)
        name = "market_exchange_reset_breaker"
        return [path("<path:object_id>/reset-breaker/", view, name=name), *super().get_urls()]

    def reset_breaker_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Close one exchange's breaker: the button of its page."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        exchange = super().get_object(request, unquote(object_id))
        if not self.has_change_permission(request, exchange):
            raise PermissionDenied
        if exchange is None:
            raise Http404(f"no exchange {object_id}")
        self._reset(request, [exchange])
        return redirect(reverse("admin:market_exchange_change", args=[exchange.pk]))

    def _reset(self, request: HttpRequest, exchanges: list[Exchange]) -> None:
        try:
            for exchange in exchanges:
                breaker.reset(exchange.name)
        except RedisError as error:
            text = f"Nothing was reset, Redis does not answer: {error}"
            self.message_user(request, text, messages.ERROR)
            return
        names = ", ".join(exchange.title for exchange in exchanges)
        self.message_user(request, f"Breaker reset: {names}.", messages.SUCCESS)
        for exchange in exchanges:
            self.log_change(request, exchange, "Breaker reset.")


def _read_statuses(exchanges: Iterable[Exchange]) -> None:
    """Give each exchange its `Status`, all read together; none when Redis is away."""
    rows = list(exchanges)
    names = [row.name for row in rows]
    now_ms = time.time_ns() // 1_000_000
    try:
        circuits = breaker.states(names, now_ms=now_ms)
        feeds = ticker_book.read_feeds(names)
    except RedisError:
        return
    for row in rows:
        vars(row)["status"] = Status(
            circuit=circuits[row.name], feed=feeds[row.name], now_ms=now_ms
        )


def _status(exchange: Exchange) -> Status | None:
    status: Status | None = vars(exchange).get("status")
    return status


@admin.register(FxRate)
class FxRateAdmin(RecordAdmin):
    """What currency authorities have published."""

    list_display = ("date", "base", "quote", "exact_rate", "nominal", "source", "fetched_at")
    list_filter = ("source", "quote", "base")
    date_hierarchy = "date"

    @admin.display(description="rate")
    def exact_rate(self, row: FxRate) -> str:
        return exact(row.rate)
