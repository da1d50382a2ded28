from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from django.db import OperationalError, connection, connections

from market import candles, flush
from market.candles import FencedOutError, Written, to_datetime
from market.models import Candle1m, Fence
from market.series import read_page
from oracle import candle_book, heartbeat, keys, metrics
from oracle.connection import redis_client
from oracle.jsontext import decode
from tests.oracle.test_price_board import NOW, price, publish

pytestmark = pytest.mark.django_db

D = Decimal
MINUTE = 60_000
LATER = NOW + 10 * MINUTE


tokens = count(1)


def put(value, at_ms, symbol="BTC/USDT"):
    one = price(value, symbol=symbol, now_ms=at_ms)
    assert publish(one, now_ms=at_ms, token=f"{next(tokens):016d}") == 1


def fill(minutes=1, symbol="BTC/USDT", value="0.00000123"):
    for minute in range(minutes):
        put(value, NOW + minute * MINUTE, symbol)


def run(token="1", now_ms=LATER):
    return flush.flush_candles(now_ms=now_ms, token=token.zfill(16))


def note(key):
    text: Any = redis_client().get(key)
    return decode(text)


def rows():
    return list(Candle1m.objects.order_by("symbol", "time"))


def test_a_minute_that_is_over_is_written_to_the_last_digit():
    fill()
    assert run() == flush.Flushed(created=1)
    [row] = rows()
    assert (row.symbol, row.time, row.close) == ("BTC/USDT", to_datetime(NOW), D("0.00000123"))
    assert (row.volume, row.trade_count, row.revision) == (None, None, 0)
    assert (row.sources, row.source_count) == (["binance", "okx"], 2)
    assert candle_book.waiting() == 0


@pytest.mark.django_db(transaction=True)
def test_a_flush_does_not_wait_for_a_lock_without_an_end(monkeypatch):
    fill()
    monkeypatch.setattr(flush, "STATEMENT_SECONDS", 0.1)
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            other.set_autocommit(False)
            cursor.execute("LOCK TABLE ohlcv_1m")
            with pytest.raises(OperationalError, match="statement timeout"):
                run()
            other.rollback()
    finally:
        other.close()

    assert run() == flush.Flushed(created=1)


def test_the_open_minute_stays_in_redis():
    fill()
    assert run(now_ms=NOW + MINUTE + 2_000) == flush.Flushed()
    assert candle_book.waiting() == 1


def test_a_flush_takes_everything_that_waited(monkeypatch):
    monkeypatch.setattr(flush, "CANDLES_PER_BATCH", 2)
    fill(5)
    fill(4, symbol="ETH/USDT")
    assert run() == flush.Flushed(created=9)
    assert len(rows()) == 9


def test_again_with_nothing_new_changes_nothing():
    fill()
    run("1")
    redis_client().zadd(keys.open_candles(), {f"BTC/USDT|{NOW}": NOW})
    assert run("2") == flush.Flushed()
    assert rows()[0].revision == 0


def test_a_late_price_revises_its_candle():
    fill()
    run("1")
    before = metrics.CANDLE_REVISIONS._value.get()
    put("9", NOW + 59_000)
    assert run("2") == flush.Flushed(revised=1)
    [row] = rows()
    assert (row.high, row.close, row.revision) == (D(9), D(9), 1)
    assert metrics.CANDLE_REVISIONS._value.get() == before + 1


def test_a_flush_does_not_touch_the_volume_that_trades_wrote():
    fill()
    run("1")
    Candle1m.objects.update(volume=D("1.5"), trade_count=3)
    put("9", NOW + 59_000)
    run("2")
    [row] = rows()
    assert (row.close, row.volume, row.trade_count) == (D(9), D("1.5"), 3)


def test_when_the_commit_fails_nothing_is_forgotten(monkeypatch):
    fill(3)

    def away(batch, known):
        raise OperationalError("the database is away")

    monkeypatch.setattr(candles, "upsert", away)
    with pytest.raises(OperationalError):
        run("1")
    monkeypatch.undo()
    assert candle_book.waiting() == 3
    assert run("2") == flush.Flushed(created=3)


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_is_killed_within_copy_fails_with_djangos_error(monkeypatch):
    fill(2)
    make = candles._row
    other = connections.create_connection("default")

    def kill(*one):
        ours = connection.connection.info.backend_pid
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [ours])
        return make(*one)

    monkeypatch.setattr(candles, "_row", kill)
    try:
        with pytest.raises(OperationalError):
            run("1")
    finally:
        other.close()
        connection.close()
    monkeypatch.undo()
    assert run("2") == flush.Flushed(created=2)


def test_when_the_worker_dies_after_the_commit_the_next_flush_finishes(monkeypatch):
    fill(2)

    def die(batch, *, now_ms):
        raise SystemExit

    monkeypatch.setattr(candle_book, "mark_flushed", die)
    with pytest.raises(SystemExit):
        run("1")
    monkeypatch.undo()
    assert candle_book.waiting() == 2
    assert run("2") == flush.Flushed()
    assert candle_book.waiting() == 0
    assert [row.revision for row in rows()] == [0, 0]


def test_a_candle_that_changes_during_the_flush_is_left_for_the_next(monkeypatch):
    fill()
    upsert = candles.upsert

    def upsert_then_change(batch, known):
        written = upsert(batch, known)
        put("9", NOW + 59_000)
        return written

    monkeypatch.setattr(candles, "upsert", upsert_then_change)
    assert run("1") == flush.Flushed(created=1, waiting=1)
    monkeypatch.undo()
    assert run("2") == flush.Flushed(revised=1)
    assert rows()[0].close == 9


def test_a_flusher_that_was_paused_writes_nothing():
    fill()
    candles.claim_fence(flush.RESOURCE, "2".zfill(16))
    with pytest.raises(FencedOutError):
        run("1")
    assert rows() == []
    assert candle_book.waiting() == 1
    assert Fence.objects.get().token == "2".zfill(16)


def test_the_last_flush_is_noted_in_all_and_of_each_symbol():
    fill(2)
    run()
    assert note(keys.flush_last()) == {
        "open_ms": NOW + MINUTE,
        "at_ms": LATER,
        "candles": 2,
    }
    assert note(keys.flush_last("BTC/USDT")) == {
        "open_ms": NOW + MINUTE,
        "at_ms": LATER,
    }
    assert heartbeat.last(["flush"])["flush"]["created"] == 2


def test_lag_is_the_age_of_the_oldest_minute_that_waits():
    assert flush.lag_ms(now_ms=LATER) == 0
    fill(2)
    assert flush.lag_ms(now_ms=NOW + 3 * MINUTE) == 2 * MINUTE


def test_an_upsert_of_nothing_is_nothing():
    assert candles.upsert([], {}) == Written()


# --- reading --------------------------------------------------------------------------------------


def page(**options):
    wanted = {"from_ms": NOW, "to_ms": LATER, "limit": 100, "now_ms": LATER, **options}
    return read_page("BTC/USDT", resolution="1m", **wanted)


def test_stored_and_open_candles_are_one_series():
    fill(2)
    run(now_ms=NOW + MINUTE + 3_000)  # the first minute only
    found = page(now_ms=NOW + MINUTE + 30_000)
    assert [(each.open_ms, each.closed) for each in found.candles] == [
        (NOW, True),
        (NOW + MINUTE, False),
    ]


def test_a_page_is_the_first_of_the_range_and_says_where_the_next_begins():
    fill(5)
    run()
    first = page(limit=2)
    assert [each.open_ms for each in first.candles] == [NOW, NOW + MINUTE]
    assert first.next_ms == NOW + 2 * MINUTE
    assert page(from_ms=first.next_ms, limit=3).next_ms is None


def test_pages_meet_where_redis_begins():
    fill(4)
    run(now_ms=NOW + 2 * MINUTE + 3_000)  # two minutes stored, two in Redis
    first = page(limit=2)
    assert first.next_ms == NOW + 2 * MINUTE
    second = page(from_ms=first.next_ms, limit=2)
    assert [each.open_ms for each in second.candles] == [NOW + 2 * MINUTE, NOW + 3 * MINUTE]


def test_the_end_of_a_range_is_exclusive():
    fill(3)
    run()
    assert len(page(to_ms=NOW + 2 * MINUTE).candles) == 2


def test_a_revised_candle_in_redis_is_read_with_the_stored_volume():
    fill()
    run()
    Candle1m.objects.update(volume=D("1.5"))
    put("9", NOW + 59_000)
    [one] = page().candles
    assert (one.close, one.volume) == (D(9), D("1.5"))


def test_reading_uses_the_primary_key():
    fill()
    run()  # a hypertable without a row has nothing to plan
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(
            "EXPLAIN SELECT * FROM ohlcv_1m WHERE symbol = 'BTC/USDT' "
            "AND time >= now() - interval '1 day' ORDER BY time LIMIT 1000"
        )
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Index Scan" in plan
    assert "Sort" not in plan


def test_a_flush_that_commits_while_a_page_is_read_hides_no_candle(monkeypatch):
    fill(3)
    read_waiting = candle_book.unflushed

    def read_then_flush(symbol, **window):
        found = read_waiting(symbol, **window)
        run()
        return found

    monkeypatch.setattr(candle_book, "unflushed", read_then_flush)
    assert [each.open_ms for each in page().candles] == [NOW, NOW + MINUTE, NOW + 2 * MINUTE]
