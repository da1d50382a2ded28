"""Candles as files: over HTTP, and by `manage.py export` (tests/ingestion/test_export.py)."""

from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO

import pyarrow
import pytest
from django.db import connection
from pyarrow import parquet

from market import catalog, download, export, rollup_stores, row_forms, series
from market.candles import to_datetime
from market.rollup_stores import Store
from oracle.jsontext import decode
from tests.factories import Candle1mFactory, SymbolFactory
from tests.market.test_api import FIRST, btc, database_away, now_ms  # noqa: F401  # fixtures
from tests.market.test_series import note
from tests.oracle.test_price_board import price, publish

pytestmark = pytest.mark.django_db

D = Decimal
HEADER = "time,open,high,low,close,volume,quote_volume,vwap,trade_count,source_count,revision\n"


@pytest.fixture(autouse=True)
def _nothing_is_too_old(settings):
    settings.RETENTION_DAYS = 0


def minutes(count):
    for number in range(count):
        Candle1mFactory(time=to_datetime((FIRST + 60 * number) * 1_000), low=D("0.00000123"))
        note("BTC/USDT", (FIRST + 60 * number) * 1_000)


def text(answer):
    assert answer.streaming
    return b"".join(answer.streaming_content).decode()


def csv(client, **query):
    answer = client.get("/api/v1/market/ohlcv.csv", {"symbol": "BTC/USDT", **query})
    assert answer.status_code == 200, answer.content
    return answer


def test_first_candle_is_that_of_what_is_stored_or_of_the_minutes(monkeypatch):
    minutes(1)
    first_ms = FIRST * 1_000
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE stored AS SELECT * FROM ohlcv_1h WITH NO DATA")
        cursor.execute(
            "INSERT INTO stored (symbol, time) VALUES ('BTC/USDT', %s)",
            [to_datetime(first_ms - 3_600_000)],
        )

    def stored_until(until_ms):
        store = Store(relation="stored", until_ms=until_ms)
        stores = {**rollup_stores.TABLES, "ohlcv_1h": store}
        monkeypatch.setattr(rollup_stores, "read", lambda: stores)
        return export.first_ms(None, "BTC/USDT", resolution="1h")

    assert stored_until(first_ms) == first_ms - 3_600_000
    assert stored_until(first_ms - 3_600_000) == first_ms


def test_csv_is_exact(client, btc):  # noqa: F811
    Candle1mFactory(
        time=to_datetime(FIRST * 1_000), low=D("0.00000123"), volume=D("125.430"),
        quote_volume=D(5_289_234), vwap=D("42160.1"), trade_count=812,
    )  # fmt: skip
    Candle1mFactory(time=to_datetime((FIRST + 60) * 1_000))

    answer = csv(client)

    assert text(answer) == (
        HEADER + "2024-01-01T12:00:00Z,42150.5,42180.3,0.00000123,42170.2,125.43,5289234,42160.1,"
        "812,2,0\n2024-01-01T12:01:00Z,42150.5,42180.3,42145,42170.2,,,,,2,0\n"
    )
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == 'attachment; filename="btc-usdt-1m.csv"'


def test_csv_is_a_range_of_any_length_page_by_page(client, btc, monkeypatch):  # noqa: F811
    monkeypatch.setattr(series, "PAGE_ROWS", 3)
    minutes(11)

    answer = csv(client, **{"from": FIRST + 60, "to": FIRST + 540})
    header, *parts = list(answer.streaming_content)

    assert header.decode() == HEADER
    assert [part.count(b"\n") for part in parts] == [3, 3, 3]
    assert parts[0].startswith(b"2024-01-01T12:01:00Z")
    assert parts[-1].splitlines()[-1].startswith(b"2024-01-01T12:09:00Z")


def test_csv_has_closed_candles_only(client, btc):  # noqa: F811
    minutes(6)
    at = now_ms()
    publish(price("42000.125", now_ms=at), now_ms=at)

    assert text(csv(client)).count("\n") == 7
    assert text(csv(client, resolution="5m")).splitlines()[1:] == [
        "2024-01-01T12:00:00Z,42150.5,42180.3,0.00000123,42170.2,,,,,2,0",
        "2024-01-01T12:05:00Z,42150.5,42180.3,0.00000123,42170.2,,,,,2,0",
    ]


def test_csv_of_nothing_is_its_header(client, btc):  # noqa: F811
    assert text(csv(client, resolution="1d")) == HEADER


def test_csv_may_be_asked_for_as_such(client, btc):  # noqa: F811
    accept = {"Accept": "text/csv"}
    answer = client.get("/api/v1/market/ohlcv.csv?symbol=BTC/USDT", headers=accept)
    assert text(answer) == HEADER
    wrong = client.get("/api/v1/market/ohlcv.csv?symbol=", headers=accept)
    assert decode(wrong.content)["error"]["details"]["field"] == "symbol"


def test_csv_head_reads_nothing(client, btc):  # noqa: F811
    answer = client.head("/api/v1/market/ohlcv.csv?symbol=BTC/USDT")
    assert (answer.status_code, answer.streaming) == (200, False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("resolution", "2m"),
        ("from", "-1"),
        ("from", "1e9"),
        ("from", "9999999999"),
        ("to", "99999999999"),
        ("symbol", ""),
    ],
)
def test_csv_bad_input_is_an_error(client, btc, field, value):  # noqa: F811
    answer = client.get("/api/v1/market/ohlcv.csv", {"symbol": "BTC/USDT", field: value})

    assert answer.status_code == 400
    assert decode(answer.content)["error"]["details"]["field"] == field


def test_csv_of_a_derived_symbol_is_404(client, btc):  # noqa: F811
    SymbolFactory(name="BTC/RUB", derived_from=SymbolFactory(name="BTC/USDT"))
    catalog.publish()

    answer = client.get("/api/v1/market/ohlcv.csv?symbol=BTC/RUB")

    assert (answer.status_code, decode(answer.content)["error"]["code"]) == (404, "NO_CANDLES")


@pytest.mark.django_db(transaction=True)  # closing an answer closes the connection
def test_csv_so_many_at_once_and_each_gives_its_seat_back(client, btc):  # noqa: F811
    minutes(1)
    open_ones = [csv(client) for _ in range(download.AT_ONCE)]
    refused = client.get("/api/v1/market/ohlcv.csv?symbol=BTC/USDT")
    for each in open_ones:
        each.close()

    assert decode(refused.content)["error"]["code"] == "TOO_MANY_DOWNLOADS"
    assert refused.status_code == 503
    for _ in range(download.AT_ONCE + 1):
        csv(client).close()


@pytest.mark.django_db(transaction=True)
def test_csv_database_away_is_503(client, database_away):  # noqa: F811
    for _ in range(download.AT_ONCE + 1):
        answer = client.get("/api/v1/market/ohlcv.csv?symbol=BTC/USDT")
        assert answer.status_code == 503
        assert decode(answer.content)["error"]["code"] == "DATABASE_UNAVAILABLE"


def test_csv_takes_ten_minutes_at_most(client, btc, monkeypatch):  # noqa: F811
    monkeypatch.setattr(download, "MAX_SECONDS", -1)
    answer = csv(client)

    with pytest.raises(TimeoutError, match="may take"):
        list(answer.streaming_content)


# --- Parquet ---


def test_parquet_is_exact():
    minutes(2)
    table = export.index_table(
        "BTC/USDT", resolution="1m", from_ms=0, to_ms=now_ms(), now_ms=now_ms()
    )
    file = BytesIO()
    export.write_parquet(table, file)

    found = parquet.read_table(file)

    decimal = pyarrow.decimal128(38, 18)
    assert dict(zip(found.schema.names, found.schema.types, strict=True)) == {
        "time": pyarrow.timestamp("ms", tz="UTC"),
        **dict.fromkeys(row_forms.COLUMNS[1:8], decimal),
        "trade_count": pyarrow.int64(),
        "source_count": pyarrow.int32(),
        "revision": pyarrow.int64(),
    }
    first = found.to_pylist()[0]
    assert (first["time"], first["low"], first["volume"], first["source_count"]) == (
        datetime(2024, 1, 1, 12, tzinfo=UTC),
        D("0.00000123"),
        None,
        2,
    )


def test_parquet_refuses_what_does_not_fit():
    table = export.Table(columns=("time", "open"), pages=[[(FIRST, "1" + "0" * 25)]])

    with pytest.raises(export.ExportError, match="does not fit decimal\\(38, 18\\)"):
        export.write_parquet(table, BytesIO())
