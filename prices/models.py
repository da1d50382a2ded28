"""The prices that were published, kept."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from market.models import optional_field, price_field
from market.periods import Periods

METHODS = ("vwap", "median", "mean")


class PriceHistory(models.Model):
    """The trade rate of one symbol at one tick. ``time`` is the end of the window it was made of.

    ``volume`` is the window's base volume of the kept sources; windows overlap, so these do not
    add up. The primary key serves reads from both ends.
    """

    pk = models.CompositePrimaryKey("symbol", "time")
    symbol = models.CharField(max_length=33, db_collation="C")
    time = models.DateTimeField()
    price = price_field()
    method = models.CharField(max_length=6, choices=[(name, name) for name in METHODS])
    sources = ArrayField(models.CharField(max_length=32))
    volume = optional_field()

    class Meta:
        db_table = "price_history"
        verbose_name_plural = "price history"
        constraints = (
            models.CheckConstraint(condition=models.Q(price__gt=0), name="price_history_positive"),
            models.CheckConstraint(
                condition=models.Q(method__in=METHODS), name="price_history_method"
            ),
            models.CheckConstraint(condition=models.Q(volume__gte=0), name="price_history_volume"),
        )

    def __str__(self) -> str:
        return f"{self.symbol} {self.time:%Y-%m-%d %H:%M:%S}"


class PriceRow(models.Model):
    """A row of `PriceHistory` for Django's admin, which takes no model with a composite key.

    The time stands for the key: good enough for a list of one symbol, and for nothing else.
    """

    time = models.DateTimeField(primary_key=True)
    symbol = models.CharField(max_length=33, db_collation="C")
    price = price_field()
    method = models.CharField(max_length=6, choices=[(name, name) for name in METHODS])
    sources = ArrayField(models.CharField(max_length=32))
    volume = optional_field()

    objects = Periods.as_manager()

    class Meta:
        managed = False
        db_table = "price_history"
        verbose_name = "stored price"
        verbose_name_plural = "price history"

    def __str__(self) -> str:
        return f"{self.symbol} {self.time:%Y-%m-%d %H:%M:%S}"
