"""The durable facts: exchanges, symbols, where they are listed, and their candles."""

from __future__ import annotations

from decimal import Decimal

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Concat

# Room for 0.00000123 and for a Korean market cap alike: digits are never rounded away.
DIGITS, DECIMALS = 38, 18


def price_field() -> models.DecimalField[Decimal, Decimal]:
    """A NUMERIC(38,18) column."""
    return models.DecimalField(max_digits=DIGITS, decimal_places=DECIMALS)


def optional_field() -> models.DecimalField[Decimal | None, Decimal | None]:
    """A NUMERIC(38,18) column, NULL where nobody knows."""
    return models.DecimalField(max_digits=DIGITS, decimal_places=DECIMALS, null=True)


class Exchange(models.Model):
    """A venue we take prices from. ``name`` is that of its adapter."""

    name = models.SlugField(max_length=32, unique=True)
    title = models.CharField(max_length=64)
    enabled = models.BooleanField(default=True, help_text="Fetched each second while enabled.")

    class Meta:
        db_table = "exchange"
        ordering = ("name",)

    def __str__(self) -> str:
        return self.title


class Symbol(models.Model):
    """A pair that we price, under its canonical name ``BASE/QUOTE``."""

    name = models.CharField(max_length=33, unique=True, help_text="BASE/QUOTE, such as BTC/USDT.")
    base = models.CharField(max_length=16)
    quote = models.CharField(max_length=16)
    min_sources = models.PositiveSmallIntegerField(
        default=2, help_text="Fewer distinct exchanges than this make the price degraded."
    )
    is_rate = models.BooleanField(
        "conversion rate",
        default=False,
        help_text="Other symbols may be converted with it. Priced before them, never converted.",
    )
    derived_from = models.ForeignKey(
        "self",
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="derived",
        help_text="Its trade rate is converted from that one's. It is listed nowhere.",
    )
    enabled = models.BooleanField(default=True)
    narrowed = models.BooleanField(
        default=False,
        editable=False,
        help_text="Disabled by SYMBOLS: enabled again when that no longer leaves it out.",
    )

    class Meta:
        db_table = "symbol"
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(
                condition=models.Q(name=Concat("base", models.Value("/"), "quote")),
                name="symbol_name_is_base_quote",
            ),
            models.CheckConstraint(
                condition=models.Q(name__regex=r"^[A-Z0-9]{1,16}/[A-Z0-9]{1,16}$"),
                name="symbol_name_canonical",
            ),
            models.CheckConstraint(
                condition=models.Q(min_sources__gte=1), name="symbol_min_sources_positive"
            ),
            models.CheckConstraint(
                condition=~models.Q(derived_from=models.F("id")), name="symbol_not_from_itself"
            ),
        )

    def __str__(self) -> str:
        return self.name


class Listing(models.Model):
    """A symbol on an exchange, in the exchange's own spelling.

    ``quote`` is the currency its prices come in there; where it is not the symbol's own, the price
    is converted by way of the rate symbols.
    """

    exchange = models.ForeignKey(Exchange, on_delete=models.CASCADE, related_name="listings")
    symbol = models.ForeignKey(Symbol, on_delete=models.CASCADE, related_name="listings")
    exchange_symbol = models.CharField(max_length=48, help_text="As the exchange spells it.")
    quote = models.CharField(
        max_length=16, help_text="What its price is quoted in there, such as KRW."
    )
    timeframes = ArrayField(models.CharField(max_length=4), default=list, blank=True)
    enabled = models.BooleanField(default=True)
    added_by = models.CharField(max_length=64, default="admin", blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "listing"
        ordering = ("symbol__name", "exchange__name", "exchange_symbol")
        constraints = (
            models.UniqueConstraint(
                fields=("exchange", "symbol", "exchange_symbol"), name="listing_unique"
            ),
        )

    def __str__(self) -> str:
        return f"{self.exchange_symbol} on {self.exchange_id}"


class Candle1m(models.Model):
    """One minute of one symbol's index. ``time`` is the minute's open time.

    ``symbol`` holds the name, without a foreign key: a check per row would cost more than the row,
    and candles outlive a symbol that is no longer priced.
    """

    pk = models.CompositePrimaryKey("symbol", "time")
    symbol = models.CharField(max_length=33, db_collation="C")
    time = models.DateTimeField()
    open = price_field()
    high = price_field()
    low = price_field()
    close = price_field()
    volume = optional_field()
    quote_volume = optional_field()
    vwap = optional_field()
    trade_count = models.BigIntegerField(null=True)
    source_count = models.PositiveSmallIntegerField()
    sources = ArrayField(models.CharField(max_length=32))
    revision = models.PositiveIntegerField(default=0)

    class Meta:
        db_table = "ohlcv_1m"
        constraints = (
            models.CheckConstraint(
                condition=models.Q(high__gte=models.F("open"))
                & models.Q(high__gte=models.F("close"))
                & models.Q(low__lte=models.F("open"))
                & models.Q(low__lte=models.F("close"))
                & models.Q(low__gt=0),
                name="ohlcv_1m_ordered",
            ),
            models.CheckConstraint(condition=models.Q(volume__gte=0), name="ohlcv_1m_volume"),
        )

    def __str__(self) -> str:
        return f"{self.symbol} {self.time:%Y-%m-%d %H:%M}"


class Fence(models.Model):
    """The newest fencing token that has written to a resource of this database.

    The database's own half of `oracle.locks`: a writer that was paused past its lock finds a newer
    token here and writes nothing.
    """

    resource = models.CharField(primary_key=True, max_length=64)
    token = models.CharField(max_length=16, db_collation="C")

    class Meta:
        db_table = "fence"

    def __str__(self) -> str:
        return f"{self.resource}: {self.token}"


class Origin(models.Model):
    """Which world this database's prices are from: one row, written at the first set-up.

    Live mode refuses a database of simulated prices, and the demo one of live prices.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    simulated = models.BooleanField()

    class Meta:
        db_table = "origin"
        constraints = (models.CheckConstraint(condition=models.Q(id=1), name="origin_has_one_row"),)

    def __str__(self) -> str:
        return "simulated" if self.simulated else "live"
