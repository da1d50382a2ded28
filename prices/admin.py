"""The price history for the operator: one symbol at a time, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest

from market.models import Symbol
from market.records import RecordAdmin
from oracle.jsontext import exact
from prices.models import PriceRow


class OneSymbol(admin.SimpleListFilter):
    """Always one symbol: the table's key begins with it, and all of them would be a full scan."""

    title = "symbol"
    parameter_name = "symbol"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in Symbol.objects.values_list("name", flat=True)]

    def value(self) -> str | None:
        chosen: str | None = super().value()
        return chosen or str(self.lookup_choices[0][0])

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        choices = super().choices(changelist)
        next(choices)  # "All"
        yield from choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[PriceRow]) -> QuerySet[PriceRow]:
        return queryset.filter(symbol=self.value())


@admin.register(PriceRow)
class PriceRowAdmin(RecordAdmin):
    """The trade rates of the past."""

    list_display = ("moment", "symbol", "exact_price", "method", "from_exchanges", "exact_volume")
    list_display_links = None  # a row has nothing that is not in the list
    list_filter = (OneSymbol, "method")
    date_hierarchy = "time"
    ordering = ("-time",)

    def get_object(self, request: HttpRequest, *_: Any) -> None:
        """No page of its own: the key is not one."""
        return

    @admin.display(description="time", ordering="time")
    def moment(self, row: PriceRow) -> str:
        return f"{row.time:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="price")
    def exact_price(self, row: PriceRow) -> str:
        return exact(row.price)

    @admin.display(description="volume")
    def exact_volume(self, row: PriceRow) -> str | None:
        return None if row.volume is None else exact(row.volume)

    @admin.display(description="exchanges")
    def from_exchanges(self, row: PriceRow) -> str:
        return ", ".join(row.sources)
