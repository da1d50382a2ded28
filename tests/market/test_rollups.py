"""The same on tables and on continuous aggregates: it is the server that decides which."""

from decimal import Decimal
from random import Random

import pytest
from django.db import connection, connections, transaction

from market import aggregates, rollups
from market.models import RollupDue
from market.ranges import TimeRange
from oracle.values import RESOLUTIONS
from tests.market.rollup_rows import (
    DIGIT,
    MINUTE,
    expected,
    random_row,
    random_rows,
    store,
    stored,
)

pytestmark = pytest.mark.django_db(transaction=True)

HOUR, DAY = 60 * MINUTE, 1_440 * MINUTE
START = 1_735_689_600_000  # 2025-01-01
NOW = START + 20 * DAY
BTC, PEPE = "BTC/USDT", "PEPE/USDT"


def minutes(start_ms, count):
    return TimeRange(start_ms=start_ms, end_ms=start_ms + count * MINUTE)


def note(*touched):
    with transaction.atomic():
        rollups.note_touched(touched)


def due():
    notes = (
        (row.symbol, int(row.start.timestamp() * 1_000), int(row.end.timestamp() * 1_000))
        for row in RollupDue.objects.all()
    )
    return sorted(notes, key=str)


def roll_up(**options):
    return rollups.refresh_due(now_ms=NOW, **options)


def settle():
    """Store in the aggregates what is live in them, so that what changes has to be refreshed."""
    if not aggregates.in_use():
        return
    with connection.cursor() as cursor:
        for table in rollups.TABLES.values():
            cursor.execute("CALL refresh_continuous_aggregate(%s, NULL, NULL)", [table])


def test_tables_are_those_of_the_resolutions_above_1m():
    assert list(rollups.TABLES) == list(RESOLUTIONS)[1:]
    assert set(rollups.TABLES.values()) == {"ohlcv_5m", "ohlcv_15m", "ohlcv_1h", "ohlcv_4h"} | {
        "ohlcv_1d"
    }


@pytest.mark.parametrize("seed", range(3))
def test_rollups_are_their_minutes_to_the_last_digit(seed):
    rows = random_rows(seed, symbols=(BTC, PEPE), start_ms=START + 7 * HOUR, minutes=2_500)
    store(rows)
    note((BTC, minutes(START, 4_000)), (PEPE, minutes(START, 4_000)))
    assert roll_up() == 2
    assert stored() == expected(rows)
    assert due() == []


@pytest.mark.parametrize("seed", range(3))
def test_what_changed_is_rolled_up_anew_whatever_its_age(seed):
    rows = random_rows(seed, symbols=(BTC, PEPE), start_ms=START, minutes=3_000)
    store(rows)
    note((None, minutes(START, 3_000)))
    roll_up()
    settle()
    random = Random(seed)
    changed = {
        (BTC, START + minute * MINUTE): random_row(random, scale=8)
        for minute in random.sample(range(3_000), 5)
    }
    store(changed)
    note(*((symbol, minutes(open_ms, 1)) for symbol, open_ms in changed))
    roll_up()
    assert stored() == expected(rows | changed)


def test_a_refresh_of_aggregates_has_longer_than_a_workers_statements(monkeypatch):
    def limit():
        with connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            return cursor.fetchone()[0]

    found = []
    monkeypatch.setattr(aggregates, "in_use", lambda: True)
    monkeypatch.setattr(aggregates, "refresh", lambda _: found.append(limit()))
    note((BTC, minutes(START, 10)))
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '60s'")
    try:
        roll_up()
        assert (found, limit()) == (["10min"], "1min")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET statement_timeout")


def test_a_bucket_whose_minutes_were_taken_back_is_none():
    rows = random_rows(4, symbols=(BTC, PEPE), start_ms=START, minutes=20)
    store(rows)
    note((None, minutes(START, 20)))
    roll_up()
    settle()
    gone = {key for key in rows if key[0] == BTC and START <= key[1] < START + 10 * MINUTE}
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM ohlcv_1m WHERE symbol = %s AND time < %s", [BTC, "2025-01-01T00:10:00Z"]
        )
    note((BTC, minutes(START, 10)))
    roll_up()
    assert stored() == expected({key: row for key, row in rows.items() if key not in gone})


def test_a_backfill_before_what_is_rolled_up_is_rolled_up():
    old = random_rows(1, symbols=(PEPE,), start_ms=START, minutes=600)
    new = random_rows(2, symbols=(BTC, PEPE), start_ms=START + 3 * DAY, minutes=600)
    store(new)
    note((None, minutes(START + 3 * DAY, 600)))
    roll_up()
    settle()
    store(old)
    note((PEPE, minutes(START, 600)))
    roll_up()
    assert stored() == expected(new | old)


def test_a_touched_minute_of_all_symbols_is_one_of_each():
    rows = random_rows(3, symbols=(BTC, PEPE, "A/B"), start_ms=START, minutes=5)
    store(rows)
    note((None, minutes(START, 1)))
    roll_up()
    assert stored() == expected(rows)


def test_a_tiny_price_keeps_its_digits():
    row = random_row(Random(1), scale=2)
    tiny = Decimal("0.00000123")
    one = {
        (BTC, START): type(row)(
            open=tiny,
            high=tiny,
            low=tiny,
            close=tiny,
            volume=Decimal(3),
            quote_volume=DIGIT,
            vwap=None,
            trade_count=1,
            source_count=1,
            sources=("okx",),
            revision=0,
        )
    }
    store(one)
    note((BTC, minutes(START, 1)))
    roll_up()
    [day] = stored()["1d"].values()
    assert (day.close, day.quote_volume, day.vwap) == (tiny, DIGIT, Decimal(0))


def test_minutes_in_a_row_are_one_note():
    note(
        *((BTC, minutes(START + each * MINUTE, 1)) for each in (3, 1, 2, 9)), (None, minutes(0, 2))
    )
    assert due() == [
        (BTC, START + MINUTE, START + 4 * MINUTE),
        (BTC, START + 9 * MINUTE, START + 10 * MINUTE),
        (None, 0, 2 * MINUTE),
    ]


def test_a_note_covers_whole_minutes():
    note((BTC, TimeRange(start_ms=START + 30_000, end_ms=START + 30_001)))
    assert due() == [(BTC, START, START + MINUTE)]


def test_nothing_noted_is_nothing():
    note()
    assert (due(), roll_up()) == ([], 0)


def test_due_from_is_the_earliest_note_of_the_symbol_or_of_all():
    note((BTC, minutes(START + HOUR, 60)), (PEPE, minutes(START, 1)), (None, minutes(NOW, 1)))
    assert rollups.due_from(BTC, from_ms=START, to_ms=NOW) == START + HOUR
    assert rollups.due_from(BTC, from_ms=START + 90 * MINUTE, to_ms=NOW) == START + HOUR
    assert rollups.due_from(BTC, from_ms=START, to_ms=START + HOUR) is None
    assert rollups.due_from(BTC, from_ms=START + 2 * HOUR, to_ms=NOW) is None
    assert rollups.due_from(BTC, from_ms=START + 2 * HOUR, to_ms=NOW + 1) == NOW


def test_a_note_that_is_rolled_back_with_its_candles_is_none():
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        rollups.note_touched([(BTC, minutes(START, 1))])
        _ = 1 // 0
    assert due() == []


def test_a_long_range_is_worked_off_in_slices(monkeypatch):
    monkeypatch.setattr(rollups, "CANDLES_PER_SLICE", 100)
    monkeypatch.setattr(rollups, "DAYS_PER_REFRESH", 1)
    rows = random_rows(4, symbols=(BTC, PEPE), start_ms=START, minutes=3_000)
    store(rows)
    note((None, minutes(START, 3_000)), (PEPE, minutes(START, 100)))
    settle()
    assert roll_up() == 2
    assert stored() == expected(rows)


def test_what_is_left_when_the_time_is_over_stays_noted(monkeypatch):
    monkeypatch.setattr(rollups, "CANDLES_PER_SLICE", 120)
    monkeypatch.setattr(rollups, "DAYS_PER_REFRESH", 1)
    rows = random_rows(5, symbols=(BTC,), start_ms=START, minutes=4_000)
    store(rows)
    settle()
    note((BTC, minutes(START, 4_000)))
    assert roll_up(seconds=0) == 0
    [(_, start_ms, end_ms)] = due()
    assert START < start_ms < end_ms == START + 4_000 * MINUTE
    roll_up()
    assert stored() == expected(rows)


def test_the_newest_note_comes_first(monkeypatch):
    monkeypatch.setattr(rollups, "CANDLES_PER_SLICE", 60)
    note((BTC, minutes(START, 1_000)), (BTC, minutes(START + 5 * DAY, 60)))
    assert roll_up(seconds=0) == 1
    assert [start_ms for _, start_ms, _ in due()] == [START]


def test_the_newest_notes_are_found_without_reading_all():
    with connection.cursor() as cursor:
        cursor.execute(
            'INSERT INTO rollup_due (symbol, start, "end") '
            "SELECT %s, day, day + interval '1 day' "
            "FROM generate_series(timestamptz '2010-01-01Z', '2024-01-01Z', '1 day') AS day",
            [BTC],
        )
        cursor.execute("ANALYZE rollup_due")
        cursor.execute(f"EXPLAIN (FORMAT JSON) {rollups._NEWEST}", [100])
        [[[found]]] = cursor.fetchall()
    [scan] = found["Plan"]["Plans"]
    assert (scan["Node Type"], scan["Index Name"]) == ("Index Scan", "rollup_due_newest")


def test_a_refresh_that_dies_is_done_again(monkeypatch):
    rows = random_rows(6, symbols=(BTC,), start_ms=START, minutes=400)
    store(rows)
    settle()
    changed = random_rows(7, symbols=(BTC,), start_ms=START, minutes=400)
    store(changed)
    note((BTC, minutes(START, 400)))

    def die(ids):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(rollups, "_forget", die)
        with pytest.raises(KeyboardInterrupt):
            roll_up()
    assert len(due()) == 1
    roll_up()
    assert stored() == expected(rows | changed)


def test_minutes_past_their_time_may_be_gone_and_their_rollups_stay(settings):
    rows = random_rows(8, symbols=(BTC,), start_ms=START, minutes=2 * 1_440)
    store(rows)
    note((BTC, minutes(START, 2 * 1_440)))
    roll_up()
    settle()
    before = stored()
    settings.RETENTION_DAYS = 20
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM ohlcv_1m WHERE time < '2025-01-02'")
    note((BTC, minutes(START, 1_440)))
    assert rollups.refresh_due(now_ms=START + 21 * DAY) == 1
    assert stored() == before


def test_what_is_kept_of_a_range_is_rolled_up(settings):
    settings.RETENTION_DAYS = 20
    rows = random_rows(9, symbols=(BTC,), start_ms=START, minutes=3 * 1_440)
    store(rows)
    settle()
    changed = random_rows(10, symbols=(BTC,), start_ms=START, minutes=3 * 1_440)
    store(changed)
    note((BTC, minutes(START, 3 * 1_440)))
    rollups.refresh_due(now_ms=START + 20 * DAY)
    kept = expected(rows | changed)["1d"]
    days = stored()["1d"]
    assert {key: days[key] for key in kept if key[1] > START} == {
        key: row for key, row in kept.items() if key[1] > START
    }
    assert days.get((BTC, START)) != kept[BTC, START]


def test_two_refreshers_and_a_flush_in_between_end_as_one(monkeypatch):
    """The slower reads its minutes, and only then may the other one begin."""
    if aggregates.in_use():
        pytest.skip("TimescaleDB keeps its own account, and its own locks")
    rows = random_rows(11, symbols=(BTC,), start_ms=START, minutes=100)
    store(rows)
    note((BTC, minutes(START, 100)))
    other = connections.create_connection("default")
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [rollups._LOCK])
            monkeypatch.setattr(rollups, "STATEMENT_SECONDS", 0.1)
            with pytest.raises(Exception, match="statement timeout"):
                roll_up()
        other.rollback()
    finally:
        other.close()
    assert len(due()) == 1
    roll_up()
    assert stored() == expected(rows)
