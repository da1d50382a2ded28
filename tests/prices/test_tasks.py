from types import SimpleNamespace

import pytest
from django.db import OperationalError

from oracle import catalog, heartbeat, ticker_book
from oracle.catalog import Catalog, CatalogListing, CatalogSymbol
from prices import tasks
from prices.models import PriceHistory
from prices.rate import RateWriter
from tests.oracle.test_rate_board import publish, rate
from tests.oracle.test_ticker_book import NOW, ticker


def test_one_tick_a_second_for_all_workers(monkeypatch):
    catalog.publish(
        Catalog(
            exchanges=("binance",),
            symbols=(CatalogSymbol(name="BTC/USDT", base="BTC", quote="USDT", min_sources=1),),
            listings=(
                CatalogListing(
                    exchange="binance", exchange_symbol="BTCUSDT", symbol="BTC/USDT", quote="USDT"
                ),
            ),
        )
    )
    ticker_book.store("binance", [ticker()], digest="a", received_ms=NOW, token="0" * 16)
    ticked = []
    for at_ms in (NOW + 500, NOW + 900, NOW + 1_100):
        clock = SimpleNamespace(time_ns=lambda at_ms=at_ms: at_ms * 1_000_000)
        monkeypatch.setattr(tasks, "time", clock)
        tasks.update_index()
        ticked.append(heartbeat.last(["index"])["index"]["at_ms"])
    assert ticked == [NOW + 500, NOW + 500, NOW + 1_100]


def test_one_rate_tick_every_ten_seconds_for_all_workers(monkeypatch):
    ticked = []
    monkeypatch.setattr(RateWriter, "tick", lambda self, *, now_ms, token: ticked.append(now_ms))
    for at_ms in (NOW + 500, NOW + 900, NOW + 10_500):
        clock = SimpleNamespace(time_ns=lambda at_ms=at_ms: at_ms * 1_000_000)
        monkeypatch.setattr(tasks, "time", clock)
        tasks.publish_rates()
    assert ticked == [NOW + 500, NOW + 10_500]


@pytest.mark.django_db
def test_rates_are_saved_when_the_database_is_there_again(monkeypatch):
    publish(rate())

    def away(*args, **options):
        raise OperationalError("the database is away")

    before = tasks.SAVE_ERRORS._value.get()
    with monkeypatch.context() as patch:
        patch.setattr(PriceHistory.objects, "bulk_create", away)
        tasks.save_rates()
    assert (PriceHistory.objects.count(), tasks.SAVE_ERRORS._value.get()) == (0, before + 1)
    tasks.save_rates()
    assert PriceHistory.objects.count() == 1
