"""GET /metrics: counters of all processes, gauges from Redis."""

from __future__ import annotations

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ingestion import breaker
from oracle import catalog, keys
from oracle.catalog import Catalog, CatalogSymbol
from oracle.connection import redis_client
from oracle.values import ErrorCode
from tests.oracle.test_price_board import price, publish


def scrape(client):
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain")
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }


@pytest.fixture
def published():
    symbol = CatalogSymbol(name="BTC/USDT", base="BTC", quote="USDT", min_sources=1)
    catalog.publish(Catalog(exchanges=("kraken",), symbols=(symbol,)))


def test_metrics_state_of_the_oracle(client, published, settings):
    at = time.time_ns() // 1_000_000 - 5_000
    publish(price(now_ms=at), now_ms=at)
    for _ in range(settings.BREAKER_FAILURES):
        breaker.record_failure("kraken", code=ErrorCode.TIMEOUT, now_ms=at)

    redis_client().xadd(keys.trades_stream("kraken"), {"trades": b""}, id=f"{at}-0")

    found = scrape(client)

    assert found["oracle_redis_connected", ()] == 1
    assert found["oracle_exchange_health", ("kraken",)] == 0
    assert found["oracle_circuit_state", ("kraken",)] == 2
    assert found["oracle_candles_waiting", ()] == 1
    assert 5 <= found["oracle_trade_log_lag", ("kraken",)] < 15
    assert 5 <= found["oracle_price_age_seconds", ("BTC/USDT",)] < 15


def test_metrics_redis_away_says_so_and_keeps_the_counters(client, settings):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"

    found = scrape(client)

    assert found["oracle_redis_connected", ()] == 0
    assert not any(name == "oracle_price_age_seconds" for name, _ in found)
    assert any(name.startswith("django_http_requests") for name, _ in found)


def test_metrics_time_requests_by_view_and_status(client, published):
    before = scrape(client).get(("oracle_api_duration_seconds_count", ("404", "prices:one")), 0)
    client.get("/api/v1/prices/nope")
    client.get("/api/v1/prices/other-nope")

    found = scrape(client)

    assert found["oracle_api_duration_seconds_count", ("404", "prices:one")] == before + 2
    assert not any("nope" in label for _, labels in found for label in labels)


def test_metrics_open_metrics_for_who_asks(client):
    answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text"})

    assert answer["Content-Type"].startswith("application/openmetrics-text")
    assert answer.content.endswith(b"# EOF\n")


def test_metrics_is_read_only(client):
    assert client.post("/metrics").status_code == 405
