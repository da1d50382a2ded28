"""TradingView's feed: its shapes, to the letter."""

from decimal import Decimal

import pytest

from market import catalog, udf
from market.candles import to_datetime
from oracle.jsontext import decode
from tests.factories import Candle1mFactory, SymbolFactory
from tests.market.test_api import FIRST, btc, now_ms  # noqa: F401  # a fixture
from tests.market.test_series import note
from tests.oracle.test_price_board import price, publish

pytestmark = pytest.mark.django_db

D = Decimal


@pytest.fixture(autouse=True)
def _nothing_is_too_old(settings):
    settings.RETENTION_DAYS = 0


def get(client, path, status=200, **query):
    answer = client.get(f"/api/v1/udf/{path}", query)
    assert answer.status_code == status, answer.content
    return decode(answer.content)


def minutes(*numbers):
    for number in numbers:
        Candle1mFactory(
            time=to_datetime((FIRST + 60 * number) * 1_000),
            open=D(number + 1),
            high=D(number + 3),
            low=D("0.00000123"),
            close=D(number + 2),
            volume=None if number == 0 else D("1.50"),
        )
        note("BTC/USDT", (FIRST + 60 * number) * 1_000)


def history(client, status=200, **query):
    wanted = {"symbol": "BTC/USDT", "resolution": "1", **query}
    return get(client, "history", status, **wanted)


def test_config(client):
    assert get(client, "config") == {
        "supported_resolutions": ["1", "5", "15", "60", "240", "1D"],
        "supports_search": True,
        "supports_group_request": False,
        "supports_marks": False,
        "supports_timescale_marks": False,
        "supports_time": True,
        "exchanges": [{"value": "INDEX", "name": "Index", "desc": "All exchanges"}],
        "symbols_types": [{"value": "crypto", "name": "Crypto"}],
    }


def test_time_is_plain_unix_seconds(client):
    before = now_ms() // 1_000
    answer = client.get("/api/v1/udf/time")

    assert answer["Content-Type"].startswith("text/plain")
    assert before <= int(answer.content) <= now_ms() // 1_000


@pytest.mark.parametrize("text", ["BTC/USDT", "btc-usdt", "INDEX:BTC/USDT", "index:btcusdt"])
def test_symbol_info(client, btc, text):  # noqa: F811
    at = now_ms()
    publish(price("0.00000123", now_ms=at), now_ms=at)

    assert get(client, "symbols", symbol=text) == {
        "name": "BTC/USDT",
        "ticker": "BTC/USDT",
        "full_name": "INDEX:BTC/USDT",
        "description": "BTC in USDT, index of all exchanges",
        "type": "crypto",
        "session": "24x7",
        "timezone": "Etc/UTC",
        "exchange": "INDEX",
        "listed_exchange": "INDEX",
        "currency_code": "USDT",
        "format": "price",
        "minmov": 1,
        "minmov2": 0,
        "pricescale": 10**11,
        "has_intraday": True,
        "intraday_multipliers": ["1", "5", "15", "60", "240"],
        "has_daily": True,
        "has_weekly_and_monthly": False,
        "supported_resolutions": ["1", "5", "15", "60", "240", "1D"],
        "volume_precision": 0,
        "data_status": "streaming",
    }


def test_symbol_info_without_a_price_goes_by_the_last_candle(client, btc):  # noqa: F811
    minutes(1)
    assert get(client, "symbols", symbol="BTC/USDT")["pricescale"] == 10**5


@pytest.mark.parametrize(
    ("text", "decimals", "volume"),
    [
        ("42150.5", 2, 8),
        ("3000", 2, 7),
        ("1.5", 5, 4),
        ("0.5", 6, 3),
        ("0.00000123", 11, 0),
        ("1e-18", 18, 0),
    ],
)
def test_decimals_show_six_digits_of_a_price(text, decimals, volume):
    assert udf.price_decimals(D(text)) == decimals
    assert udf.volume_decimals(D(text)) == volume


def test_search_finds_names_however_written(client, btc):  # noqa: F811
    SymbolFactory(name="WBTC/USDT")
    SymbolFactory(name="ETH/BTC")
    catalog.publish()

    def found(**query):
        return [each["symbol"] for each in get(client, "search", **query)]

    assert found(query="btc") == ["BTC/USDT", "ETH/BTC", "WBTC/USDT"]
    assert found(query="btc-us") == found(query="BTC/US") == ["BTC/USDT", "WBTC/USDT"]
    assert found(query="btc", limit=1, type="crypto", exchange="INDEX") == ["BTC/USDT"]
    assert found(query="zzz") == found(query="btc", type="stock") == []
    assert found(query="btc", exchange="NYSE") == []
    assert get(client, "search", query="btc", limit=1) == [
        {
            "symbol": "BTC/USDT",
            "ticker": "BTC/USDT",
            "full_name": "INDEX:BTC/USDT",
            "description": "BTC in USDT, index of all exchanges",
            "exchange": "INDEX",
            "type": "crypto",
        }
    ]


def test_history_is_columns_and_to_is_exclusive(client, btc):  # noqa: F811
    minutes(0, 1, 2)

    assert history(client, **{"from": FIRST, "to": FIRST + 120}) == {
        "s": "ok",
        "t": [FIRST, FIRST + 60],
        "o": [1, 2],
        "h": [3, 4],
        "l": [D("0.00000123"), D("0.00000123")],
        "c": [2, 3],
        "v": [0, D("1.5")],
    }


@pytest.mark.parametrize(
    ("resolution", "times"),
    [
        ("5", [FIRST, FIRST + 600]),
        ("15", [FIRST]),
        ("60", [FIRST]),
        ("240", [FIRST]),
        ("1D", [FIRST - 43_200]),
        ("D", [FIRST - 43_200]),
    ],
)
def test_history_of_longer_bars(client, btc, resolution, times):  # noqa: F811
    minutes(1, 3, 10)

    span = {"from": FIRST - 86_400, "to": FIRST + 3_600}
    found = history(client, resolution=resolution, **span)

    assert (found["t"], found["o"][0], found["c"][-1]) == (times, 2, 12)


def test_countback_goes_before_from(client, btc):  # noqa: F811
    minutes(0, 1, 7, 8)
    wanted = {"from": FIRST + 480, "to": FIRST + 540}

    def times(count):
        return [(time - FIRST) // 60 for time in history(client, countback=count, **wanted)["t"]]

    assert [times(1), times(2), times(3), times(9)] == [[8], [7, 8], [1, 7, 8], [0, 1, 7, 8]]
    assert history(client, countback=1, to=FIRST + 480)["t"] == [FIRST + 420]


def test_no_data_names_the_last_bar_before(client, btc):  # noqa: F811
    minutes(0, 3)

    span = {"from": FIRST + 240, "to": FIRST + 600}
    assert history(client, **span) == {"s": "no_data", "nextTime": FIRST + 180}
    before = {"from": FIRST - 600, "to": FIRST - 60}
    assert history(client, **before) == {"s": "no_data"}
    assert history(client, countback=5, to=FIRST) == {"s": "no_data"}


def test_history_ends_with_the_open_bar(client, btc):  # noqa: F811
    at = now_ms()
    publish(price("42000.125", now_ms=at), now_ms=at)

    for resolution in udf.SUPPORTED:
        found = history(client, resolution=resolution, countback=1, to=at // 1_000 + 60)
        assert found["c"] == [D("42000.125")]


@pytest.mark.parametrize(
    ("path", "given", "status", "message"),
    [
        ("history", {"symbol": "NOPE"}, 404, "unknown symbol 'NOPE'"),
        ("history", {"symbol": ""}, 400, "symbol must be"),
        ("history", {"resolution": "1M"}, 400, "resolution must be one of 1, 5, 15, 60, 240, 1D"),
        ("history", {"resolution": ""}, 400, "resolution must be"),
        ("history", {"from": "-1"}, 400, "from must be a whole number of unix seconds"),
        ("history", {"from": "9" * 30}, 400, "from must be"),
        ("history", {"to": "1.5"}, 400, "to must be"),
        ("history", {"from": "200", "to": "100"}, 400, "from must be at most `to`, which is 100"),
        ("history", {"countback": "0"}, 400, "countback must be a whole number of bars from 1"),
        ("history", {"countback": "20001"}, 400, "countback must be"),
        ("history", {"from": None}, 400, "from must be unix seconds (or give countback)"),
        ("symbols", {"symbol": "NOPE"}, 404, "unknown symbol"),
        ("search", {"limit": "0"}, 400, "limit must be a whole number of symbols from 1 to 1000"),
    ],
)
def test_errors_have_the_feeds_own_shape(client, btc, path, given, status, message):  # noqa: F811
    wanted = {"symbol": "BTC/USDT", "resolution": "1", "from": "1", "to": "2", **given}

    answer = get(
        client, path, status, **{name: value for name, value in wanted.items() if value is not None}
    )

    assert answer["s"] == "error"
    assert answer["errmsg"].startswith(message)
    assert answer.keys() == {"s", "errmsg"}


def test_more_bars_than_an_answer_holds_is_an_error(client, btc, monkeypatch):  # noqa: F811
    monkeypatch.setattr(udf, "MAX_BARS", 2)
    minutes(0, 1, 2)

    answer = history(client, 400, **{"from": FIRST, "to": FIRST + 600})

    assert answer["errmsg"].startswith("from must be so late that it is 2 bars at most")


def test_derived_symbols_have_no_bars(client, btc):  # noqa: F811
    source = SymbolFactory(name="BTC/USDT")
    SymbolFactory(name="BTC/RUB", derived_from=source)
    catalog.publish()

    assert get(client, "symbols", 404, symbol="BTC/RUB")["errmsg"].startswith(
        "BTC/RUB has no candles: its rate is converted from that of BTC/USDT."
    )
    assert get(client, "search", query="RUB") == []


def test_requests_over_the_limit_have_the_feeds_own_shape(client, settings):
    settings.RATE_LIMIT_PER_MINUTE = 1
    client.get("/api/v1/udf/config")
    answer = client.get("/api/v1/udf/config")

    assert (answer.status_code, decode(answer.content)["s"]) == (429, "error")
    assert int(answer["Retry-After"]) > 0


def test_pages_of_other_sites_may_ask(client, settings):
    settings.CORS_ALLOWED_ORIGINS = ["https://chart.example"]
    answer = client.get("/api/v1/udf/config", headers={"Origin": "https://chart.example"})

    assert answer["Access-Control-Allow-Origin"] == "https://chart.example"
