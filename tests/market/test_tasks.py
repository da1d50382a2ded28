import time

import pytest
from django.db import OperationalError

from market import flush, rollups, tasks
from market.models import Candle1d, Candle1m, RollupDue
from oracle import candle_book, leader, metrics
from oracle.catalog import CatalogReader
from oracle.leader import Leader
from tests.factories import ListingFactory
from tests.oracle.test_price_board import price, publish

pytestmark = pytest.mark.django_db


@pytest.fixture
def waiting_candle():
    at_ms = time.time_ns() // 1_000_000 - 300_000
    publish(price("5", now_ms=at_ms), now_ms=at_ms)


@pytest.fixture(autouse=True)
def _resigned():
    yield
    leader.candidate("catalog").resign()


def test_flush_writes_what_waits_once_a_minute_for_all_workers(waiting_candle):
    tasks.flush_candles()
    assert Candle1m.objects.count() == 1
    at_ms = time.time_ns() // 1_000_000 - 200_000
    publish(price("6", now_ms=at_ms), now_ms=at_ms, token="2".zfill(16))
    tasks.flush_candles()
    assert candle_book.waiting() == 1


def test_a_flush_that_fails_is_counted_and_nothing_is_lost(waiting_candle, monkeypatch):
    def away(**options):
        raise OperationalError("the database is away")

    monkeypatch.setattr(flush, "flush_candles", away)
    before = metrics.FLUSH_ERRORS._value.get()
    tasks.flush_candles()
    assert metrics.FLUSH_ERRORS._value.get() == before + 1
    assert candle_book.waiting() == 1


def test_only_the_leader_publishes_the_catalogue():
    ListingFactory()
    other = Leader("catalog")
    other.campaign()
    tasks.publish_catalog()
    assert CatalogReader().current().listings == ()
    other.resign()
    tasks.publish_catalog()
    assert len(CatalogReader().current().listings) == 1


def test_a_flush_is_rolled_up(waiting_candle):
    tasks.flush_candles()
    assert not RollupDue.objects.exists()
    assert Candle1d.objects.count() == 1


def test_a_roll_up_that_fails_fails_no_flush_and_the_next_task_does_it(waiting_candle, monkeypatch):
    def away(**options):
        raise OperationalError("the database is away")

    before = metrics.ROLLUP_ERRORS._value.get()
    with monkeypatch.context() as patched:
        patched.setattr(rollups, "refresh_due", away)
        tasks.flush_candles()
    assert metrics.ROLLUP_ERRORS._value.get() == before + 1
    assert (Candle1m.objects.count(), RollupDue.objects.count()) == (1, 1)
    tasks.refresh_rollups()
    assert (Candle1d.objects.count(), RollupDue.objects.count()) == (1, 0)
