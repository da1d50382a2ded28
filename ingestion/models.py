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


class Backfill(models.Model):
    """An order to fill a range of a symbol's 1m candles from its exchanges, and how it goes.

    ``[start, end)``. What is done is known from `market.models.Coverage`, not from here: a run
    that died goes on where it stopped. ``errors`` names each range that an exchange did not give.
    """

    PENDING, RUNNING = "pending", "running"
    SUCCEEDED, FAILED, CANCELED = "succeeded", "failed", "canceled"
    STATUSES = (PENDING, RUNNING, SUCCEEDED, FAILED, CANCELED)
    LIVE = (PENDING, RUNNING)

    symbol = models.CharField(max_length=33, db_collation="C")
    start = models.DateTimeField()
    end = models.DateTimeField()
    overwrite = models.BooleanField(
        default=False, help_text="Replace what our own index made of these minutes."
    )
    status = models.CharField(
        max_length=9, choices=[(name, name) for name in STATUSES], default=PENDING, editable=False
    )
    created_by = models.CharField(max_length=64, default="admin", editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, editable=False)
    finished_at = models.DateTimeField(null=True, editable=False)
    locked_by = models.CharField(max_length=64, default="", editable=False)
    locked_at = models.DateTimeField(null=True, editable=False, help_text="Renewed while it runs.")
    attempt = models.PositiveIntegerField(default=0, editable=False)
    minutes_total = models.PositiveIntegerField(default=0, editable=False)
    minutes_done = models.PositiveIntegerField(default=0, editable=False)
    candles_written = models.PositiveIntegerField(default=0, editable=False)
    errors = models.JSONField(default=list, editable=False)

    class Meta:
        db_table = "backfill"
        ordering = ("-id",)
        constraints = (
            models.CheckConstraint(
                condition=models.Q(end__gt=models.F("start")), name="backfill_ordered"
            ),
            models.CheckConstraint(
                condition=models.Q(
                    status__in=("pending", "running", "succeeded", "failed", "canceled")
                ),
                name="backfill_status",
            ),
        )
        indexes = (
            models.Index(
                fields=("symbol",),
                condition=models.Q(status__in=("pending", "running")),
                name="backfill_live",
            ),
        )

    def __str__(self) -> str:
        return f"{self.symbol} {self.start:%Y-%m-%d %H:%M} – {self.end:%Y-%m-%d %H:%M}"


class SymbolRequest(models.Model):
    """Somebody asked for candles of a symbol: those asked for often may become core symbols."""

    exchange = models.CharField(max_length=32, db_collation="C")
    symbol = models.CharField(max_length=33, db_collation="C")
    timeframe = models.CharField(max_length=4, db_collation="C")
    requested_by = models.CharField(max_length=64)
    requested_at = models.DateTimeField()

    class Meta:
        db_table = "symbol_request"
        ordering = ("-id",)
        indexes = (
            models.Index(
                fields=("exchange", "symbol", "requested_at"), name="symbol_request_recent"
            ),
        )

    def __str__(self) -> str:
        return f"{self.exchange} {self.symbol} {self.timeframe}"
