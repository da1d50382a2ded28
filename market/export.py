"""Candles as files: CSV, or Parquet where pyarrow is installed. Closed ones only.

Page by page, so that neither memory nor a statement grows with the range.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, BinaryIO

from django.db import connection

from market import rollup_stores, row_forms, series
from market.candles import to_datetime
from market.models import DECIMALS, DIGITS
from oracle.values import RESOLUTIONS

NO_PYARROW = (
    "Parquet needs pyarrow: pip install -r requirements/parquet.txt. CSV (--format csv) needs "
    "nothing"
)
EXCHANGE_COLUMNS = ("time", "open", "high", "low", "close", "volume")
_EXCHANGE_PAGE = (
    "SELECT extract(epoch FROM time)::bigint, trim_scale(open)::text, trim_scale(high)::text, "
    "trim_scale(low)::text, trim_scale(close)::text, trim_scale(volume)::text FROM ohlcv_exchange "
    "WHERE exchange = %s AND symbol = %s AND timeframe = %s AND time >= %s AND time < %s "
    "ORDER BY time LIMIT %s"
)
_COUNTS = {"trade_count": "int64", "source_count": "int32", "revision": "int64"}

Rows = Sequence[Sequence[Any]]


class ExportError(Exception):
    """A file that cannot be written; the text says why."""

    retryable = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What is to be written: ``columns``, the first of them ``time`` in unix seconds, and rows."""

    columns: Sequence[str]
    pages: Iterable[Rows]


def index_table(symbol: str, *, resolution: str, from_ms: int, to_ms: int, now_ms: int) -> Table:
    """The candles of our own index that open in ``[from_ms, to_ms)``."""
    end_ms = _closed_before(resolution, to_ms, now_ms)
    pages = series.row_pages(
        symbol, resolution=resolution, from_ms=from_ms, to_ms=end_ms, now_ms=now_ms
    )
    return Table(columns=row_forms.COLUMNS, pages=pages)


def exchange_table(
    exchange: str, symbol: str, *, resolution: str, from_ms: int, to_ms: int, now_ms: int
) -> Table:
    """The candles of an exchange, as it gave them, that open in ``[from_ms, to_ms)``."""
    end_ms = _closed_before(resolution, to_ms, now_ms)
    pages = _exchange_pages((exchange, symbol, resolution), from_ms=from_ms, to_ms=end_ms)
    return Table(columns=EXCHANGE_COLUMNS, pages=pages)


def first_ms(exchange: str | None, symbol: str, *, resolution: str) -> int | None:
    """When the oldest candle opens; of our index without an ``exchange``. None: there is none."""
    if exchange is not None:
        where = "exchange = %s AND symbol = %s AND timeframe = %s"
        return _oldest("ohlcv_exchange", where, [exchange, symbol, resolution])
    # The first minutes may not be rolled up yet, and may be gone where they are.
    step_ms = RESOLUTIONS[resolution]
    stores = rollup_stores.read()
    found = [
        _oldest(
            stores[table].relation,
            "symbol = %s AND time < %s",
            [symbol, to_datetime(stores[table].until_ms)],
        )
        for table in {series.TABLES["1m"], series.TABLES[resolution]}
    ]
    return min((ms // step_ms * step_ms for ms in found if ms is not None), default=None)


def _oldest(table: str, where: str, values: list[Any]) -> int | None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT extract(epoch FROM time)::bigint FROM {table} WHERE {where} "
            "ORDER BY time LIMIT 1",
            values,
        )
        row = cursor.fetchone()
    return row[0] * 1_000 if row else None


def csv_parts(table: Table) -> Iterator[bytes]:
    """CSV with a header, page by page: times in ISO format, exact decimals, nothing for unknown."""
    yield (",".join(table.columns) + "\n").encode()
    for page in table.pages:
        if page:
            yield "".join(map(_line, page)).encode()


def write_parquet(table: Table, file: BinaryIO) -> None:
    """Parquet: times in UTC, decimals of (38, 18). Raises ExportError."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ExportError(NO_PYARROW) from None
    schema = pyarrow.schema([(name, _type(pyarrow, name)) for name in table.columns])
    with parquet.ParquetWriter(file, schema) as writer:
        for page in table.pages:
            if not page:
                continue
            columns = dict(zip(table.columns, map(list, zip(*page, strict=True)), strict=True))
            try:
                arrays = [
                    pyarrow.array(_values(name, column), type=schema.field(name).type)
                    for name, column in columns.items()
                ]
            except pyarrow.ArrowInvalid as error:
                raise ExportError(
                    f"a number does not fit decimal({DIGITS}, {DECIMALS}), and CSV takes any: "
                    f"{error}"
                ) from None
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))


def _type(pyarrow: Any, name: str) -> Any:
    if name == "time":
        return pyarrow.timestamp("ms", tz="UTC")
    count = _COUNTS.get(name)
    return getattr(pyarrow, count)() if count else pyarrow.decimal128(DIGITS, DECIMALS)


def _values(name: str, column: Sequence[Any]) -> Sequence[Any]:
    if name == "time":
        return [time * 1_000 for time in column]
    if name in _COUNTS:
        return column
    return [None if text is None else Decimal(text) for text in column]


def _line(row: Sequence[Any]) -> str:
    time, *values = row
    texts = ["" if value is None else str(value) for value in values]
    return f"{to_datetime(time * 1_000):%Y-%m-%dT%H:%M:%SZ},{','.join(texts)}\n"


def _exchange_pages(keys: tuple[str, str, str], *, from_ms: int, to_ms: int) -> Iterator[Rows]:
    while from_ms < to_ms:
        with connection.cursor() as cursor:
            times = to_datetime(from_ms), to_datetime(to_ms)
            cursor.execute(_EXCHANGE_PAGE, [*keys, *times, series.PAGE_ROWS])
            rows = cursor.fetchall()
        yield rows
        if len(rows) < series.PAGE_ROWS:
            return
        from_ms = rows[-1][0] * 1_000 + 1


def _closed_before(resolution: str, to_ms: int, now_ms: int) -> int:
    """The end of a range, or that of the newest candle which is over."""
    return min(to_ms, now_ms - RESOLUTIONS[resolution] + 1)
