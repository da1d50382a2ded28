"""`manage.py export`: files that are whole or not there."""

import os
import signal
import sys
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from pyarrow import parquet

from market import export, rollups
from market.candles import to_datetime
from market.models import ExchangeCandle
from market.ranges import TimeRange
from tests.factories import FIRST_CANDLE, Candle1mFactory, SymbolFactory

pytestmark = pytest.mark.django_db

D = Decimal
FIRST_MS = int(FIRST_CANDLE.timestamp()) * 1_000
ROW = "2024-01-01T12:0{}:00Z,42150.5,42180.3,42145,42170.2,,,,,2,0"


@pytest.fixture(autouse=True)
def btc(settings):
    settings.RETENTION_DAYS = 0
    SymbolFactory(name="BTC/USDT")
    for number in range(4):
        Candle1mFactory(time=FIRST_CANDLE + timedelta(minutes=number))


def run(*options):
    call_command("export", "BTC/USDT", *options)


def lines(path):
    return path.read_text().splitlines()


def test_csv_file(tmp_path, capsys):
    run("--output", str(tmp_path / "btc.csv"))

    assert lines(tmp_path / "btc.csv")[1:] == [ROW.format(number) for number in range(4)]
    assert [each.name for each in tmp_path.iterdir()] == ["btc.csv"]
    said = capsys.readouterr()
    assert said.out == ""
    assert "4 candles" in said.err


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2024-01-01T12:01", "2024-01-01T12:03:00Z"),
        ("1704110460", "1704110580"),
        ("2024-01-01T15:01+03:00", "2024-01-01 12:03"),
    ],
)
def test_csv_of_a_range_to_the_standard_output(capfdbinary, start, end):
    run("--from", start, "--to", end)

    found = capfdbinary.readouterr().out.decode().splitlines()
    assert found[1:] == [ROW.format(1), ROW.format(2)]


def test_parquet_file(tmp_path):
    run("--format", "parquet", "--output", str(tmp_path / "btc.parquet"))

    found = parquet.read_table(tmp_path / "btc.parquet").to_pylist()
    assert [each["time"] for each in found] == [
        FIRST_CANDLE + timedelta(minutes=number) for number in range(4)
    ]
    assert found[0]["open"] == D("42150.5")


def test_candles_of_an_exchange(tmp_path):
    for number in range(3):
        ExchangeCandle.objects.create(
            exchange="binance", symbol="BTC/USDT", timeframe="1h",
            time=to_datetime(FIRST_MS + number * 3_600_000), open=D(2), high=D("3.50"), low=D(1),
            close=D(2), volume=D("0.00000123"),
        )  # fmt: skip

    run("--exchange", "binance", "--resolution", "60m", "--output", str(tmp_path / "b.csv"))

    assert lines(tmp_path / "b.csv") == [
        "time,open,high,low,close,volume",
        *(f"2024-01-01T{hour}:00:00Z,2,3.5,1,2,0.00000123" for hour in (12, 13, 14)),
    ]


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(CommandError, match=r"pip install -r requirements/parquet.txt"):
        run("--format", "parquet", "--output", str(tmp_path / "x"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--resolution", "2m"), "unknown timeframe '2m'"),
        (("--from", "yesterday"), "'yesterday' is no point in time: write an ISO date"),
        (("--from", "2024-02-30"), "is no point in time"),
        (("--from", "2024-01-02", "--to", "2024-01-01"), "must be before --to 2024-01-01"),
        (("--exchange", "nowhere"), "there are no 1m candles of BTC/USDT from 'nowhere'"),
        (("--output", "/"), "/ is a folder: name a file in it"),
        (("--output", "/nowhere/x.csv"), "/nowhere/x.csv: No such file or directory"),
    ],
)
def test_wrong_input_says_what_is_accepted(options, message):
    with pytest.raises(CommandError) as caught:
        run(*options)
    assert message in str(caught.value)


def test_a_reader_who_has_enough_is_no_error(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        run()
        assert os.readlink(f"/proc/self/fd/{pipe.fileno()}") == os.devnull


def test_a_symbol_without_candles_is_an_error():
    SymbolFactory(name="ETH/USDT")
    with pytest.raises(CommandError, match="there are no 1d candles of ETH/USDT from the index"):
        call_command("export", "ETH/USDT", "--resolution", "1d")


def test_candles_that_are_not_rolled_up_yet_are_written_too(tmp_path):
    with transaction.atomic():
        rollups.note_touched([("BTC/USDT", TimeRange(start_ms=FIRST_MS, end_ms=FIRST_MS + 1))])

    run("--resolution", "1d", "--output", str(tmp_path / "btc.csv"))

    assert lines(tmp_path / "btc.csv")[1:] == [
        "2024-01-01T00:00:00Z,42150.5,42180.3,42145,42170.2,,,,,2,0"
    ]


def test_an_unknown_symbol_is_an_error():
    with pytest.raises(CommandError, match="unknown symbol 'NOPE'"):
        call_command("export", "NOPE")


def test_ctrl_c_leaves_no_half_file_and_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "btc.csv"
    path.write_text("old")

    def interrupted(table):
        yield b"half of it"
        signal.raise_signal(signal.SIGTERM)  # as Ctrl-C, of a service manager
        yield b"never"

    monkeypatch.setattr(export, "csv_parts", interrupted)

    with pytest.raises(CommandError, match="stopped") as caught:
        run("--output", str(path))

    assert caught.value.returncode == 130
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("btc.csv", "old")]


def test_half_a_file_has_another_name(tmp_path, monkeypatch):
    seen: list[str] = []

    def spied(table):
        seen.extend(each.name for each in tmp_path.iterdir())
        yield b"x"

    monkeypatch.setattr(export, "csv_parts", spied)
    run("--output", str(tmp_path / "btc.csv"))

    assert [name.startswith(".btc.csv.") for name in seen] == [True]
