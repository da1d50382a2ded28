"""``manage.py parse``: one JSON object a line, without a database."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from ingestion.management.commands.parse import Command
from market.seeds import is_listed
from tests.ingestion.fixtures import RECEIVED_MS, ROOT, Payload, payload, payloads

Line = dict[str, Any]


def parse(*arguments: str, file: Path, code: int = 0) -> list[Line]:
    """Run the command on a file and return its lines; ``code`` is the exit code it must give."""
    out = io.StringIO()
    given = [*arguments, "--file", str(file), "--received-ms", str(RECEIVED_MS)]
    try:
        call_command(Command(), *given, stdout=out)
    except SystemExit as stop:
        assert stop.code == code
    else:
        assert code == 0
    return [json.loads(line) for line in out.getvalue().splitlines()]


def written(folder: Path, body: str | bytes) -> Path:
    """Write a payload of this test's own."""
    path = folder / "payload.json"
    path.write_bytes(body if isinstance(body, bytes) else body.encode())
    return path


@pytest.mark.parametrize("recorded", payloads("tickers"))
def test_tickers_recorded_print_expected(recorded: Payload) -> None:
    rows = recorded.expected["rows"]
    named = recorded.path.name not in ("tickers_1.json", "tickers_2.json", "tickers_3.json")
    asked = [] if recorded.exchange != "coinbase" or named else ["--symbols", rows[0]["symbol"]]

    lines = parse(recorded.exchange, "tickers", *asked, file=recorded.path)

    keys = ("exchange_symbol", "price", "volume", "quote_volume")
    assert [tuple(line[key] for key in keys) for line in lines if "error" not in line] == [
        (row["symbol"], row["price"], row["base_volume"], row["quote_volume"])
        for row in rows
        if row["price"] is not None
    ]
    assert [line["exchange_symbol"] for line in lines if "error" in line] == [
        row["symbol"] for row in rows if row["price"] is None
    ]


@pytest.mark.parametrize("recorded", payloads("candles"))
def test_candles_recorded_print_expected(recorded: Payload) -> None:
    lines = parse(recorded.exchange, "candles", file=recorded.path)

    keys = ("time_ms", "open", "high", "low", "close", "volume")
    assert [[line[key] for key in keys] for line in lines] == recorded.expected["rows"]


@pytest.mark.parametrize("recorded", payloads("ws_trades"))
def test_trades_recorded_print_expected(recorded: Payload) -> None:
    lines = parse(recorded.exchange, "trades", file=recorded.path)

    keys = ("exchange_symbol", "price", "size", "side", "trade_id", "event_ms")
    wanted = ("symbol", "price", "size", "taker_side", "id", "timestamp_ms")
    assert [(line["line"], *(line[key] for key in keys)) for line in lines] == [
        (message["line"], *(trade[key] for key in wanted))
        for message in recorded.expected["lines"]
        for trade in message["trades"]
    ]


@pytest.mark.parametrize("recorded", payloads("error"))
@pytest.mark.parametrize("kind", ["tickers", "candles"])
def test_error_recorded_prints_its_code_and_exits_1(recorded: Payload, kind: str) -> None:
    status = str(recorded.expected["http_status"])

    [line] = parse(recorded.exchange, kind, "--status", status, file=recorded.path, code=1)

    assert line["error"] == recorded.expected["meaning"].upper()


def test_ticker_line_is_exact() -> None:
    [line, _] = parse("upbit", "tickers", file=payload("upbit", "tickers_1.json").path)

    assert line == {
        "exchange_symbol": "KRW-BTC",
        "symbol": "BTC/KRW",
        "price": "162876000.00000000",
        "volume": "1029.27369910",
        "quote_volume": "167740032580.71786000",
        "event_ms": 1753894995076,
    }


def test_candle_line_is_exact() -> None:
    lines = parse("kraken", "candles", file=payload("kraken", "candles_2.json").path)

    assert lines[0] == {
        "exchange_symbol": "XBTUSDT",
        "time_ms": 1716526800000,
        "open": "67692.8",
        "high": "67692.8",
        "low": "67132.0",
        "close": "67307.3",
        "volume": "20.92610534",
    }


def test_candle_line_leaves_out_a_name_the_payload_lacks() -> None:
    lines = parse("okx", "candles", file=payload("okx", "candles_1.json").path)

    assert "exchange_symbol" not in lines[0]


def test_trade_line_is_exact() -> None:
    lines = parse("coinbase", "trades", file=payload("coinbase", "ws_trades_1.jsonl").path)

    assert lines[0] == {
        "line": 1,
        "exchange_symbol": "ETH-USD",
        "symbol": "ETH/USD",
        "price": "1774.92",
        "size": "0.16908161",
        "side": "sell",
        "trade_id": "825468236",
        "event_ms": 1783465096156,
    }


def test_symbol_is_null_where_it_is_not_listed() -> None:
    lines = parse("binance", "tickers", file=payload("binance", "tickers_4.json").path)

    read = [line for line in lines if "error" not in line]
    assert [line["symbol"] is not None for line in read] == [
        is_listed("binance", line["exchange_symbol"]) for line in read
    ]
    assert {line["symbol"] for line in read} > {None, "BTC/USDT"}


def test_symbol_of_krakens_own_key_is_the_listed_one() -> None:
    lines = parse("kraken", "tickers", file=payload("kraken", "tickers_1.json").path)

    assert [(line["exchange_symbol"], line["symbol"]) for line in lines] == [
        ("XETHZUSD", "ETH/USD"),
        ("XXBTZUSD", "BTC/USD"),
    ]


@pytest.mark.parametrize(
    "symbols", [["BTC/USDT"], ["BTCUSDT"], ["BTCUSDT,BTC/USDT"], ["BTC/USDT", "BTCUSDT"]]
)
def test_symbols_narrow_in_either_spelling(symbols: list[str]) -> None:
    file = payload("binance", "tickers_1.json").path

    lines = parse("binance", "tickers", "--symbols", *symbols, file=file)

    assert [line["exchange_symbol"] for line in lines] == ["BTCUSDT"]


def test_symbols_not_in_the_payload_are_said() -> None:
    file = payload("kraken", "tickers_1.json").path

    lines = parse("kraken", "tickers", "--symbols", "BTC/USD", "SOL/USD", file=file)

    assert [(line["exchange_symbol"], line.get("error")) for line in lines] == [
        ("XXBTZUSD", None),
        ("SOL/USD", "NOT_RETURNED"),
    ]


def test_symbols_narrow_trades() -> None:
    file = payload("coinbase", "ws_trades_1.jsonl").path

    lines = parse("coinbase", "trades", "--symbols", "BTC/USD", file=file)

    assert {line["exchange_symbol"] for line in lines} == {"BTC-USD"}


def test_symbols_of_other_candles_are_not_returned() -> None:
    file = payload("bybit", "candles_1.json").path

    [line] = parse("bybit", "candles", "--symbols", "ETH/USDT", file=file)

    assert (line["error"], line["exchange_symbol"]) == ("NOT_RETURNED", "ETHUSDT")


def test_single_coinbase_body_without_a_name_still_has_its_price() -> None:
    [line] = parse("coinbase", "tickers", file=payload("coinbase", "tickers_1.json").path)

    assert (line["exchange_symbol"], line["symbol"], line["price"]) == (None, None, "25499.81")


def test_bad_row_among_good_ones_exits_0(tmp_path: Path) -> None:
    content = json.loads(payload("bybit", "tickers_1.json").body)
    content["result"]["list"][0]["lastPrice"] = "NaN"

    lines = parse("bybit", "tickers", file=written(tmp_path, json.dumps(content)))

    assert lines[1:] == [
        {
            "error": "BAD_PRICE",
            "detail": "lastPrice is 'NaN'",
            "exchange_symbol": "BTCUSDT",
        }
    ]


@pytest.mark.parametrize("kind", ["tickers", "candles"])
def test_unreadable_body_prints_one_line_and_exits_1(tmp_path: Path, kind: str) -> None:
    [line] = parse("okx", kind, file=written(tmp_path, b"<html>"), code=1)

    assert line["error"] == "UNREADABLE"


def test_unreadable_message_costs_its_line_only(tmp_path: Path) -> None:
    message = payload("okx", "ws_trades_2.jsonl").messages[0]

    lines = parse("okx", "trades", file=written(tmp_path, b"\xff\xfe\n\n" + message))

    assert [(line["line"], line.get("error")) for line in lines] == [(1, "UNREADABLE"), (3, None)]


def test_messages_all_unreadable_exit_1(tmp_path: Path) -> None:
    lines = parse("okx", "trades", file=written(tmp_path, "a\nb"), code=1)

    assert [line["line"] for line in lines] == [1, 2]


def test_refusal_tells_how_long_to_wait(tmp_path: Path) -> None:
    status = ["--status", "429", "--header", "Retry-After: 7", "--header", "X-Other: a:b"]

    lines = parse("coinbase", "tickers", *status, file=written(tmp_path, "slow"), code=1)

    assert lines == [{"error": "RATE_LIMIT", "detail": "HTTP 429 slow", "retry_after_ms": 7000}]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "tickers"], "choose from 'binance', 'bybit', 'coinbase'"),
        (["okx", "depth"], "choose from 'tickers', 'candles', 'trades'"),
        (["okx", "candles", "--resolution", "3m"], "choose from '1m', '5m'"),
        (["okx", "tickers", "--symbols", "btc/usdt"], "a symbol is written BTC/USDT"),
        (["okx", "tickers", "--header", "nothing"], "--header takes 'Name: value'"),
        (["okx", "tickers", "--received-ms", "5"], "--received-ms takes epoch milliseconds"),
        (["okx", "tickers", "--file", "/no/such/file"], "No such file"),
    ],
)
def test_bad_usage_names_what_is_accepted(arguments: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=said):
        call_command(Command(), "--file", str(written(tmp_path, "[]")), *arguments)


def test_command_line_reads_standard_input_without_servers() -> None:
    away = {**os.environ, "DATABASE_URL": "postgres://127.0.0.1:1/x"}
    away["REDIS_URL"] = "redis://127.0.0.1:1/0"

    run = subprocess.run(
        [sys.executable, "manage.py", "parse", "okx", "tickers"],
        input=payload("okx", "tickers_3.json").body,
        cwd=ROOT,
        env=away,
        capture_output=True,
        timeout=30,
        check=False,
    )

    assert (run.returncode, run.stderr) == (0, b"")
    assert json.loads(run.stdout)["price"] == "76624"
