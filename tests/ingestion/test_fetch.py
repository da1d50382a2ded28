"""Fetching, with the one HTTP client faked; test_fetch_simulated does it for real."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import structlog

from ingestion import breaker, budget, fetch, http
from ingestion.adapter import Answer, Request
from ingestion.fetch import Outcome
from ingestion.http import FetchError
from ingestion.registry import ADAPTERS
from oracle import catalog, locks, metrics, ticker_book
from oracle.catalog import Catalog, CatalogListing
from oracle.ticker_book import Feed
from oracle.values import ErrorCode

NOW_MS = 1_790_000_000_000
SYMBOLS = ("BTCUSDT", "ETHUSDT", "XRPUSDT")
Reply = Callable[[Request], Answer]


def publish(exchange: str = "binance", symbols: tuple[str, ...] = SYMBOLS) -> None:
    listings = tuple(
        CatalogListing(exchange=exchange, exchange_symbol=name, symbol=name, quote="USDT")
        for name in symbols
    )
    catalog.publish(Catalog(exchanges=(exchange,), listings=listings))


def row(symbol: str, price: str = "100.5", **fields: Any) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "lastPrice": price,
        "volume": "10",
        "quoteVolume": "1005",
        "closeTime": NOW_MS - 50,
        **fields,
    }


def answer(body: Any, **fields: Any) -> Answer:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(body=text, **{"received_ms": NOW_MS + 80, **fields})


class Exchange:
    """What stands in for the HTTP client: records what is asked, answers as told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Request]] = []
        self.reply: Reply = lambda request: answer([row(name) for name in request.symbols])

    def send(self, exchange: str, base_url: str, request: Request, *, now_ms: int) -> Answer:
        self.asked.append((exchange, base_url, request))
        return self.reply(request)


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch) -> Exchange:
    fake = Exchange()
    monkeypatch.setattr(http, "send", fake.send)
    return fake


def run(second: int = 0, exchange: str = "binance") -> Outcome:
    return fetch.fetch_tickers(exchange, now_ms=NOW_MS + second * 1_000)


def errors(exchange: str, code: ErrorCode) -> float:
    return float(metrics.INGESTION_ERRORS.labels(exchange, code.value)._value.get())


def skipped(exchange: str, why: str) -> float:
    return float(metrics.INGESTION_SKIPPED.labels(exchange, why)._value.get())


def feed(exchange: str = "binance") -> Feed:
    return ticker_book.read_feeds([exchange])[exchange]


# --- what is stored ---


def test_fetch_tickers_stores_what_the_exchange_answered(exchange: Exchange) -> None:
    publish()
    assert run() == Outcome(exchange="binance", stored_count=3)
    quotes = ticker_book.read(["binance"])["binance"]
    assert quotes == {
        name: ticker_book.Quote(Decimal("100.5"), Decimal(10), Decimal(1005), NOW_MS - 50)
        for name in SYMBOLS
    }
    assert feed() == Feed(received_ms=NOW_MS + 80, changed_ms=NOW_MS + 80, as_of_ms=NOW_MS - 50)
    [(name, url, request)] = exchange.asked
    assert (name, url, request.symbols) == ("binance", "https://api.binance.com", SYMBOLS)


def test_fetch_tickers_bad_row_is_counted_and_named_and_its_neighbours_stored(
    exchange: Exchange,
) -> None:
    publish()
    exchange.reply = lambda request: answer([row("BTCUSDT"), row("ETHUSDT", "NaN")])
    before = {code: errors("binance", code) for code in ErrorCode}
    outcome = run()
    assert (outcome.stored_count, outcome.code) == (1, ErrorCode.BAD_PRICE)
    grown = {code for code in ErrorCode if errors("binance", code) == before[code] + 1}
    assert grown == {ErrorCode.BAD_PRICE, ErrorCode.NOT_RETURNED}
    assert feed().error == "BAD_PRICE"
    assert str(feed().detail).startswith("ETHUSDT BAD_PRICE: ")
    assert "XRPUSDT NOT_RETURNED: " in str(feed().detail)
    assert breaker.states(["binance"], now_ms=NOW_MS)["binance"].failure_count == 0


def test_fetch_tickers_clock_more_than_a_day_ahead_is_refused(exchange: Exchange) -> None:
    publish()
    tomorrow = row("ETHUSDT", closeTime=NOW_MS + 86_400_000 + 100)
    exchange.reply = lambda request: answer([row("BTCUSDT"), tomorrow, row("XRPUSDT")])
    outcome = run()
    assert (outcome.stored_count, outcome.code) == (2, ErrorCode.BAD_TIME)
    assert "ETHUSDT" not in ticker_book.read(["binance"])["binance"]


def test_fetch_tickers_no_good_row_at_all_is_a_failure_of_the_exchange(
    exchange: Exchange,
) -> None:
    publish()
    exchange.reply = lambda request: answer([row(name, "-1") for name in request.symbols])
    before = errors("binance", ErrorCode.BAD_PRICE)
    assert (run().stored_count, run(1).code) == (0, ErrorCode.BAD_PRICE)
    assert errors("binance", ErrorCode.BAD_PRICE) == before + 6
    assert breaker.states(["binance"], now_ms=NOW_MS)["binance"].failure_count == 2


def test_fetch_tickers_paused_and_overtaken_writes_nothing(exchange: Exchange) -> None:
    publish()

    def overtaken(request: Request) -> Answer:
        later = locks.claim_tick("fetch:binance", now_ms=NOW_MS + 9_000, every_ms=1_000)
        assert later is not None
        ticker_book.store("binance", [], digest="x", received_ms=NOW_MS, token=later.token)
        return answer([row(name) for name in request.symbols])

    exchange.reply = overtaken
    assert run().stored_count == 0
    assert ticker_book.read(["binance"])["binance"] == {}


# --- when nothing is asked ---


def test_fetch_tickers_exchange_not_in_the_catalogue_returns_at_once(exchange: Exchange) -> None:
    assert run() == Outcome(exchange="binance", skipped="disabled")
    publish("okx", ("BTC-USDT",))
    assert run() == Outcome(exchange="binance", skipped="disabled")
    publish("nobody", ("BTC-USDT",))
    assert run(exchange="nobody") == Outcome(exchange="nobody", skipped="disabled")
    assert exchange.asked == []


def test_fetch_tickers_two_beats_fetch_once_a_second(exchange: Exchange) -> None:
    publish()
    before = skipped("binance", "claimed")
    assert [run(second).skipped for second in (0, 0, 1, 1)] == [None, "claimed"] * 2
    assert (len(exchange.asked), skipped("binance", "claimed")) == (2, before + 2)


def test_fetch_tickers_is_skipped_while_the_one_before_runs(exchange: Exchange) -> None:
    publish()
    inner: list[Outcome] = []

    def slow(request: Request) -> Answer:
        inner.append(run(1))
        return answer([row(name) for name in request.symbols])

    exchange.reply = slow
    before = skipped("binance", "running")
    assert run().stored_count == 3
    assert inner == [Outcome(exchange="binance", skipped="running")]
    assert skipped("binance", "running") == before + 1
    exchange.reply = Exchange().reply
    assert run(2).stored_count == 3


def test_fetch_tickers_is_skipped_while_the_budget_is_spent(exchange: Exchange) -> None:
    publish()
    spent = Request(path="/x", weight=6_000, budget="weight")
    assert budget.spend(ADAPTERS["binance"], spent, now_ms=NOW_MS) is None
    assert run(1).skipped == "budget"
    assert run(60).skipped is None


def test_fetch_tickers_without_listings_asks_for_nothing(exchange: Exchange) -> None:
    publish(symbols=())
    assert run().skipped == "no_symbols"
    assert exchange.asked == []


# --- failures ---


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (FetchError(ErrorCode.TIMEOUT, "too slow"), ErrorCode.TIMEOUT),
        (FetchError(ErrorCode.CONNECTION, "reset"), ErrorCode.CONNECTION),
        (answer(b"<html>"), ErrorCode.UNREADABLE),
        (answer({"a": 1}, status=503), ErrorCode.BUSY),
        (answer({"code": 0, "msg": "restricted location"}, status=451), ErrorCode.BLOCKED),
    ],
)
def test_fetch_tickers_failures_are_counted_recorded_and_open_the_breaker(
    exchange: Exchange, reply: Answer | FetchError, code: ErrorCode
) -> None:
    def fail(request: Request) -> Answer:
        if isinstance(reply, FetchError):
            raise reply
        return reply

    publish()
    exchange.reply = fail
    before = errors("binance", code)
    with structlog.testing.capture_logs() as logs:
        outcomes = [run(second) for second in range(7)]
    assert [outcome.code for outcome in outcomes] == [code] * 5 + [None] * 2
    assert [outcome.skipped for outcome in outcomes] == [None] * 5 + ["breaker"] * 2
    assert errors("binance", code) == before + 5
    assert (feed().error, feed().failed_ms) == (code.value, NOW_MS + 4_000)
    assert [entry["event"] for entry in logs] == ["breaker opened"]


def test_fetch_tickers_breaker_recovers_by_one_probe(exchange: Exchange) -> None:
    publish()
    fine, exchange.reply = exchange.reply, lambda request: answer(b"<html>")
    for second in range(5):
        run(second)
    exchange.reply = fine
    with structlog.testing.capture_logs() as logs:
        seconds = [second for second in range(5, 70) if run(second).stored_count]
    assert seconds == list(range(64, 70))
    assert [entry["event"] for entry in logs] == ["breaker closed"]


def test_fetch_tickers_rate_limit_is_obeyed_and_is_no_failure(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)
    publish()
    fine = exchange.reply
    refusal = answer({"code": -1003, "msg": "slow"}, status=429, headers={"retry-after": "5"})
    exchange.reply = lambda request: refusal
    assert run().code == ErrorCode.RATE_LIMIT
    exchange.reply = fine
    assert [run(second).skipped for second in range(1, 7)] == ["blocked"] * 4 + [None] * 2
    assert breaker.states(["binance"], now_ms=NOW_MS)["binance"].failure_count == 0
    assert feed().error == "RATE_LIMIT"


def test_fetch_tickers_ip_ban_is_not_probed_before_it_ends(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)
    publish()
    fine = exchange.reply
    until = f"banned until {NOW_MS + 180_080}"
    exchange.reply = lambda request: answer({"code": -1003, "msg": until}, status=418)
    assert run().code == ErrorCode.IP_BAN
    exchange.reply = fine
    asked = [second for second in range(1, 190) if run(second).skipped is None]
    assert asked == list(range(180, 190))


def test_fetch_tickers_busy_with_retry_after_waits_and_is_a_failure(exchange: Exchange) -> None:
    publish()
    exchange.reply = lambda request: answer(b"{}", status=503, headers={"retry-after": "9"})
    assert (run().code, run(1).skipped) == (ErrorCode.BUSY, "blocked")
    assert breaker.states(["binance"], now_ms=NOW_MS)["binance"].failure_count == 1


@pytest.mark.parametrize(
    "refusal", [{"code": -1121, "msg": "Invalid symbol."}, {"code": -1100, "msg": "Illegal"}]
)
def test_fetch_tickers_one_unknown_symbol_is_left_out_and_the_others_go_on(
    exchange: Exchange, refusal: dict[str, Any]
) -> None:
    names = (*SYMBOLS, "LUNAUSDT", "SOLUSDT")
    publish(symbols=names)

    def reply(request: Request) -> Answer:
        if "LUNAUSDT" in request.symbols:
            return answer(refusal, status=400)
        return answer([row(name) for name in request.symbols])

    exchange.reply = reply
    outcomes = [run(second) for second in range(12)]
    assert outcomes[-1] == Outcome(exchange="binance", stored_count=4)
    assert {outcome.code for outcome in outcomes[:4]} <= {
        ErrorCode.UNKNOWN_SYMBOL,
        ErrorCode.BAD_REQUEST,
        None,
    }
    assert feed().detail == "left out, unknown to the exchange: LUNAUSDT"
    assert breaker.states(["binance"], now_ms=NOW_MS)["binance"].failure_count == 0


def test_fetch_tickers_bad_request_for_all_symbols_at_once_blames_no_symbol(
    exchange: Exchange,
) -> None:
    publish("okx", ("BTC-USDT", "ETH-USDT"))
    refusal = answer({"code": "51000", "msg": "Parameter instType error", "data": []})
    exchange.reply = lambda request: refusal
    assert [run(second, "okx").skipped for second in range(6)] == [None] * 5 + ["breaker"]


# --- where it goes ---


@pytest.mark.parametrize("name", ADAPTERS)
def test_base_url_live_never_is_the_simulator(name: str, settings: Any) -> None:
    settings.SIMULATOR_URL = ""
    settings.EXCHANGE_REST_URLS = {name: ""}
    assert fetch.base_url(ADAPTERS[name]) == ADAPTERS[name].REST_URL.rstrip("/")
    settings.EXCHANGE_REST_URLS = {name: "https://elsewhere.test/"}
    assert fetch.base_url(ADAPTERS[name]) == "https://elsewhere.test"
    settings.SIMULATOR_URL = "http://127.0.0.1:9/"
    assert fetch.base_url(ADAPTERS[name]).startswith(f"http://127.0.0.1:9/{name}")
