"""Bounds, limits and order of candles and trades, as each exchange really counts them."""

import pytest

MINUTE_MS = 60_000
START_MS = 1_795_200_000_000
START_S = START_MS // 1000


def binance_opens(ask, **query) -> list[int]:
    return [
        r[0] for r in ask("binance/api/v3/klines", symbol="BTCUSDT", interval="1m", **query).json
    ]


def test_binance_bounds_are_inclusive_on_the_open_time(ask):
    assert binance_opens(ask, startTime=START_MS, endTime=START_MS) == [START_MS]
    unaligned = binance_opens(ask, startTime=START_MS + 1, endTime=START_MS + 3 * MINUTE_MS)
    assert unaligned == [START_MS + n * MINUTE_MS for n in (1, 2, 3)]
    assert len(binance_opens(ask, startTime=START_MS, endTime=START_MS + 3 * MINUTE_MS - 1)) == 3


def test_binance_pages_forward_from_the_start_and_cuts_the_limit_silently(ask):
    rows = binance_opens(ask, startTime=START_MS - 2_000 * MINUTE_MS, limit=1500)
    assert (len(rows), rows[0]) == (1000, START_MS - 2_000 * MINUTE_MS)
    assert len(binance_opens(ask)) == 500


def test_binance_end_alone_gives_the_last_rows_up_to_it(ask):
    rows = binance_opens(ask, endTime=START_MS, limit=3)
    assert rows == [START_MS - 2 * MINUTE_MS, START_MS - MINUTE_MS, START_MS]


def test_binance_answers_nothing_for_the_future_and_before_the_first_day(ask, now_ms):
    assert binance_opens(ask, startTime=now_ms + MINUTE_MS) == []
    assert binance_opens(ask, startTime=0, limit=1) == [1_483_228_800_000]
    assert binance_opens(ask, endTime=1_400_000_000_000) == []


@pytest.mark.parametrize(
    "query, code",
    [
        ({"symbol": "BTCUSDT"}, -1102),
        ({"interval": "1m"}, -1102),
        ({"symbol": "BTCUSDT", "interval": "7m"}, -1120),
        ({"symbol": "btcusdt", "interval": "1m"}, -1121),
        ({"symbol": "BTCUSDT", "interval": "1m", "limit": "x"}, -1100),
        ({"symbol": "BTCUSDT", "interval": "1m", "startTime": "-1"}, -1100),
    ],
)
def test_binance_refuses_bad_kline_parameters(ask, query, code):
    answer = ask("binance/api/v3/klines", **query)
    assert (answer.status, answer.json["code"]) == (400, code)


@pytest.mark.parametrize(
    "symbols, code",
    [
        ('["BTCUSDT","NOTACOIN"]', -1121),
        ("BTCUSDT", -1100),
        ("[]", -1100),
        ("[1]", -1100),
        ('["BTCUSDT","BTCUSDT"]', -1101),
    ],
)
def test_binance_one_bad_symbol_fails_the_whole_bulk_call(ask, symbols, code):
    answer = ask("binance/api/v3/ticker/24hr", symbols=symbols)
    assert (answer.status, answer.json["code"]) == (400, code)


@pytest.mark.parametrize(
    "query, weight",
    [({"symbol": "BTCUSDT"}, 2), ({"symbols": '["BTCUSDT"]'}, 2), ({}, 80), ({"type": "MINI"}, 80)],
)
def test_binance_states_the_weight_used(ask_anew, query, weight):
    answer = ask_anew("binance/api/v3/ticker/24hr", **query)
    assert answer.headers["x-mbx-used-weight-1m"] == str(weight)


def upbit_opens(ask, **query) -> list[str]:
    rows = ask("upbit/v1/candles/minutes/1", market="KRW-BTC", **query).json
    return [r["candle_date_time_utc"] for r in rows]


@pytest.mark.parametrize(
    "text", ["2026-11-20T12:00:00Z", "2026-11-20T21:00:00+09:00", "2026-11-20T12:00:00"]
)
def test_upbit_to_is_exclusive_and_rows_are_newest_first(ask, text):
    assert upbit_opens(ask, to=text, count=2) == ["2026-11-20T11:59:00", "2026-11-20T11:58:00"]


def test_upbit_gives_200_rows_at_most_and_one_by_default(ask):
    assert len(upbit_opens(ask, count=500)) == 200
    assert len(upbit_opens(ask)) == 1


def test_upbit_says_what_is_left_of_the_second(ask_anew):
    headers = ask_anew("upbit/v1/candles/minutes/1", market="KRW-BTC").headers
    assert headers["remaining-req"] == "group=candles; min=600; sec=9"
    assert headers["limit-by-ip"] == "Yes"


def test_upbit_all_tickers_are_those_of_the_quotes_asked_for(ask):
    rows = ask("upbit/v1/ticker/all", quote_currencies="BTC,USDT").json
    assert {r["market"].split("-")[0] for r in rows} == {"BTC", "USDT"}


def test_upbit_refuses_unknown_units_and_unreadable_times(ask):
    assert ask("upbit/v1/candles/minutes/7", market="KRW-BTC").status == 400
    assert ask("upbit/v1/candles/minutes/1", market="KRW-BTC", to="yesterday").status == 400
    assert ask("upbit/v1/candles/minutes/1", market="BTC-KRW").status == 404


def test_kraken_keys_are_its_own_unless_asked_in_slash_style(ask):
    answer = ask("kraken/0/public/Ticker", pair="XBTUSD,USDTUSD,XBTUSDT,BTC/USD,XDG/USD,XMRUSD")
    assert list(answer.json["result"]) == [
        "XXBTZUSD",
        "USDTZUSD",
        "XBTUSDT",
        "BTC/USD",
        "XDG/USD",
        "XXMRZUSD",
    ]


def test_kraken_since_leaves_out_the_candle_that_contains_it(ask, now_ms):
    since = now_ms // 1000 - 600
    result = ask("kraken/0/public/OHLC", pair="XBTUSD", interval=1, since=since).json["result"]
    opens = [r[0] for r in result["XXBTZUSD"]]
    assert opens[0] == (since // 60 + 1) * 60
    assert opens[-1] == now_ms // 60_000 * 60
    assert result["last"] == opens[-1] - 60


def test_kraken_gives_the_newest_720_closed_candles_however_old_since_is(ask):
    rows = ask("kraken/0/public/OHLC", pair="XBTUSD", since=1).json["result"]["XXBTZUSD"]
    assert len(rows) == 721


@pytest.mark.parametrize(
    "query", [{}, {"pair": "XBTUSD", "interval": 7}, {"pair": "XBTUSD", "since": "x"}]
)
def test_kraken_refuses_bad_arguments_with_200(ask, query):
    answer = ask("kraken/0/public/OHLC", **query)
    assert (answer.status, answer.json) == (200, {"error": ["EGeneral:Invalid arguments"]})


def test_coinbase_window_includes_its_end_and_ignores_one_bound_alone(ask, now_ms):
    def opens(**query):
        rows = ask("coinbase/products/BTC-USD/candles", granularity=60, **query).json
        return [r[0] for r in rows]

    assert opens(start=START_S, end=START_S + 120) == [START_S + 120, START_S + 60, START_S]
    whole = opens(start=START_S, end=START_S + 300 * 60)
    assert (len(whole), whole[-1]) == (300, START_S)
    assert opens(start=START_S)[0] == now_ms // 60_000 * 60
    iso = opens(start="2026-11-20T12:00:00Z", end="2026-11-20T12:01:00Z")
    assert len(iso) == 2


@pytest.mark.parametrize(
    "query", [{"granularity": 61}, {"granularity": 60, "start": "x", "end": "y"}]
)
def test_coinbase_refuses_bad_windows(ask, query):
    assert ask("coinbase/products/BTC-USD/candles", **query).status == 400
    assert ask("coinbase/products/NOTACOIN-USD/candles").json == {"message": "NotFound"}


def okx_opens(ask, path="market/candles", **query) -> list[int]:
    answer = ask(f"okx/api/v5/{path}", instId="BTC-USDT", bar="1m", **query)
    return [int(r[0]) for r in answer.json["data"]]


def test_okx_after_is_older_and_before_is_newer_both_exclusive(ask, now_ms):
    newest = now_ms // MINUTE_MS * MINUTE_MS
    at = newest - 10 * MINUTE_MS
    assert okx_opens(ask, after=at, limit=2) == [at - MINUTE_MS, at - 2 * MINUTE_MS]
    assert okx_opens(ask, before=at, limit=2) == [newest, newest - MINUTE_MS]
    assert okx_opens(ask, before=at, after=at + 3 * MINUTE_MS) == [
        at + 2 * MINUTE_MS,
        at + MINUTE_MS,
    ]


def test_okx_history_gives_100_closed_rows_and_candles_300_of_the_newest_1440(ask, now_ms):
    newest = now_ms // MINUTE_MS * MINUTE_MS
    assert len(okx_opens(ask, limit=300)) == 300
    history = okx_opens(ask, path="market/history-candles", limit=300)
    assert (len(history), history[0]) == (100, newest - MINUTE_MS)
    too_old = newest - 1_440 * MINUTE_MS
    assert okx_opens(ask, after=too_old) == []
    assert len(okx_opens(ask, path="market/history-candles", after=too_old)) == 100


@pytest.mark.parametrize(
    "path, code",
    [
        ("okx/api/v5/market/tickers", "50014"),
        ("okx/api/v5/market/tickers?instType=SPOTS", "51000"),
        ("okx/api/v5/market/candles?instId=BTC-USDT&bar=7m", "51000"),
        ("okx/api/v5/market/candles?instId=BTC-USDT&after=x", "51000"),
        ("okx/api/v5/market/candles", "50014"),
    ],
)
def test_okx_refuses_bad_parameters_with_200(ask, path, code):
    answer = ask(path)
    assert (answer.status, answer.json["code"]) == (200, code)


def bybit_opens(ask, **query) -> list[int]:
    answer = ask("bybit/v5/market/kline", category="spot", symbol="BTCUSDT", interval=1, **query)
    return [int(r[0]) for r in answer.json["result"]["list"]]


def test_bybit_bounds_are_inclusive_and_the_limit_keeps_the_newest(ask):
    end_ms = START_MS + 5 * MINUTE_MS
    assert bybit_opens(ask, start=START_MS, end=START_MS) == [START_MS]
    assert bybit_opens(ask, start=START_MS, end=end_ms, limit=2) == [end_ms, end_ms - MINUTE_MS]
    assert bybit_opens(ask, start=START_MS, limit=2) == [START_MS + MINUTE_MS, START_MS]
    assert len(bybit_opens(ask, limit=1500)) == 1000


def test_bybit_without_a_category_answers_plausible_futures(ask):
    spot = ask("bybit/v5/market/tickers?category=spot&symbol=BTCUSDT").json["result"]
    linear = ask("bybit/v5/market/tickers?symbol=BTCUSDT").json["result"]
    assert (spot["category"], linear["category"]) == ("spot", "linear")
    ratio = float(linear["list"][0]["lastPrice"]) / float(spot["list"][0]["lastPrice"])
    assert 1.0001 < ratio < 1.002


def test_bybit_unknown_instrument_is_an_empty_success(ask):
    answer = ask("bybit/v5/market/instruments-info?category=spot&symbol=NOTACOIN").json
    assert (answer["retCode"], answer["result"]["list"]) == (0, [])


@pytest.mark.parametrize(
    "query", ["symbol=BTCUSDT&interval=7", "interval=1", "symbol=BTCUSDT&interval=1&start=2&end=1"]
)
def test_bybit_refuses_bad_parameters_with_200(ask, query):
    answer = ask(f"bybit/v5/market/kline?category=spot&{query}")
    assert (answer.status, answer.json["retCode"]) == (200, 10001)


def kucoin_opens(ask, **query) -> list[int]:
    answer = ask("kucoin/api/v1/market/candles", symbol="BTC-USDT", type="1min", **query)
    return [int(r[0]) for r in answer.json["data"]]


def test_kucoin_window_is_in_seconds_and_keeps_the_newest_1500(ask):
    assert kucoin_opens(ask, startAt=START_S, endAt=START_S + 120) == [START_S + 60, START_S]
    wide = kucoin_opens(ask, startAt=START_S - 200_000, endAt=START_S)
    assert (len(wide), wide[0]) == (1500, START_S - 60)
    assert len(kucoin_opens(ask)) == 100


def test_kucoin_tickers_move_every_two_seconds_only(universe, ask, now_ms):
    data = ask("kucoin/api/v1/market/allTickers").json["data"]
    assert data["time"] == now_ms // 2000 * 2000
    row = next(r for r in data["ticker"] if r["symbol"] == "BTC-USDT")
    market = universe.market(exchange="kucoin", spelling="BTC-USDT")
    last = market.tape.trade(market.tape.number_at(data["time"] + 1) - 1)
    assert float(row["last"]) == pytest.approx(last.price / 10)


def test_kucoin_names_the_budget_left_and_refuses_the_wrong_method(ask, ask_anew):
    headers = ask_anew("kucoin/api/v1/market/allTickers").headers
    assert headers["gw-ratelimit-remaining"] == "1985"
    answer = ask("kucoin/api/v1/bullet-public")
    assert (answer.status, answer.json["code"]) == (405, "405000")
    assert ask("kucoin/api/v1/market/candles", symbol="BTC-USDT", type="7min").status == 400


def test_trades_by_id_continue_where_the_page_before_ended(ask):
    newest = ask("binance/api/v3/trades", symbol="BTCUSDT", limit=10).json
    first = newest[0]["id"] - 20
    page = ask("binance/api/v3/historicalTrades", symbol="BTCUSDT", fromId=first, limit=20).json
    assert [r["id"] for r in page + newest] == list(range(first, first + 30))
    beyond = ask("binance/api/v3/historicalTrades", symbol="BTCUSDT", fromId=newest[-1]["id"] + 1)
    assert beyond.json == []


def test_coinbase_trades_page_by_cursor_in_both_directions(ask):
    path = "coinbase/products/BTC-USD/trades"
    newest = ask(path, limit=5)
    ids = [r["trade_id"] for r in newest.json]
    assert ids == list(range(ids[0], ids[0] - 5, -1))
    assert newest.headers["cb-before"] == str(ids[0])
    older = ask(path, limit=5, after=newest.headers["cb-after"]).json
    assert [r["trade_id"] for r in older] == [n - 5 for n in ids]
    newer = ask(path, limit=5, before=ids[2]).json
    assert [r["trade_id"] for r in newer] == ids[:2]


def test_kraken_trades_page_by_last_without_losing_or_repeating_one(ask, now_ms):
    since, seen = (now_ms - 1_800_000) * 1_000_000, []
    for _ in range(4):
        result = ask("kraken/0/public/Trades", pair="XBTUSD", since=since, count=100).json["result"]
        seen += [r[6] for r in result["XXBTZUSD"]]
        since = result["last"]
    assert seen == list(range(seen[0], seen[0] + 400))


@pytest.mark.parametrize(
    "exchange, symbol, path, ids",
    [
        (
            "binance",
            "BTCUSDT",
            "api/v3/trades?symbol=BTCUSDT&limit=60",
            lambda a: [r["id"] for r in a],
        ),
        (
            "upbit",
            "KRW-BTC",
            "v1/trades/ticks?market=KRW-BTC&count=60",
            lambda a: [r["sequential_id"] for r in reversed(a)],
        ),
        (
            "kraken",
            "XXBTZUSD",
            "0/public/Trades?pair=XXBTZUSD&count=60",
            lambda a: [r[6] for r in a["result"]["XXBTZUSD"]],
        ),
        (
            "coinbase",
            "BTC-USD",
            "products/BTC-USD/trades?limit=60",
            lambda a: [r["trade_id"] for r in reversed(a)],
        ),
        (
            "okx",
            "BTC-USDT",
            "api/v5/market/trades?instId=BTC-USDT&limit=60",
            lambda a: [r["tradeId"] for r in reversed(a["data"])],
        ),
        (
            "okx",
            "BTC-USDT",
            "api/v5/market/history-trades?instId=BTC-USDT&limit=60",
            lambda a: [r["tradeId"] for r in reversed(a["data"])],
        ),
        (
            "bybit",
            "BTCUSDT",
            "v5/market/recent-trade?category=spot&symbol=BTCUSDT",
            lambda a: [r["execId"] for r in reversed(a["result"]["list"])],
        ),
        (
            "kucoin",
            "BTC-USDT",
            "api/v1/market/histories?symbol=BTC-USDT",
            lambda a: [r["tradeId"] for r in a["data"][-60:]],
        ),
    ],
)
def test_recent_trades_carry_the_ids_of_the_tape(ask, now_ms, exchange, symbol, path, ids):
    shown = [str(number) for number in ids(ask(f"{exchange}/{path}").json)]
    tape = ask(
        "control/tape",
        exchange=exchange,
        symbol=symbol,
        from_ms=now_ms - 1_200_000,
        to_ms=now_ms + 1,
    ).json
    assert len(shown) == 60 == len(set(shown))
    assert shown == [row["trade_id"] for row in tape[-60:]]
