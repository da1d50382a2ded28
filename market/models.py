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
    timeframes = ArrayField(
        models.CharField(max_length=4),
        default=list,
        blank=True,
        help_text="Whose exchange candles are kept: then it is a core symbol.",
    )
    synced = models.BooleanField(
        "keep candles up to date",
        default=True,
        db_default=True,
        help_text="Of its timeframes; whether it is priced is another matter.",
    )
    enabled = models.BooleanField(default=True, help_text="A source of the symbol's price.")
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


class CandleRow(models.Model):
    """The columns of a candle of a symbol's index, at every resolution. ``time`` is its open time.

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
        abstract = True

    def __str__(self) -> str:
        return f"{self.symbol} {self.time:%Y-%m-%d %H:%M}"


class Candle1m(CandleRow):
    """One minute. ``backfilled``: made of the exchanges' own candles, not by our index."""

    backfilled = models.BooleanField(default=False, db_default=False)

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


# The rollups: tables or continuous aggregates, made by `market.storage`, read alike.
class Candle5m(CandleRow):
    class Meta:
        db_table = "ohlcv_5m"
        managed = False


class Candle15m(CandleRow):
    class Meta:
        db_table = "ohlcv_15m"
        managed = False


class Candle1h(CandleRow):
    class Meta:
        db_table = "ohlcv_1h"
        managed = False


class Candle4h(CandleRow):
    class Meta:
        db_table = "ohlcv_4h"
        managed = False


class Candle1d(CandleRow):
    class Meta:
        db_table = "ohlcv_1d"
        managed = False


class RollupDue(models.Model):
    """Minutes that changed since they were rolled up, in ``[start, end)``; no symbol: of all.

    Written in the transaction of the change, so that no crash forgets a rollup.
    """

    symbol = models.CharField(max_length=33, db_collation="C", null=True)
    start = models.DateTimeField()
    end = models.DateTimeField()

    class Meta:
        db_table = "rollup_due"
        constraints = (
            models.CheckConstraint(
                condition=models.Q(end__gt=models.F("start")), name="rollup_due_ordered"
            ),
        )
        # The newest are done first, and a reader of the last days asks for those that end there.
        indexes = (models.Index(fields=("-end", "id"), name="rollup_due_newest"),)

    def __str__(self) -> str:
        return f"{self.symbol or 'all'} {self.start:%Y-%m-%d %H:%M}"


class ExchangeCandle(models.Model):
    """An exchange's own candle of a symbol, as it gave it. ``volume`` is in base currency."""

    pk = models.CompositePrimaryKey("exchange", "symbol", "timeframe", "time")
    exchange = models.CharField(max_length=32, db_collation="C")
    symbol = models.CharField(max_length=33, db_collation="C")
    timeframe = models.CharField(max_length=4, db_collation="C")
    time = models.DateTimeField()
    open = price_field()
    high = price_field()
    low = price_field()
    close = price_field()
    volume = price_field()

    class Meta:
        db_table = "ohlcv_exchange"
        constraints = (
            models.CheckConstraint(
                condition=models.Q(high__gte=models.F("open"))
                & models.Q(high__gte=models.F("close"))
                & models.Q(high__gte=models.F("low")),
                name="ohlcv_exchange_high",
            ),
            models.CheckConstraint(
                condition=models.Q(low__lte=models.F("open"))
                & models.Q(low__lte=models.F("close"))
                & models.Q(low__gt=0),
                name="ohlcv_exchange_low",
            ),
            models.CheckConstraint(condition=models.Q(volume__gte=0), name="ohlcv_exchange_volume"),
        )

    def __str__(self) -> str:
        return f"{self.exchange} {self.symbol} {self.timeframe} {self.time:%Y-%m-%d %H:%M}"


class ExchangeCandleRow(models.Model):
    """A row of `ExchangeCandle` for Django's admin, which takes no model with a composite key.

    The time stands for the key: good enough for a list of one series, and for nothing else.
    """

    time = models.DateTimeField(primary_key=True)
    exchange = models.CharField(max_length=32, db_collation="C")
    symbol = models.CharField(max_length=33, db_collation="C")
    timeframe = models.CharField(max_length=4, db_collation="C")
    open = price_field()
    high = price_field()
    low = price_field()
    close = price_field()
    volume = price_field()

    class Meta:
        managed = False
        db_table = "ohlcv_exchange"
        verbose_name = "exchange candle"

    def __str__(self) -> str:
        return f"{self.exchange} {self.symbol} {self.timeframe} {self.time:%Y-%m-%d %H:%M}"


class Coverage(models.Model):
    """``[start, end)`` was asked for and answered in full: a candle not stored does not exist.

    ``exchange`` is ``index`` for our own candles. Ranges of one series neither overlap nor touch.
    """

    exchange = models.CharField(max_length=32, db_collation="C")
    symbol = models.CharField(max_length=33, db_collation="C")
    timeframe = models.CharField(max_length=4, db_collation="C")
    start = models.DateTimeField()
    end = models.DateTimeField()

    class Meta:
        db_table = "coverage"
        verbose_name_plural = "coverage"
        constraints = (
            models.UniqueConstraint(
                fields=("exchange", "symbol", "timeframe", "start"), name="coverage_unique"
            ),
            models.CheckConstraint(
                condition=models.Q(end__gt=models.F("start")), name="coverage_ordered"
            ),
        )

    def __str__(self) -> str:
        return f"{self.exchange} {self.symbol} {self.timeframe} {self.start:%Y-%m-%d %H:%M}"


class DataRevision(models.Model):
    """What the candles of ``[start, end)`` were: their number, and a checksum over each digit."""

    exchange = models.CharField(max_length=32, db_collation="C")
    symbol = models.CharField(max_length=33, db_collation="C")
    timeframe = models.CharField(max_length=4, db_collation="C")
    start = models.DateTimeField()
    end = models.DateTimeField()
    row_count = models.BigIntegerField()
    checksum = models.CharField(max_length=64, db_collation="C", help_text="SHA-256, hexadecimal.")
    computed_at = models.DateTimeField()

    class Meta:
        db_table = "data_revision"
        constraints = (
            models.UniqueConstraint(
                fields=("exchange", "symbol", "timeframe", "start", "end"),
                name="data_revision_unique",
            ),
        )

    def __str__(self) -> str:
        return self.checksum[:16]


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
