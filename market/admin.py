"""Symbols and listings for the operator; what is saved is priced from the next second on."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import models, transaction
from django.http import HttpRequest
from redis.exceptions import RedisError

from market import catalog
from market.models import Listing, Symbol
from market.symbols import is_canonical
from oracle.conversion import find_path

_SCHEDULED = "_catalog_scheduled"


def publish_on_commit(request: HttpRequest) -> None:
    """Put the catalogue into force once the request's changes are committed, once per request."""
    if getattr(request, _SCHEDULED, False):
        return
    setattr(request, _SCHEDULED, True)
    transaction.on_commit(lambda: _publish(request))


def _publish(request: HttpRequest) -> None:
    setattr(request, _SCHEDULED, False)
    try:
        catalog.publish()
    except RedisError:
        messages.warning(
            request, "Saved, but Redis is away: it takes effect within 10 s of its return."
        )


class PublishingAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # the same
    """Rows of the catalogue. A base class, because Django's admin is made of hooks."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        publish_on_commit(request)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        super().delete_model(request, obj)
        publish_on_commit(request)

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> None:
        super().delete_queryset(request, queryset)
        publish_on_commit(request)


class SymbolForm(forms.ModelForm):  # type: ignore[type-arg]  # no parameter at run time
    """A symbol by its name, from which base and quote follow."""

    class Meta:
        model = Symbol
        fields = ("name", "min_sources", "is_rate", "enabled")

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"].strip()
        if not is_canonical(name):
            raise forms.ValidationError(
                f"{name!r} is not BASE/QUOTE in upper case, such as BTC/USDT: letters and digits, "
                "up to 16 on each side of one slash."
            )
        base, quote = name.split("/")
        if base == quote:
            raise forms.ValidationError(f"{name!r} prices {base} in itself.")
        self.instance.base, self.instance.quote = base, quote
        return name

    def clean_min_sources(self) -> int:
        count: int = self.cleaned_data["min_sources"]
        if count < 1:
            raise forms.ValidationError(f"{count} is too few: a price needs at least 1 exchange.")
        return count


class ListingForm(forms.ModelForm):  # type: ignore[type-arg]
    """A listing in the exchange's spelling."""

    class Meta:
        model = Listing
        fields = ("exchange", "symbol", "exchange_symbol", "quote", "enabled", "added_by")

    def clean_exchange_symbol(self) -> str:
        text: str = self.cleaned_data["exchange_symbol"].strip()
        if not text or any(character.isspace() for character in text):
            raise forms.ValidationError(f"{text!r} must be one word, as the exchange spells it.")
        return text

    def clean_quote(self) -> str:
        quote: str = self.cleaned_data["quote"].strip()
        if not is_canonical(f"{quote}/{quote}"):
            raise forms.ValidationError(f"{quote!r} is no currency in upper case, such as KRW.")
        return quote


class ListingInline(admin.TabularInline):  # type: ignore[type-arg]
    """A symbol's listings, on its page."""

    model = Listing
    form = ListingForm
    fields = ("exchange", "exchange_symbol", "quote", "enabled")
    extra = 0


@admin.register(Symbol)
class SymbolAdmin(PublishingAdmin):
    """Which pairs are priced, and of how many exchanges at least."""

    form = SymbolForm
    inlines = (ListingInline,)
    list_display = ("name", "min_sources", "is_rate", "listing_count", "enabled")
    list_editable = ("min_sources", "enabled")
    list_filter = ("enabled", "is_rate", "quote")
    search_fields = ("name",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Candles are stored under the name: with another one they would be lost to it."""
        return ("name",) if obj else ()

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Symbol]:
        symbols: models.QuerySet[Symbol] = super().get_queryset(request)
        return symbols.annotate(listing_count=models.Count("listings"))

    @admin.display(description="listings", ordering="listing_count")
    def listing_count(self, symbol: Any) -> int:
        return int(symbol.listing_count)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        super().save_formset(request, form, formset, change)
        for listing in (*formset.new_objects, *(row for row, _ in formset.changed_objects)):
            _warn_of_conversion(request, listing)

    def get_changelist_form(self, request: HttpRequest, **kwargs: Any) -> Any:
        return super().get_changelist_form(request, **{"form": RowForm, **kwargs})


class RowForm(forms.ModelForm):  # type: ignore[type-arg]
    """A symbol in the list: the same rule for what is editable there."""

    clean_min_sources = SymbolForm.clean_min_sources


@admin.register(Listing)
class ListingAdmin(PublishingAdmin):
    """Where each symbol trades."""

    form = ListingForm
    list_display = ("symbol", "exchange", "exchange_symbol", "quote", "added_by", "enabled")
    list_editable = ("enabled",)
    list_filter = ("enabled", "exchange", "quote")
    search_fields = ("symbol__name", "exchange_symbol", "exchange__name")
    list_select_related = ("symbol", "exchange")
    autocomplete_fields = ("symbol",)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        _warn_of_conversion(request, obj)


def _warn_of_conversion(request: HttpRequest, listing: Listing) -> None:
    if (warning := conversion_warning(listing)) is not None:
        messages.warning(request, warning)


def conversion_warning(listing: Listing) -> str | None:
    """Why a listing's prices will not be in its symbol's price, or None: its quote converts."""
    symbol = listing.symbol
    rates = Symbol.objects.filter(enabled=True, is_rate=True).values_list("name", flat=True)
    # As the index does it: a rate is made of listings in its own quote only.
    if find_path(listing.quote, symbol.quote, [] if symbol.is_rate else list(rates)) is not None:
        return None
    return (
        f"{listing.exchange_symbol} is quoted in {listing.quote}, from where no enabled conversion "
        f"rate leads to {symbol.quote}: it stays out of {symbol.name} until one does."
    )
