"""The control paths: what they answer and what they refuse."""

import pytest

FAULT_ROW = {"exchange": "okx", "fault": "latency", "value": 5, "until_ms": None}


def test_health_says_ok(ask, now_ms):
    answer = ask("control/health").json
    assert answer["status"] == "ok" and answer["simulated"] is True
    assert set(answer["sockets"].values()) == {0} and len(answer["sockets"]) == 7
    assert (answer["seed"], answer["time_ms"], answer["faults"]) == (7, now_ms, 0)


def test_markets_lists_every_listing(ask):
    rows = ask("control/markets").json
    assert {
        "exchange": "upbit",
        "exchange_symbol": "KRW-USDT",
        "base": "USDT",
        "quote": "KRW",
    } in rows
    assert {row["exchange_symbol"] for row in rows if row["exchange"] == "kraken"} >= {
        "XXBTZUSD",
        "XETHZUSD",
        "XDGUSD",
        "USDTZUSD",
        "XBTUSDT",
        "XXMRZUSD",
        "XETHXXBT",
    }
    assert any(row["exchange_symbol"] == "XMR-USDT" for row in rows if row["exchange"] == "kucoin")


def test_faults_are_set_listed_and_cleared(ask, now_ms):
    body = {"exchange": "okx", "fault": "latency", "value": 5}
    expected = [FAULT_ROW | {"since_ms": now_ms}]
    assert ask("control/faults", method="POST", body=body).json == expected
    ask("control/faults", method="POST", body={"exchange": "*", "fault": "freeze", "seconds": 9})
    rows = ask("control/faults").json
    assert [row["fault"] for row in rows] == ["latency", "freeze"]
    assert rows[1]["until_ms"] == now_ms + 9_000
    left = ask("control/faults", method="DELETE", fault="freeze").json
    assert left == expected
    assert ask("control/faults", method="DELETE", exchange="bybit").json == expected
    assert ask("control/faults", method="DELETE").json == []


@pytest.mark.parametrize(
    "body, part",
    [
        ([], "JSON object"),
        ({"exchange": "okx"}, "fault must be one of"),
        ({"exchange": "mtgox", "fault": "error"}, "exchange must be one of"),
        ({"exchange": ["okx"], "fault": "error"}, "exchange must be one of"),
        ({"exchange": "okx", "fault": "fire"}, "'fire'"),
        ({"exchange": "okx", "fault": {}}, "fault must be one of"),
        ({"exchange": "okx", "fault": "error", "value": 200}, "500..599"),
        ({"exchange": "okx", "fault": "error", "value": 500.5}, "whole number"),
        ({"exchange": "okx", "fault": "latency", "value": "1"}, "must be a number"),
        ({"exchange": "okx", "fault": "latency", "value": True}, "must be a number"),
        ({"exchange": "okx", "fault": "drop_trades", "value": 1.5}, "0..1"),
        ({"exchange": "okx", "fault": "garbage", "value": "soup"}, "garbage must be one of"),
        ({"exchange": "okx", "fault": "garbage", "value": []}, "garbage must be one of"),
        ({"exchange": "okx", "fault": "freeze", "value": 1}, "takes no value"),
        ({"exchange": "okx", "fault": "error", "seconds": 0}, "positive"),
        ({"exchange": "okx", "fault": "error", "seconds": "9"}, "positive"),
        ({"exchange": "okx", "fault": "error", "second": 9}, "unknown field 'second'"),
    ],
)
def test_bad_fault_is_refused_with_what_is_wrong(ask, body, part):
    answer = ask("control/faults", method="POST", body=body)
    assert answer.status == 400
    assert part in answer.json["error"]["message"]
    assert ask("control/faults").json == []


@pytest.mark.parametrize("query", [{"exchange": "mtgox"}, {"fault": "fire"}])
def test_clearing_what_does_not_exist_is_refused(ask, query):
    assert ask("control/faults", method="DELETE", **query).status == 400


def test_tape_rows_have_the_agreed_fields(ask, now_ms):
    rows = ask(
        "control/tape",
        exchange="kucoin",
        symbol="PEPE/USDT",
        from_ms=now_ms - 600_000,
        to_ms=now_ms,
    ).json
    assert set(rows[0]) == {"exchange_symbol", "price", "size", "side", "trade_id", "event_ms"}
    assert {row["exchange_symbol"] for row in rows} == {"PEPE-USDT"}
    assert {row["side"] for row in rows} == {"buy", "sell"}
    assert all(row["price"].startswith("0.00000") and "e" not in row["price"] for row in rows)
    assert all(now_ms - 600_000 <= row["event_ms"] < now_ms for row in rows)


def test_tape_says_nothing_of_the_future(ask, now_ms):
    rows = ask(
        "control/tape",
        exchange="binance",
        symbol="BTCUSDT",
        from_ms=now_ms - 60_000,
        to_ms=now_ms + 60_000,
    ).json
    assert rows and rows[-1]["event_ms"] <= now_ms
    later = {"from_ms": now_ms + 1, "to_ms": now_ms + 60_000}
    assert ask("control/tape", exchange="binance", symbol="BTCUSDT", **later).json == []


@pytest.mark.parametrize(
    "query, status",
    [
        ({"exchange": "mtgox", "symbol": "BTCUSDT", "from_ms": 1, "to_ms": 2}, 404),
        ({"exchange": "binance", "symbol": "NOTACOIN", "from_ms": 1, "to_ms": 2}, 404),
        ({"exchange": "binance", "symbol": "BTCUSDT", "to_ms": 2}, 400),
        ({"exchange": "binance", "symbol": "BTCUSDT", "from_ms": "x", "to_ms": 2}, 400),
        ({"exchange": "binance", "symbol": "BTCUSDT", "from_ms": 2, "to_ms": 1}, 400),
        ({"exchange": "binance", "symbol": "BTCUSDT", "from_ms": 0, "to_ms": 86_400_001}, 400),
    ],
)
def test_tape_refuses_what_it_cannot_answer(ask, query, status):
    answer = ask("control/tape", **query)
    assert answer.status == status
    assert answer.json["error"]["message"]


@pytest.mark.parametrize(
    "path, status",
    [
        ("binance/nowhere", 404),
        ("upbit/v1/nowhere", 404),
        ("kraken/0/public/Nowhere", 200),
        ("coinbase/nowhere", 404),
        ("okx/api/v5/nowhere", 404),
        ("bybit/v5/nowhere", 404),
        ("kucoin/api/v1/nowhere", 404),
    ],
)
def test_unknown_path_is_refused_in_the_exchanges_way(ask, path, status):
    assert ask(path).status == status
