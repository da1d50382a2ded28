"""What is fetched and kept as it came."""

from __future__ import annotations

from django.db import models

from market.models import price_field


class FxRate(models.Model):
    """What one unit of ``base`` was worth in ``quote`` on a day, on an authority's word."""

    source = models.CharField(max_length=16)
    base = models.CharField(max_length=16)
    quote = models.CharField(max_length=16)
    date = models.DateField(help_text="The day the authority names.")
    rate = price_field()
    nominal = models.PositiveIntegerField(help_text="The units it quotes; the rate is of one.")
    fetched_at = models.DateTimeField()

    class Meta:
        db_table = "fx_rate"
        ordering = ("-date", "base")
        constraints = (
            models.UniqueConstraint(
                fields=("source", "base", "quote", "date"), name="fx_rate_unique"
            ),
            models.CheckConstraint(condition=models.Q(rate__gt=0), name="fx_rate_positive"),
        )

    def __str__(self) -> str:
        return f"{self.base}/{self.quote} {self.date}"
