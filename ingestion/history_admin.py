"""The history in the admin: order and follow backfills, look at what is stored.

Registered by `ingestion.admin`, the one module that Django looks for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ingestion import backfill, shown
from ingestion.backfill import BackfillError
from ingestion.models import Backfill, SymbolRequest
from market.candles import epoch_ms, to_datetime
from market.coverage import INDEX
from market.models import Coverage, DataRevision, ExchangeCandleRow, Symbol
from market.records import RecordAdmin
from oracle.candle_book import MINUTE_MS
from oracle.jsontext import exact

DAY_MS = 86_400_000
MAX_ERRORS = 50  # of a backfill, shown on its page


class BackfillForm(forms.ModelForm):  # type: ignore[type-arg]  # no parameter at run time
    """A backfill to order: what `backfill.note` refuses is an error of the form."""

    class Meta:
        model = Backfill
        fields = ("symbol", "start", "end", "overwrite")

    symbol = forms.ChoiceField(choices=lambda: [(name, name) for name in _priced()])

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name, text in (
            ("start", "UTC; the first minute."),
            ("end", "UTC; the first minute that is no longer part of it."),
        ):
            if name in self.fields:  # whoever only looks has none
                self.fields[name].help_text = text

    def clean(self) -> dict[str, Any] | None:
        given = super().clean()
        if not self.errors:
            try:
                # Asked by trying, so that no rule stands twice.
                with transaction.atomic():
                    backfill.note(**self.order("nobody"))
                    transaction.set_rollback(True)
            except BackfillError as error:
                raise forms.ValidationError(str(error)) from error
        return given

    def order(self, created_by: str) -> dict[str, Any]:
        """The order as `backfill.order` takes it."""
        given = self.cleaned_data
        return {
            "symbol": given["symbol"],
            "start_ms": epoch_ms(given["start"]),
            "end_ms": epoch_ms(given["end"]),
            "overwrite": given["overwrite"],
            "created_by": created_by,
            "now_ms": _now_ms(),
        }


@admin.register(Backfill)
class BackfillAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # the same
    """Adding one runs it. None is edited: what runs is canceled, and retried."""

    form = BackfillForm
    list_display = (
        *("id", "symbol", "status", "progress", "span", "problem"),
        *("candles_written", "overwrite", "created_by", "created_at"),
    )
    list_filter = ("status", "overwrite")
    search_fields = ("symbol",)
    actions = ("retry", "cancel")
    readonly_fields = ("progress", "error_list")

    def get_fieldsets(self, request: HttpRequest, obj: Backfill | None = None) -> Any:
        if obj is None:
            return [(None, {"fields": ("symbol", "start", "end", "overwrite")})]
        shown_fields = (
            *("symbol", "start", "end", "overwrite", "status", "progress", "minutes_done"),
            *("minutes_total", "candles_written", "attempt", "error_list"),
            *("created_by", "created_at", "started_at", "finished_at"),
        )
        return [(None, {"fields": shown_fields})]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """The last 24 hours, as far as they are over."""
        end_ms = _now_ms() // MINUTE_MS * MINUTE_MS - MINUTE_MS
        return {"start": to_datetime(end_ms - DAY_MS), "end": to_datetime(end_ms)}

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """With one button: an order cannot be edited on."""
        context = {"show_save_and_continue": False, "show_save_and_add_another": False}
        return super().add_view(request, form_url, {**(extra_context or {}), **context})

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Of none of them; of all, as far as actions go."""
        return obj is None and super().has_change_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Backfill, form: Any, change: bool) -> None:
        row = backfill.order(**form.order(request.user.get_username()[:64]))
        obj.pk = row.pk
        obj.refresh_from_db()

    def response_add(
        self, request: HttpRequest, obj: Backfill, post_url_continue: str | None = None
    ) -> HttpResponse:
        self.message_user(request, f"Backfill {obj.pk} of {obj} was ordered.", messages.SUCCESS)
        return redirect(reverse("admin:ingestion_backfill_changelist"))

    @admin.display(description="range (UTC)", ordering="start")
    def span(self, row: Backfill) -> str:
        return f"{row.start:%Y-%m-%d %H:%M} – {row.end:%Y-%m-%d %H:%M}"

    @admin.display(description="progress")
    def progress(self, row: Backfill) -> SafeString:
        return format_html(
            '<progress value="{}" max="{}"></progress> {}&nbsp;%',
            row.minutes_done,
            row.minutes_total,
            shown.percent(row),
        )

    @admin.display(description="errors")
    def problem(self, row: Backfill) -> str:
        if not row.errors:
            return ""
        first = _said(row.errors[0])
        more = f" (and {len(row.errors) - 1} more)" if len(row.errors) > 1 else ""
        return (first if len(first) <= 100 else f"{first[:99]}…") + more

    @admin.display(description="errors")
    def error_list(self, row: Backfill) -> SafeString | str:
        lines = [(_said(error),) for error in row.errors[:MAX_ERRORS]]
        if len(row.errors) > MAX_ERRORS:
            lines.append((f"and {len(row.errors) - MAX_ERRORS} more",))
        return format_html_join("", "{}<br>", lines) or "none"

    @admin.action(description="Retry", permissions=["change"])
    def retry(self, request: HttpRequest, chosen: QuerySet[Backfill]) -> None:
        """Run those again that failed or were canceled."""
        self._each(request, chosen, done="Retried", do=backfill.retry)

    @admin.action(description="Cancel", permissions=["change"])
    def cancel(self, request: HttpRequest, chosen: QuerySet[Backfill]) -> None:
        """End those that wait or run."""
        now_ms = _now_ms()
        self._each(
            request, chosen, done="Canceled", do=lambda pk: backfill.cancel(pk, now_ms=now_ms)
        )

    def _each(
        self,
        request: HttpRequest,
        chosen: QuerySet[Backfill],
        *,
        done: str,
        do: Callable[[int], bool],
    ) -> None:
        for row in chosen:
            if do(row.pk):
                self.log_change(request, row, f"{done}.")
                self.message_user(request, f"{done}: {row}.", messages.SUCCESS)
            else:
                row.refresh_from_db()
                text = f"Not {done.lower()}, for it is {row.status}: {row}."
                self.message_user(request, text, messages.WARNING)


def _priced() -> list[str]:
    symbols = Symbol.objects.filter(enabled=True, derived_from=None)
    return list(symbols.values_list("name", flat=True))


def _said(error: Any) -> str:
    """An error of a backfill as one line; its range first, where it has one."""
    if "note" in error:
        return f"{error['exchange']}: {error['minutes']} {error['note']}"
    if "start_ms" not in error:
        return str(error["error"])
    start, end = to_datetime(error["start_ms"]), to_datetime(error["end_ms"])
    return f"[{start:%Y-%m-%d %H:%M}, {end:%Y-%m-%d %H:%M}) {error['error']}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@admin.register(SymbolRequest)
class SymbolRequestAdmin(RecordAdmin):
    """Who asked for candles out of turn."""

    list_display = ("requested_at", "exchange", "symbol", "timeframe", "requested_by")
    list_filter = ("exchange", "timeframe")
    search_fields = ("symbol", "requested_by")


@admin.register(Coverage)
class CoverageAdmin(RecordAdmin):
    """What was asked for and answered in full."""

    list_display = ("exchange", "symbol", "timeframe", "start", "end")
    list_filter = ("exchange", "timeframe")
    search_fields = ("symbol",)
    ordering = ("exchange", "symbol", "timeframe", "start")


@admin.register(DataRevision)
class DataRevisionAdmin(RecordAdmin):
    """What candles were when something was computed from them."""

    list_display = (
        *("exchange", "symbol", "timeframe", "start", "end"),
        *("row_count", "shown_checksum", "computed_at"),
    )
    list_filter = ("exchange", "timeframe")
    search_fields = ("symbol", "checksum")
    ordering = ("-computed_at",)

    @admin.display(description="checksum")
    def shown_checksum(self, row: DataRevision) -> str:
        return str(row)


class OneSeries(admin.SimpleListFilter):
    """Always one series: the table's key begins with it, and all of them would be a full scan."""

    title = "series"
    parameter_name = "series"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        found = Coverage.objects.exclude(exchange=INDEX).order_by("exchange", "symbol", "timeframe")
        keys = found.values_list("exchange", "symbol", "timeframe").distinct()
        return [("|".join(key), " ".join(key)) for key in keys]

    def has_output(self) -> bool:
        return True

    def value(self) -> str | None:
        there = [str(key) for key, _ in self.lookup_choices]
        chosen: str | None = super().value()
        return chosen if chosen in there else next(iter(there), None)

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        choices = super().choices(changelist)
        next(choices)  # "All"
        yield from choices

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[ExchangeCandleRow]
    ) -> QuerySet[ExchangeCandleRow]:
        exchange, _, rest = (self.value() or "").partition("|")
        symbol, _, timeframe = rest.partition("|")
        return queryset.filter(exchange=exchange, symbol=symbol, timeframe=timeframe)


@admin.register(ExchangeCandleRow)
class ExchangeCandleAdmin(RecordAdmin):
    """The exchanges' own candles, one series at a time, newest first."""

    list_display = ("moment", "exchange", "symbol", "timeframe", *("o", "h", "l", "c", "v"))
    list_display_links = None  # a row has nothing that is not in the list
    list_filter = (OneSeries,)
    ordering = ("-time",)

    def get_object(self, request: HttpRequest, *_: Any) -> None:
        """No page of its own: the key is not one."""
        return

    @admin.display(description="time", ordering="time")
    def moment(self, row: ExchangeCandleRow) -> str:
        return f"{row.time:%Y-%m-%d %H:%M}"

    @admin.display(description="open")
    def o(self, row: ExchangeCandleRow) -> str:
        return exact(row.open)

    @admin.display(description="high")
    def h(self, row: ExchangeCandleRow) -> str:
        return exact(row.high)

    @admin.display(description="low")
    def l(self, row: ExchangeCandleRow) -> str:  # noqa: E743
        return exact(row.low)

    @admin.display(description="close")
    def c(self, row: ExchangeCandleRow) -> str:
        return exact(row.close)

    @admin.display(description="volume")
    def v(self, row: ExchangeCandleRow) -> str:
        return exact(row.volume)
