"""Fetching, over HTTP, from the simulated exchanges and all their faults."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from ingestion import breaker, fetch, http
from ingestion.breaker import State
from ingestion.fetch import Outcome
from ingestion.registry import ADAPTERS
from oracle import catalog, ticker_book
from oracle.catalog import Catalog, CatalogListing
from oracle.ticker_book import Feed
from oracle.values import ErrorCode

QUOTE = dict.fromkeys(ADAPTERS, "USDT") | {"upbit": "KRW", "coinbase": "USD", "kraken": "USD"}


def publish(*names: str, more: tuple[str, ...] = ()) -> None:
    listings = tuple(
        CatalogListing(exchange=name, exchange_symbol=native, symbol=native, quote=QUOTE[name])
        for name in names
        for native in (*listed(name), *more)
    )
    catalog.publish(Catalog(exchanges=names, listings=listings))


def feed(name: str) -> Feed:
    return ticker_book.read_feeds([name])[name]


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    command = [sys.executable, "-m", "ingestion.simulator", "--port", "0", "--seed", "7"]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.terminate()


@pytest.fixture
def simulated(simulator: str, settings: Any) -> Iterator[str]:
    settings.SIMULATOR_URL = simulator
    settings.HTTP_TOTAL_TIMEOUT_MS = 5_000
    yield simulator
    requests.delete(f"{simulator}/control/faults", timeout=5).raise_for_status()
    for name in ADAPTERS:
        for session in http._idle_sessions(name):
            session.close()
        http._idle_sessions(name).clear()


def listed(name: str) -> tuple[str, ...]:
    return tuple(ADAPTERS[name].to_native(f"{base}/{QUOTE[name]}") for base in ("BTC", "ETH"))


def suffer(simulator: str, name: str, fault: str, **value: Any) -> None:
    body = {"exchange": name, "fault": fault, **value}
    requests.post(f"{simulator}/control/faults", json=body, timeout=5).raise_for_status()


def fetch_now(name: str, *, second: int = 0) -> Outcome:
    return fetch.fetch_tickers(name, now_ms=time.time_ns() // 1_000_000 + second * 1_000)


@pytest.mark.parametrize("name", ADAPTERS)
def test_simulated_exchange_is_stored(simulated: str, name: str) -> None:
    publish(name)
    assert fetch_now(name) == Outcome(exchange=name, stored_count=2)
    quotes = ticker_book.read([name])[name]
    assert quotes.keys() == set(listed(name))
    assert all(quote.price > 0 and quote.volume for quote in quotes.values())


# Kraken's quote volume is a product with a price, and is read first.
WRONG_NUMBERS = {ErrorCode.BAD_PRICE, ErrorCode.BAD_VOLUME}
WRONG_ROWS = {*WRONG_NUMBERS, ErrorCode.BAD_ROW, ErrorCode.MISSING_FIELD, ErrorCode.NOT_RETURNED}


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize(
    ("fault", "value", "codes"),
    [
        ("latency", 5_000, {ErrorCode.TIMEOUT}),
        ("half_open", None, {ErrorCode.TIMEOUT}),
        ("disconnect", None, {ErrorCode.CONNECTION}),
        ("rate_limit", 5, {ErrorCode.RATE_LIMIT}),
        ("error", 503, {ErrorCode.BUSY}),
        ("error", 500, {ErrorCode.BUSY}),
        ("garbage", "html", {ErrorCode.UNREADABLE}),
        ("garbage", "half", {ErrorCode.UNREADABLE}),
        ("garbage", "bytes", {ErrorCode.UNREADABLE}),
        ("garbage", "empty", {ErrorCode.UNREADABLE}),
        ("garbage", "null", {ErrorCode.UNREADABLE}),
        ("garbage", "types", WRONG_ROWS | {ErrorCode.UNREADABLE, ErrorCode.EXCHANGE_ERROR}),
        ("garbage", "nan", {*WRONG_NUMBERS, ErrorCode.UNREADABLE}),
        ("garbage", "negative", WRONG_NUMBERS),
    ],
)
def test_simulated_fault_is_coded_and_stores_nothing(
    simulated: str, settings: Any, name: str, fault: str, value: Any, codes: set[ErrorCode]
) -> None:
    settings.HTTP_TOTAL_TIMEOUT_MS = 300 if ErrorCode.TIMEOUT in codes else 5_000
    publish(name)
    suffer(simulated, name, fault, **({} if value is None else {"value": value}))
    outcome = fetch_now(name)
    assert outcome.code in codes, outcome
    assert (outcome.stored_count, ticker_book.read([name])[name]) == (0, {})
    assert feed(name).error == outcome.code


def test_simulated_clock_days_ahead_is_refused(simulated: str) -> None:
    publish("okx")
    suffer(simulated, "okx", "clock_skew", value=3 * 86_400_000)
    assert fetch_now("okx").code == ErrorCode.BAD_TIME


def test_simulated_clock_a_minute_ahead_does_not_make_prices_young(simulated: str) -> None:
    publish("okx")
    suffer(simulated, "okx", "clock_skew", value=60_000)
    assert fetch_now("okx").stored_count == 2
    received_ms = feed("okx").received_ms
    assert received_ms is not None
    assert all(q.as_of_ms <= received_ms for q in ticker_book.read(["okx"])["okx"].values())


def test_simulated_frozen_exchange_does_not_look_changed(simulated: str) -> None:
    publish("kraken")
    suffer(simulated, "kraken", "freeze")
    assert fetch_now("kraken").stored_count == 2
    first = feed("kraken")
    assert fetch_now("kraken", second=2).stored_count == 2
    second = feed("kraken")
    assert (first.changed_ms, first.received_ms != second.received_ms) == (second.changed_ms, True)


def test_simulated_breaker_opens_and_recovers_and_the_others_never_notice(simulated: str) -> None:
    publish("okx", "bybit")
    suffer(simulated, "okx", "disconnect")
    for second in range(6):
        fetch_now("okx", second=second)
        assert fetch_now("bybit", second=second).stored_count == 2
    now_ms = time.time_ns() // 1_000_000
    assert breaker.states(["okx"], now_ms=now_ms)["okx"].state == State.OPEN
    requests.delete(f"{simulated}/control/faults", timeout=5).raise_for_status()
    assert fetch_now("okx", second=50).skipped == "breaker"
    assert fetch_now("okx", second=70).stored_count == 2
    assert breaker.states(["okx"], now_ms=now_ms)["okx"].state == State.CLOSED


@pytest.mark.parametrize("name", ["binance", "kraken", "upbit"])
def test_simulated_unknown_symbol_is_isolated(simulated: str, name: str) -> None:
    unknown = ADAPTERS[name].to_native(f"NOSUCH/{QUOTE[name]}")
    publish(name, more=(unknown,))
    outcomes = [fetch_now(name, second=second) for second in range(9)]
    assert outcomes[0].code == ErrorCode.UNKNOWN_SYMBOL
    assert outcomes[-1] == Outcome(exchange=name, stored_count=2)
    assert feed(name).detail == f"left out, unknown to the exchange: {unknown}"
