"""Past trades over REST, and KuCoin's token: from the exchanges' own documentation."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from ingestion.adapter import Answer, TokenAdapter, UnreadableError
from ingestion.exchanges import kucoin, okx
from ingestion.registry import ADAPTERS
from oracle.values import ErrorCode, Trade

RECEIVED_MS = 1_795_251_645_678
every_adapter = pytest.mark.parametrize("exchange", ADAPTERS)

# A row as expected: price, size, side, id, time.
Row = tuple[str, str, str, str, int]
SYMBOLS = {
    "binance": "BNBBTC",
    "upbit": "KRW-BTC",
    "kraken": "BTC/USD",
    "coinbase": "BTC-USD",
    "okx": "BTC-USDT",
    "bybit": "BTCUSDT",
    "kucoin": "BTC-USDT",
}
# The answers as documented. Upbit's and Bybit's show one row: their other one is made after it, for
# what is newest first must be seen to be turned round.
BODIES = {
    "binance": """
        [{"id":28457,"price":"4.00000100","qty":"12.00000000","quoteQty":"48.000012",
          "time":1499865549590,"isBuyerMaker":true,"isBestMatch":true}]""",
    "upbit": """
        [{"market":"KRW-BTC","trade_date_utc":"2018-04-18","trade_time_utc":"10:19:59",
          "timestamp":1524046799000,"trade_price":8616001.0,"trade_volume":0.5,
          "ask_bid":"BID","sequential_id":15240467990000000},
         {"market":"KRW-BTC","trade_date_utc":"2018-04-18","trade_time_utc":"10:19:58",
          "timestamp":1524046798000,"trade_price":8616000.0,"trade_volume":0.03060688,
          "ask_bid":"ASK","sequential_id":15240467980000000}]""",
    "kraken": """
        {"error":[],"result":{"XXBTZUSD":[
          ["30243.40000","0.34507674",1688669597.8277369,"b","m","",61044952],
          ["30243.30000","0.00376960",1688669598.2804112,"s","l","",61044953]],
          "last":"1688671969993150842"}}""",
    "coinbase": """
        [{"time":"2014-11-07T22:19:28.578544Z","trade_id":74,"price":"10.00000000",
          "size":"0.01000000","side":"buy"},
         {"time":"2014-11-07T01:08:43.642366Z","trade_id":73,"price":"100.00000000",
          "size":"0.01000000","side":"sell"}]""",
    "okx": """
        {"code":"0","msg":"","data":[
          {"instId":"BTC-USDT","side":"sell","sz":"0.00001","px":"29963.2",
           "tradeId":"242720720","ts":"1654161646974"},
          {"instId":"BTC-USDT","side":"buy","sz":"0.00002","px":"29963.1",
           "tradeId":"242720719","ts":"1654161641568"}]}""",
    "bybit": """
        {"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[
          {"execId":"2100000000007764264","symbol":"BTCUSDT","price":"16618.50",
           "size":"0.00013","side":"Sell","time":"1672052955759","isBlockTrade":false},
          {"execId":"2100000000007764263","symbol":"BTCUSDT","price":"16618.49",
           "size":"0.00012","side":"Buy","time":"1672052955758","isBlockTrade":false}]},
          "retExtInfo":{},"time":1672053054358}""",
    "kucoin": """
        {"code":"200000","data":[
          {"sequence":"1545896668571","price":"0.07","size":"0.004","side":"buy",
           "time":1545904567062140823,"tradeId":"6289570e2e113d2923dfad6b"}]}""",
}
# The same, oldest first.
ROWS: dict[str, list[Row]] = {
    "binance": [("4.00000100", "12.00000000", "sell", "28457", 1_499_865_549_590)],
    "upbit": [
        ("8616000.0", "0.03060688", "sell", "15240467980000000", 1_524_046_798_000),
        ("8616001.0", "0.5", "buy", "15240467990000000", 1_524_046_799_000),
    ],
    "kraken": [
        ("30243.40000", "0.34507674", "buy", "61044952", 1_688_669_597_827),
        ("30243.30000", "0.00376960", "sell", "61044953", 1_688_669_598_280),
    ],
    "coinbase": [
        ("100.00000000", "0.01000000", "buy", "73", 1_415_322_523_642),
        ("10.00000000", "0.01000000", "sell", "74", 1_415_398_768_578),
    ],
    "okx": [
        ("29963.1", "0.00002", "buy", "242720719", 1_654_161_641_568),
        ("29963.2", "0.00001", "sell", "242720720", 1_654_161_646_974),
    ],
    "bybit": [
        ("16618.49", "0.00012", "buy", "2100000000007764263", 1_672_052_955_758),
        ("16618.50", "0.00013", "sell", "2100000000007764264", 1_672_052_955_759),
    ],
    "kucoin": [("0.07", "0.004", "buy", "6289570e2e113d2923dfad6b", 1_545_904_567_062)],
}


def answer(body: str, status: int = 200) -> Answer:
    return Answer(body=body.encode(), received_ms=RECEIVED_MS, status=status)


@every_adapter
def test_parse_trades_reads_every_digit_oldest_first(exchange: str) -> None:
    symbol = SYMBOLS[exchange]

    parsed = ADAPTERS[exchange].parse_trades(answer(BODIES[exchange]), symbol)

    assert parsed.unresolved == ()
    assert parsed.values == tuple(
        Trade(
            exchange_symbol=symbol,
            price=Decimal(price),
            size=Decimal(size),
            side=side,  # type: ignore[arg-type]
            trade_id=trade_id,
            event_ms=event_ms,
            received_ms=RECEIVED_MS,
        )
        for price, size, side, trade_id, event_ms in ROWS[exchange]
    )


@every_adapter
def test_parse_trades_of_no_answer_is_unreadable_or_refused(exchange: str) -> None:
    for body in ("", "<html>", "null", '"x"'):
        with pytest.raises(UnreadableError):
            ADAPTERS[exchange].parse_trades(answer(body), "X")
    parsed = ADAPTERS[exchange].parse_trades(answer("<html>", 503), "X")
    assert parsed.refusal is not None
    assert parsed.refusal.code == ErrorCode.BUSY


@every_adapter
def test_parse_trades_one_bad_row_costs_no_other(exchange: str) -> None:
    *others, last = ROWS[exchange]
    bad = BODIES[exchange].replace(last[0], "-1")

    parsed = ADAPTERS[exchange].parse_trades(answer(bad), SYMBOLS[exchange])

    assert [each.code for each in parsed.unresolved] == [ErrorCode.BAD_PRICE]
    assert [each.trade_id for each in parsed.values] == [row[3] for row in others]


@every_adapter
def test_trades_request_fits_its_budget(exchange: str) -> None:
    adapter = ADAPTERS[exchange]

    request = adapter.trades_request("A", after_id="5", after_ms=RECEIVED_MS)

    assert 0 < request.weight <= adapter.BUDGETS[request.budget].units
    assert request.symbols == ("A",)


@every_adapter
def test_facts_of_a_socket_are_sensible(exchange: str) -> None:
    adapter = ADAPTERS[exchange]

    assert adapter.MAX_SYMBOLS_PER_SOCKET > 0
    assert adapter.MAX_MESSAGES_PER_SECOND > 0
    assert isinstance(adapter, TokenAdapter) == (exchange == "kucoin")


def test_kucoin_token_is_in_the_address_behind_a_slash() -> None:
    body = {
        "code": "200000",
        "data": {
            "token": "2neAiuYvAU61==.x",
            "instanceServers": [{"endpoint": "wss://ws-api-spot.kucoin.com/"}],
        },
    }

    parsed = kucoin.parse_token(answer(json.dumps(body)))

    assert parsed.values == ("wss://ws-api-spot.kucoin.com/?token=2neAiuYvAU61==.x",)
    assert kucoin.token_request().method == "POST"


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"token": 1, "instanceServers": [{"endpoint": "x"}]},
        {"token": "x", "instanceServers": []},
    ],
)
def test_kucoin_token_missing_is_unreadable(data: dict[str, Any]) -> None:
    with pytest.raises(UnreadableError):
        kucoin.parse_token(answer(json.dumps({"code": "200000", "data": data})))


def test_kucoin_token_refused_says_for_how_long() -> None:
    parsed = kucoin.parse_token(answer('{"code":"429000","msg":"Too Many Requests"}', 429))

    assert parsed.refusal is not None
    assert parsed.refusal.code == ErrorCode.RATE_LIMIT


def test_okx_merged_fills_are_counted() -> None:
    row = {"instId": "BTC-USDT", "px": "1", "sz": "1", "side": "buy", "ts": str(RECEIVED_MS)}
    rows = [
        row | {"tradeId": "7", "count": "3"},
        row | {"tradeId": "8", "count": "1"},
        row | {"tradeId": "9", "count": "many"},
    ]
    message = json.dumps({"arg": {"channel": "trades", "instId": "BTC-USDT"}, "data": rows})

    frames = okx.parse_message(message, {}, RECEIVED_MS)

    assert frames.fills == {"7": 3}
    assert [each.trade_id for each in frames.trades] == ["7", "8", "9"]
