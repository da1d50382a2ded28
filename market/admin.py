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
from oracle import fx_board
from oracle.conversion import find_path
from oracle.values import RESOLUTIONS

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
        fields = ("name", "min_sources", "is_rate", "derived_from", "enabled")

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

    def clean_derived_from(self) -> Symbol | None:
        origin: Symbol | None = self.cleaned_data["derived_from"]
        if origin is not None and self.instance.base:  # else the name is wrong already
            problem = derivation_problem(self.instance, origin, self.cleaned_data.get("is_rate"))
            if problem is not None:
                raise forms.ValidationError(problem)
        return origin


def derivation_problem(symbol: Symbol, origin: Symbol, is_rate: bool | None) -> str | None:
    """Why a symbol cannot be derived from ``origin``; None: it can."""
    if origin.pk == symbol.pk:
        return "A symbol cannot be derived from itself."
    if origin.base != symbol.base:
        return f"{origin} prices {origin.base}, not {symbol.base}: choose one that does."
    if origin.derived_from is not None:
        return f"{origin} is derived itself: choose {origin.derived_from}."
    if is_rate:
        return "A conversion rate is made of its own listings, and cannot be derived."
    if symbol.pk and symbol.listings.exists():
        return "It has listings, and a derived symbol is listed nowhere: delete them first."
    if symbol.pk and (others := ", ".join(map(str, symbol.derived.all()))):
        return f"{others} would be derived from a symbol that is derived itself."
    return None


class ListingForm(forms.ModelForm):  # type: ignore[type-arg]
    """A listing in the exchange's spelling."""

    class Meta:
        model = Listing
        fields = (
            *("exchange", "symbol", "exchange_symbol", "quote", "enabled"),
            *("timeframes", "synced", "added_by"),
        )

    timeframes = forms.MultipleChoiceField(
        choices=[(name, name) for name in RESOLUTIONS],
        widget=forms.CheckboxSelectMultiple,
        required=False,
        help_text=Listing._meta.get_field("timeframes").help_text,
    )

    def clean_exchange_symbol(self) -> str:
        text: str = self.cleaned_data["exchange_symbol"].strip()
        if not text or any(character.isspace() for character in text):
            raise forms.ValidationError(f"{text!r} must be one word, as the exchange spells it.")
        return text

    def clean_timeframes(self) -> list[str]:
        chosen: list[str] = self.cleaned_data["timeframes"]
        return [name for name in RESOLUTIONS if name in chosen]

    def clean_quote(self) -> str:
        quote: str = self.cleaned_data["quote"].strip()
        if not is_canonical(f"{quote}/{quote}"):
            raise forms.ValidationError(f"{quote!r} is no currency in upper case, such as KRW.")
        return quote

    def clean(self) -> dict[str, Any] | None:
        given = super().clean()
        symbol: Symbol | None = self.cleaned_data.get("symbol")
        if symbol is not None and symbol.derived_from is not None:
            raise forms.ValidationError(
                f"{symbol} is derived from {symbol.derived_from}, and so is listed nowhere."
            )
        return given


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
    list_display = ("name", "min_sources", "is_rate", "derived_from", "listing_count", "enabled")
    list_editable = ("min_sources", "enabled")
    list_filter = ("enabled", "is_rate", "quote")
    list_select_related = ("derived_from",)
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

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if (warning := derivation_warning(obj)) is not None:
            messages.warning(request, warning)

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
    list_display = (
        *("symbol", "exchange", "exchange_symbol", "quote", "added_by", "enabled"),
        *("kept", "synced"),
    )
    list_editable = ("enabled", "synced")
    list_filter = ("enabled", "synced", "exchange", "quote")
    search_fields = ("symbol__name", "exchange_symbol", "exchange__name")
    list_select_related = ("symbol", "exchange")
    autocomplete_fields = ("symbol",)

    @admin.display(description="timeframes")
    def kept(self, listing: Listing) -> str:
        return " ".join(listing.timeframes)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        _warn_of_conversion(request, obj)


def derivation_warning(symbol: Symbol) -> str | None:
    """Why a derived symbol has no price now, or None: a currency rate leads to its quote."""
    origin = symbol.derived_from
    if origin is None:
        return None
    try:
        rates = [quote.symbol for quote in fx_board.read()]
    except RedisError:
        return None
    rates += Symbol.objects.filter(enabled=True, is_rate=True).values_list("name", flat=True)
    if find_path(origin.quote, symbol.quote, rates) is not None:
        return None
    return (
        f"No currency rate leads from {origin.quote} to {symbol.quote} now: {symbol} has no price "
        "until one does."
    )


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
