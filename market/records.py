"""What the admin needs for tables that are only looked at, and have too many rows to count."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.http import HttpRequest
from django.utils.functional import cached_property

# Nobody turns a hundred pages: who wants more narrows the list down.
MAX_ROWS = 10_000


class CappedPaginator(Paginator):  # type: ignore[type-arg]  # no parameter at run time
    """Counts no further than MAX_ROWS: a COUNT(*) would read all of a symbol's years."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[:MAX_ROWS].count())


class RecordAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # the same
    """Rows that nobody edits. A base class, because Django's admin is made of hooks."""

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each facet is a COUNT(*) of its own
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
