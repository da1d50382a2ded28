"""How this database stores history: its tables of rows by time, made by migrations."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.migrations.operations.base import Operation

from market import aggregates, timescale
from market.retention import TimeTable
from market.rollup_levels import LEVELS

# Sums may grow past what one minute's column holds, and one that does must not stop all others.
COLUMNS = """
    symbol varchar(33) COLLATE "C" NOT NULL,
    time timestamptz NOT NULL,
    open numeric(38, 18) NOT NULL,
    high numeric(38, 18) NOT NULL,
    low numeric(38, 18) NOT NULL,
    close numeric(38, 18) NOT NULL,
    volume numeric,
    quote_volume numeric,
    vwap numeric,
    trade_count bigint,
    source_count smallint NOT NULL CHECK (source_count >= 0),
    sources text[] NOT NULL,
    revision integer NOT NULL CHECK (revision >= 0),
    PRIMARY KEY (symbol, time),
    CHECK (high >= open AND high >= close AND low <= open AND low <= close AND low > 0),
    CHECK (volume >= 0)
"""
# Joined first and sorted once a candle: a state that is kept sorted would cost more for each row.
_CREATE_UNION = """
CREATE FUNCTION sorted_names(names text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS
$$ SELECT ARRAY(SELECT DISTINCT name COLLATE "C" FROM unnest(names) AS name ORDER BY 1) $$;
CREATE AGGREGATE union_of_names(text[]) (
    SFUNC = array_cat, STYPE = text[], INITCOND = '{}', FINALFUNC = sorted_names,
    COMBINEFUNC = array_cat, PARALLEL = SAFE
)
"""


def time_tables() -> tuple[TimeTable, ...]:
    """All of them, with what the settings say of them."""
    return (
        TimeTable(table="ohlcv_1m", keys=("symbol",), keep_days=settings.RETENTION_DAYS),
        TimeTable(
            table="ohlcv_exchange",
            keys=("exchange", "symbol", "timeframe"),
            keep_days=settings.EXCHANGE_RETENTION_DAYS,
        ),
        # Of the app `prices`, which is above this one: known here by its name alone.
        TimeTable(
            table="price_history",
            keys=("symbol",),
            keep_days=settings.PRICE_HISTORY_RETENTION_DAYS,
        ),
    )


@transaction.atomic
def convert() -> None:
    """Give this history the best that the server offers and TIMESCALEDB allows. Repeatable.

    Rollups in tables become continuous aggregates, made of the 1m candles that are kept.
    Raises TimescaleError.
    """
    found = timescale.prepare()
    if found is None:
        return
    there = connection.introspection.table_names()  # not all, while migrations run
    for rows in time_tables():
        if rows.table in there:
            timescale.make_hypertable(rows.table)
    if not found.aggregates or aggregates.in_use():
        return
    with connection.cursor() as cursor:
        for level in reversed(LEVELS):
            cursor.execute(f"DROP TABLE {level.table}")
        for level in LEVELS:
            cursor.execute(aggregates.create(level))


class MakeHistory(Operation):
    """Make a rollup of each resolution, and hypertables where TimescaleDB is to be used."""

    reversible = True

    def state_forwards(self, app_label: str, state: Any) -> None:
        """The models are unmanaged: their state is another operation's."""

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        schema_editor.execute(_CREATE_UNION)
        for level in LEVELS:
            schema_editor.execute(f"CREATE TABLE {level.table} ({COLUMNS})")
        if not schema_editor.collect_sql:
            convert()

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        kind = "MATERIALIZED VIEW" if aggregates.in_use() else "TABLE"
        for level in reversed(LEVELS):
            schema_editor.execute(f"DROP {kind} {level.table}")
        schema_editor.execute("DROP AGGREGATE union_of_names(text[])")
        schema_editor.execute("DROP FUNCTION sorted_names(text[])")

    def describe(self) -> str:
        return "Make the rollups, and hypertables where TimescaleDB is to be used"


class MakeHypertable(Operation):
    """Make a table of rows by time a hypertable, where TimescaleDB is to be used."""

    reversible = True

    def __init__(self, table: str) -> None:
        self.table = table

    def state_forwards(self, app_label: str, state: Any) -> None:
        """To Django it is the table that it was."""

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        if not schema_editor.collect_sql and timescale.prepare() is not None:
            timescale.make_hypertable(self.table)

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """A hypertable serves as the table that it was."""

    def describe(self) -> str:
        return f"Make {self.table} a hypertable where TimescaleDB is to be used"
