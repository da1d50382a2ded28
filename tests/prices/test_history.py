from decimal import Decimal

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction

from market.candles import to_datetime
from oracle import rate_board
from prices import history
from prices.history import Point
from prices.models import PriceHistory
from tests.oracle.test_rate_board import NOW, publish, rate

pytestmark = pytest.mark.django_db

D = Decimal
TICK = 10_000


def publish_ticks(*values, symbol="BTC/USDT"):
    for number, value in enumerate(values):
        at_ms = NOW + number * TICK
        publish(rate(value, symbol=symbol, at_ms=at_ms), tick_ms=at_ms)


def fill(*values, symbol="BTC/USDT"):
    publish_ticks(*values, symbol=symbol)
    history.save()


def point(value, number):
    return Point(
        time_ms=NOW + number * TICK,
        price=D(value),
        method="vwap",
        sources=("okx",),
        volume=D("1.5"),
    )


def read(**options):
    window = {"from_ms": NOW, "to_ms": NOW + 100 * TICK, "limit": 10}
    return history.history("BTC/USDT", **{**window, **options})


def test_rates_are_saved_to_the_last_digit():
    publish_ticks("0.00000123")
    publish(rate("3", symbol="ETH/USDT"), tick_ms=NOW + TICK)
    assert history.save() == 2
    assert read() == [point("0.00000123", 0)]
    assert rate_board.unsaved(ticks=9).members == ()


def test_again_with_nothing_new_writes_nothing():
    fill("1")
    assert history.save() == 0
    publish(rate("2"), tick_ms=NOW)  # a tick is what it was first
    history.save()
    assert read() == [point("1", 0)]


def test_all_that_waited_is_saved(monkeypatch):
    monkeypatch.setattr(history, "TICKS_AT_ONCE", 2)
    publish_ticks(*map(str, range(1, 6)))
    assert history.save() == 5
    assert PriceHistory.objects.count() == 5


def test_a_database_that_is_away_loses_nothing(monkeypatch):
    publish_ticks("1", "2")

    def away(*args, **options):
        raise OperationalError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(PriceHistory.objects, "bulk_create", away)
        with pytest.raises(OperationalError):
            history.save()
    assert history.save() == 2


def test_dying_after_the_insert_changes_nothing(monkeypatch):
    publish_ticks("1", "2")

    def die(waiting):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(rate_board, "forget", die)
        with pytest.raises(SystemExit):
            history.save()
    history.save()
    assert read() == [point("2", 1), point("1", 0)]


def test_a_volume_too_large_for_the_table_is_unknown():
    publish(rate("1", volume=D("1e20")))
    history.save()
    assert read()[0].volume is None


def test_history_is_the_newest_first_of_a_half_open_window():
    fill("1", "2", "3", "4")
    fill("9", symbol="ETH/USDT")
    assert read(to_ms=NOW + 3 * TICK) == [point("3", 2), point("2", 1), point("1", 0)]
    assert read(from_ms=NOW + 1) == [point("4", 3), point("3", 2), point("2", 1)]
    assert read(limit=1) == [point("4", 3)]


def ends(from_ms=NOW, to_ms=NOW + 100 * TICK):
    return history.ends("BTC/USDT", from_ms=from_ms, to_ms=to_ms)


def test_ends_are_the_first_rate_of_the_window_and_its_last():
    fill("3", "5", "4")
    assert ends() == (point("3", 0), point("4", 2))
    assert ends(to_ms=NOW + 2 * TICK) == (point("3", 0), point("5", 1))
    assert ends(from_ms=NOW + 2 * TICK) == (point("4", 2), point("4", 2))


def test_there_are_no_ends_where_there_are_no_rates():
    assert ends() is None


@pytest.mark.parametrize("order", ["time", "-time"])
def test_reading_uses_the_primary_key_from_both_ends(order):
    fill("1")  # a hypertable without a row has nothing to plan
    rows = history._window("BTC/USDT", NOW, NOW + TICK).order_by(order)[:10]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    plan = rows.explain()
    assert "Index Scan" in plan
    assert "Sort" not in plan


@pytest.mark.parametrize("wrong", [{"price": D(0)}, {"method": "guess"}, {"volume": D(-1)}])
def test_the_table_refuses_what_is_no_rate(wrong):
    row = {"symbol": "X/Y", "time": to_datetime(NOW), "price": D(1), "method": "vwap"}
    with pytest.raises(IntegrityError), transaction.atomic():
        PriceHistory.objects.create(**{**row, "sources": [], **wrong})


def test_a_row_is_named_by_symbol_and_time():
    fill("1")
    assert str(PriceHistory.objects.get()) == "BTC/USDT 2027-01-15 08:00:00"
