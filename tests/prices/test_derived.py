"""Derived symbols (BTC/RUB) are answered by their trade rate, by every door alike."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from oracle import catalog, keys, rate_board
from oracle.catalog import Catalog, CatalogSymbol
from oracle.connection import redis_client
from oracle.jsontext import decode
from oracle.rate_board import FxLeg, Rate
from oracle.values import Source
from prices import api
from prices.live import reads
from tests.prices.live.conftest import now_ms, put, serving, wait_for
from tests.prices.live.test_reads import both
from tests.prices.live.test_sockets import hear, open_socket, say
from tests.prices.live.test_sse import listening

D = Decimal
DAY_MS = 86_400_000


@pytest.fixture(autouse=True)
def symbols():
    made = tuple(
        CatalogSymbol(
            name=name,
            base="BTC",
            quote=name.split("/")[1],
            min_sources=1,
            derived_from="BTC/USD" if name == "BTC/RUB" else None,
        )
        for name in ("BTC/USD", "BTC/RUB")
    )
    catalog.publish(Catalog(exchanges=("kraken", "coinbase"), symbols=made))
    put("100", symbol="BTC/USD")


def source(exchange, native, *, at, **other):
    fields = {
        "exchange": exchange,
        "exchange_symbol": "BTC/USD",
        "price": D(native) * 80,
        "native_price": D(native),
        "weight": D(1_600),
        "volume": D("0.2"),
        "as_of_ms": at - DAY_MS,
        "path": ("USD→RUB",),
        "kept": True,
    }
    return Source(**{**fields, **other})


def put_derived(*, age_ms=0, price="8040", simulated=False):
    at = now_ms() - age_ms
    leg = FxLeg(name="USD→RUB", factor=D(80), as_of_ms=at - DAY_MS, source="cbr", date="2026-11-20")
    rate = Rate(
        symbol="BTC/RUB",
        price=D(price),
        method="vwap",
        status="fresh",
        timestamp_ms=at,
        as_of_ms=at - DAY_MS,
        window_ms=30_000,
        volume=D("0.4"),
        quote_volume=D(3_200),
        trade_count=2,
        source_count=2,
        outliers_removed=0,
        sources=(source("kraken", "100", at=at), source("coinbase", "101", at=at)),
        derived_from="BTC/USD",
        legs=(leg,),
        simulated=simulated,
    )
    text = rate_board._encode(rate)
    redis_client().set(keys.rate("BTC/RUB"), text)
    redis_client().publish(keys.channel("rates"), text)
    return at


def get(client, path, status=200, **query):
    answer = client.get(f"/api/v1/prices{path}", query)
    assert answer.status_code == status, answer.content
    return decode(answer.content)


def test_price_is_the_trade_rate_and_says_so(client):
    at = put_derived()

    answer = get(client, "/btc-rub")

    assert DAY_MS <= answer.pop("age_ms") < DAY_MS + 10_000
    assert answer == {
        "symbol": "BTC/RUB",
        "price": 8040,
        "method": "vwap",
        "status": "fresh",
        "timestamp": at,
        "confidence": 40,
        "spread_bps": D("99.5024875621891"),
        "stdev": 40,
        "variance": 1_600,
        "source_count": 2,
        "outliers_removed": 0,
        "sources": ["coinbase", "kraken"],
        "basis": "trade_rate",
        "derived_from": "BTC/USD",
        "simulated": False,
    }


def test_all_prices_include_it(client):
    put_derived()

    answer = get(client, "")

    assert [(each["symbol"], each["basis"]) for each in answer["prices"]] == [
        ("BTC/RUB", "trade_rate"),
        ("BTC/USD", "spot_index"),
    ]
    assert (answer["count"], answer["unavailable"]) == (2, [])


def test_receipt_names_the_sources_and_whose_currency_rate_it_is(client):
    at = put_derived()

    answer = get(client, "/btc-rub/sources")

    assert [(each["exchange"], each["native_price"]) for each in answer["sources"]] == [
        ("kraken", 100),
        ("coinbase", 101),
    ]
    assert {tuple(each["path"]) for each in answer["sources"]} == {("USD→RUB",)}
    (step,) = answer["conversions"]
    assert DAY_MS <= step.pop("age_ms") < DAY_MS + 10_000
    assert step == {
        "path": "USD→RUB",
        "factor": 80,
        "source": "cbr",
        "date": "2026-11-20",
        "timestamp": at - DAY_MS,
    }
    weights = sum(each["weight"] for each in answer["sources"])
    total = sum(each["price"] * each["weight"] for each in answer["sources"])
    assert answer["price"] == total / weights


def test_not_renewed_it_is_stale_and_gone_it_is_unavailable(client):
    assert "no trade rate" in get(client, "/btc-rub", 503)["error"]["message"]
    put_derived(age_ms=60_000)
    assert get(client, "/btc-rub")["status"] == "stale"
    put_derived(simulated=True)
    assert get(client, "")["unavailable"] == ["BTC/RUB"]


def test_strict_counts_the_age_of_the_currency_rate(client):
    put_derived()

    assert get(client, "/btc-rub", 503, max_age_ms=60_000)["error"]["code"] == "PRICE_STALE"
    assert get(client, "/btc-rub", max_age_ms=2 * DAY_MS, min_sources=2)["price"] == 8040


def test_market_ticker_says_where_its_price_is(client):
    put_derived()
    error = decode(client.get("/api/v1/market/ticker?symbol=btc-rub").content)["error"]

    assert (error["code"], "/api/v1/prices/btc-rub" in error["message"]) == (
        "PRICE_UNAVAILABLE",
        True,
    )


@pytest.mark.parametrize("path", ["", "/btc-rub", "/BTCRUB", "/btc-rub/sources", "/btc-usd"])
def test_edge_answers_in_djangos_bytes(client, monkeypatch, path):
    put_derived()
    at = now_ms() + 5_000
    for module in (api, reads):
        clock = SimpleNamespace(time_ns=lambda: at * 1_000_000)
        monkeypatch.setattr(module, "time", clock)
    with serving() as server:
        both(server, client, f"/api/v1/prices{path}")


def test_events_begin_with_it_and_go_on(settings):
    settings.RATE_LIMIT_PER_MINUTE = 100_000
    put_derived()

    async def scenario(server):
        async with asyncio.timeout(20), listening(server, "?symbols=btc-rub") as client:
            await client.head()
            ((_, first),) = await client.events(1)
            put_derived(price="8080")
            ((last_id, second),) = await client.events(1)
        put_derived(price="8100")
        wait_for(lambda: server.hub.number > int(last_id.split("-")[1]))
        async with (
            asyncio.timeout(20),
            listening(server, "?symbols=btc-rub", Last_Event_ID=last_id) as client,
        ):
            await client.head()
            ((_, missed),) = await client.events(1)
        assert [each["price"] for each in (first, second, missed)] == [8040, 8080, 8100]
        assert missed["basis"] == "trade_rate"

    with serving() as server:
        asyncio.run(scenario(server))


def test_rates_of_symbols_that_have_an_index_are_no_events():
    with serving() as server, open_socket(server) as client:
        say(client, {"subscribe": ["btc-usd", "btc-rub"]})
        assert hear(client)["symbols"] == ["btc-rub", "btc-usd"]
        assert hear(client)["data"]["symbol"] == "BTC/USD"
        put_derived()
        data = hear(client)["data"]
        assert (data["symbol"], data["price"]) == ("BTC/RUB", 8040)
        (derived,) = rate_board.read(["BTC/RUB"]).values()
        own = replace(derived, symbol="BTC/USD", derived_from=None, legs=())
        redis_client().publish(keys.channel("rates"), rate_board._encode(own))
        put_derived(price="8080")
        assert hear(client)["data"]["price"] == 8080


def test_page_shows_it_and_its_receipt(client):
    put_derived()
    rows = {row["symbol"]: row for row in decode(client.get("/board.json").content)["rows"]}
    receipt = client.get("/prices/btc-rub").content.decode()

    assert (rows["BTC/RUB"]["price"], rows["BTC/RUB"]["derived_from"]) == ("8040", "BTC/USD")
    assert rows["BTC/USD"]["derived_from"] is None
    assert "by trades of BTC/USD" in client.get("/").content.decode()
    assert "× 80 <small>cbr, rate of 2026-11-20, 24 h old" in receipt
