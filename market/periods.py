"""Rows by time, whose periods are told without reading them all."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db import models


class Periods(models.QuerySet[Any]):
    """The rows of a table by time, as the date hierarchy of the admin asks for them."""

    def datetimes(self, field_name: str, kind: str, *_: Any, **__: Any) -> Any:
        """The beginning of each period from the first row to the last; some may be empty.

        Django asks for those that are not, which is DISTINCT over every row.
        """
        found = self.aggregate(first=models.Min(field_name), last=models.Max(field_name))
        return list(_periods(found["first"], found["last"], kind)) if found["first"] else []


def _periods(first: datetime, last: datetime, kind: str) -> Iterator[datetime]:
    if kind == "day":
        for number in range(first.toordinal(), last.toordinal() + 1):
            day = datetime.fromordinal(number)
            yield day.replace(tzinfo=first.tzinfo)
        return
    step = 12 if kind == "year" else 1
    begin = first.year * 12 + (0 if kind == "year" else first.month - 1)
    for number in range(begin, last.year * 12 + last.month, step):
        yield datetime(number // 12, number % 12 + 1, 1, tzinfo=first.tzinfo)
