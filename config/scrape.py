"""GET /metrics: the counters of all processes, and gauges read from Redis at that moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from config.health import is_up
from config.state import Facts, read_facts_in_time
from ingestion.breaker import State

CIRCUIT_VALUES = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}


class RedisCollector(Collector):
    """What is true of all processes together; without Redis only that it is away."""

    def collect(self) -> Iterator[Metric]:
        facts = read_facts_in_time()
        connected = GaugeMetricFamily("oracle_redis_connected", "1 while Redis answers.")
        connected.add_metric((), facts is not None)
        yield connected
        if facts is not None:
            yield from _gauges(facts)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Everything, in the format that the scraper asks for."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=settings.METRICS_FOLDER)  # type: ignore[no-untyped-call]
    registry.register(RedisCollector())
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(registry), content_type=content_type)


def _gauges(facts: Facts) -> Iterator[Metric]:
    yield _gauge(
        "oracle_exchange_health",
        "1 while the exchange sends new tickers.",
        "exchange",
        ((name, is_up(feed, now_ms=facts.now_ms)) for name, feed in facts.feeds.items()),
    )
    yield _gauge(
        "oracle_circuit_state",
        "0 closed, 1 half open, 2 open.",
        "exchange",
        ((name, CIRCUIT_VALUES[circuit.state]) for name, circuit in facts.circuits.items()),
    )
    yield _gauge(
        "oracle_price_age_seconds",
        "Age of the oldest part of the price; absent while there is none.",
        "symbol",
        ((name, price.age_ms / 1_000) for name, price in facts.prices.items() if price),
    )
    yield _gauge(
        "oracle_trade_log_lag",
        "Seconds since the oldest batch of trades was logged that is not counted yet.",
        "exchange",
        ((name, lag_ms / 1_000) for name, lag_ms in facts.trade_lags_ms.items()),
    )
    waiting = GaugeMetricFamily(
        "oracle_candles_waiting", "Candles in Redis that are not stored yet."
    )
    waiting.add_metric((), facts.candles_waiting)
    yield waiting


def _gauge(name: str, help_text: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    gauge = GaugeMetricFamily(name, help_text, labels=(label,))
    for labelled, value in values:
        gauge.add_metric((labelled,), value)
    return gauge
