"""Candles read at every resolution equal all minutes folded, whatever is pending."""

import json
from dataclasses import replace
from decimal import Decimal
from random import Random

import pytest
from django.db import connection, transaction

from market import (
    aggregates,
    flush,
    newest,
    rollup_stores,
    rollups,
    row_forms,
    series,
    timescale,
    volumes,
)
from market.candles import BackfilledCandle, to_datetime, upsert_backfilled
from market.ranges import TimeRange
from oracle.values import RESOLUTIONS
from tests.factories import Candle1mFactory
from tests.market.rollup_rows import DIGIT, Row, expected, random_row, random_rows, store
from tests.market.test_flush import put
from tests.oracle.test_trade_totals import put as put_trades

pytestmark = pytest.mark.django_db(transaction=True)

D = Decimal
BTC, PEPE = "BTC/USDT", "PEPE/USDT"
MINUTE, HOUR, DAY = RESOLUTIONS["1m"], RESOLUTIONS["1h"], RESOLUTIONS["1d"]
START = 1_799_971_200_000  # a UTC midnight
ROLLED_UP = tuple(rollups.TABLES)
MINUTES = 2_000


def note(symbol, *starts):
    with transaction.atomic():
        ranges = [TimeRange(start_ms=start, end_ms=start + MINUTE) for start in starts]
        rollups.note_touched([(symbol, each) for each in ranges])


def read(resolution, *, from_ms=0, to_ms=START + 9 * DAY, limit=100_000, now_ms=START + 9 * DAY):
    span = {"from_ms": from_ms, "to_ms": to_ms, "limit": limit, "now_ms": now_ms}
    page = series.read_page(BTC, resolution=resolution, **span)
    assert_told_as_json(resolution, **span)
    return list(page.candles)


def assert_told_as_json(resolution, **span):
    """What is read as texts is the same as JSON, digit by digit."""
    texts = series.read_rows(BTC, resolution=resolution, **span)
    told = series.read_in_form(row_forms.JSON, BTC, resolution=resolution, **span)
    assert told.next_ms == texts.next_ms
    for (time, text), row in zip(told.rows, texts.rows, strict=True):
        values = [None if value is None else str(value) for value in row]
        wanted = dict(zip(row_forms.COLUMNS, values, strict=True))
        assert time == row[0]
        assert json.loads(text, parse_float=str, parse_int=str) == {**wanted, "closed": True}


def walk(resolution, *, from_ms, to_ms, limit):
    found: list[series.StoredCandle] = []
    start: int | None = from_ms
    while start is not None:
        page = series.read_page(
            BTC, resolution=resolution, from_ms=start, to_ms=to_ms, limit=limit, now_ms=to_ms
        )
        assert len(page.candles) <= limit
        found += page.candles
        start = page.next_ms
    return found


def as_rows(candles):
    """What both the reader and the fold by hand say."""
    return {
        each.open_ms: (
            *(each.open, each.high, each.low, each.close, each.volume, each.quote_volume),
            *(each.trade_count, each.source_count, each.revision),
        )
        for each in candles
    }


def by_hand(minutes, resolution):
    return {
        open_ms: (
            *(row.open, row.high, row.low, row.close, row.volume, row.quote_volume),
            *(row.trade_count, row.source_count, row.revision),
        )
        for (_, open_ms), row in expected(minutes)[resolution].items()
    }


def everything_pending(seed):
    """A day and a half of minutes, rolled up; then changes that no rollup has seen.

    Answers the minutes that there are in all, by symbol and time.
    """
    random = Random(seed)
    days = random_rows(seed, symbols=(BTC, PEPE), start_ms=START, minutes=MINUTES)
    store(days)
    note(None, *(open_ms for _, open_ms in days))
    rollups.refresh_due(now_ms=START + 9 * DAY)
    # Revised and late minutes: noted, not rolled up.
    changed = {
        (BTC, START + random.randrange(MINUTES) * MINUTE): random_row(random, scale=4)
        for _ in range(random.choice((0, 1, 40)))
    }
    store(changed)
    for _, open_ms in changed:
        note(random.choice((None, BTC)), open_ms)
    # Minutes that wait in Redis: some are stored too, some are newer than all that is.
    minutes = {key: row for key, row in (days | changed).items() if key[0] == BTC}
    waiting = random.choice((0, 1, 90))
    for number in range(waiting):
        open_ms = START + (MINUTES - waiting // 2 + number) * MINUTE
        price = D(random.randint(1, 10**6)).scaleb(-5)
        put(str(price), open_ms)
        minutes[BTC, open_ms] = priced(minutes.get((BTC, open_ms)), price)
    for _ in range(random.choice((0, 3))):
        open_ms = START + random.randrange(MINUTES - 100, MINUTES) * MINUTE
        put_trades("1.25", quote_volume="77.5", trade_count=1_000, minute_ms=open_ms)
        if (BTC, open_ms) in minutes:
            minutes[BTC, open_ms] = traded(minutes[BTC, open_ms], open_ms)
    return minutes


def priced(held, price):
    prices = {"open": price, "high": price, "low": price, "close": price}
    sources = ("binance", "okx")
    if held is not None:
        return replace(held, **prices, sources=sources)
    return Row(
        **prices, volume=None, quote_volume=None, vwap=None, trade_count=None, sources=sources,
        source_count=2, revision=0,
    )  # fmt: skip


def traded(held, open_ms):
    [sums] = [each for key, each in totals(open_ms).items()]
    return replace(
        held,
        volume=sums.volume,
        quote_volume=sums.quote_volume,
        vwap=sums.vwap,
        trade_count=sums.trade_count,
    )


def totals(open_ms):
    return volumes.read([(BTC, open_ms)]).known


@pytest.mark.parametrize("seed", range(6))
def test_a_page_is_all_minutes_folded_whatever_is_pending(seed):
    minutes = everything_pending(seed)
    random = Random(seed)

    for resolution in ROLLED_UP:
        whole = read(resolution)
        assert as_rows(whole) == by_hand(minutes, resolution)
        for candle, row in zip(whole, expected(minutes)[resolution].values(), strict=True):
            assert (candle.vwap is None) == (row.vwap is None)
            assert abs((candle.vwap or 0) - (row.vwap or 0)) <= DIGIT
        # Paged, it is the same candles once each, from the first that opens in the range.
        step = RESOLUTIONS[resolution]
        from_ms = START + random.randrange(DAY)
        to_ms = START + DAY + random.randrange(DAY)
        pages = walk(resolution, from_ms=from_ms, to_ms=to_ms, limit=random.choice((1, 7, 100)))
        inside = [each for each in whole if from_ms <= each.open_ms < to_ms]
        assert [replace(each, closed=True) for each in pages] == inside
        count = random.choice((1, 5, 50))
        last = newest.read_last(
            BTC, resolution=resolution, to_ms=to_ms, count=count, now_ms=START + 9 * DAY
        )
        before = [each.open_ms for each in whole if each.open_ms < to_ms]
        assert [row[0] * 1_000 for row in last] == before[-count:]
        offset = random.choice((0, 1, 9))
        page = newest.read_newest(
            BTC, resolution=resolution, limit=count, offset=offset, now_ms=START + 9 * DAY
        )
        backwards = [each.open_ms for each in reversed(whole)]
        assert page.total == len(whole)
        assert [row[0] * 1_000 for row in page.rows] == backwards[offset : offset + count]
        assert {each.open_ms % step for each in whole} == {0}


@pytest.mark.parametrize("seed", range(3))
def test_minutes_are_what_a_flush_would_store(seed):
    minutes = everything_pending(seed)

    before = read("1m")
    flush.flush_candles(now_ms=START + 9 * DAY, token="9".zfill(16))

    assert as_rows(before).keys() == {open_ms for _, open_ms in minutes}
    assert [replace(each, revision=0) for each in before] == [
        replace(each, revision=0) for each in read("1m")
    ]


@pytest.mark.parametrize("seed", range(3))
def test_rolling_up_changes_no_answer(seed):
    everything_pending(seed)

    before = {resolution: read(resolution) for resolution in ROLLED_UP}
    rollups.refresh_due(now_ms=START + 9 * DAY)

    assert {resolution: read(resolution) for resolution in ROLLED_UP} == before


def test_a_backfilled_minute_keeps_its_volume_until_its_price_is_flushed():
    candle = BackfilledCandle(
        symbol=BTC, open_ms=START, open=D(5), high=D(5), low=D(5), close=D(5), volume=D(900),
        quote_volume=D(4500), vwap=D(5), trade_count=3, sources=("kraken",),
    )  # fmt: skip
    with transaction.atomic():
        upsert_backfilled([candle], overwrite=False)
    put_trades("1", quote_volume="5", trade_count=1, minute_ms=START)
    late = read("1m")
    put("7", START)
    flushed = read("1m")

    assert [(each.close, each.volume) for each in late] == [(5, 900)]
    assert [(each.close, each.volume) for each in flushed] == [(7, 1)]


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_a_candle_is_closed_when_its_end_has_come(resolution):
    Candle1mFactory(time=to_datetime(START))
    end = START + RESOLUTIONS[resolution]
    note(BTC, START)

    assert [each.closed for each in read(resolution, now_ms=end - 1)] == [False]
    assert [each.closed for each in read(resolution, now_ms=end)] == [True]


@pytest.mark.parametrize("resolution", ROLLED_UP)
def test_the_first_candle_is_the_first_that_opens_in_the_range(resolution):
    step = RESOLUTIONS[resolution]
    for number in range(3):
        Candle1mFactory(time=to_datetime(START + number * step))
        note(BTC, START + number * step)

    def opens(from_ms, to_ms):
        return [each.open_ms for each in read(resolution, from_ms=from_ms, to_ms=to_ms)]

    assert opens(START, START + 1) == [START]
    assert opens(START + 1, START + step) == []
    assert opens(START + 1, START + step + 1) == [START + step]
    assert opens(START + step, START + 2 * step) == [START + step]


def test_an_empty_series_has_no_candles():
    assert [read(resolution) for resolution in RESOLUTIONS] == [[]] * 6
    assert newest.read_last(BTC, resolution="1d", to_ms=DAY, count=5, now_ms=DAY) == []


def test_rows_are_all_of_them_page_by_page(monkeypatch):
    monkeypatch.setattr(series, "PAGE_ROWS", 7)
    everything_pending(1)
    span = {"from_ms": START, "to_ms": START + DAY, "now_ms": START + 9 * DAY}

    found = list(series.rows(BTC, resolution="1h", **span))

    assert found == read("1h", from_ms=START, to_ms=START + DAY)
    assert len(found) == 24


# --- plans ----------------------------------------------------------------------------------------


@pytest.fixture
def many(resolution):
    """So many rows of a resolution that a plan for few would be another one; where they are."""
    store = rollup_stores.read()[series.TABLES[resolution]]
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {store.relation} (symbol, time, open, high, low, close, source_count, "
            "sources, revision) SELECT 'C' || s || '/USDT', "
            "timestamptz '2024-01-01Z' + n * interval '1 minute' * %s, 2, 3, 1, 2, 1, "
            "'{okx}', 0 FROM generate_series(1, 4) AS s, generate_series(0, 20000) AS n",
            [RESOLUTIONS[resolution] // MINUTE],
        )
        cursor.execute(f"ANALYZE {store.relation}")
    return store


def plan(statement, parameters):
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
        [[[found]]] = cursor.fetchall()
    return found["Plan"]


def nodes(found):
    yield found["Node Type"], found.get("Index Name", "")
    for inner in found.get("Plans", ()):
        yield from nodes(inner)


@pytest.mark.parametrize("form", [row_forms.TEXTS, row_forms.JSON], ids=["texts", "json"])
@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_a_page_is_read_by_an_index_and_no_further(many, resolution, form):
    times = to_datetime(1_704_067_200_000), to_datetime(START)
    statement = series.page_statement(form, "C2/USDT", many, times, limit=1_001)

    used = list(nodes(plan(*statement)))

    assert {kind for kind, _ in used} <= {"Limit", "Result", "Custom Scan", "Index Scan"}
    if not timescale.is_hypertable("ohlcv_1m"):
        assert used == [("Limit", ""), ("Index Scan", f"{many.relation}_pkey")]


@pytest.mark.timescale
@pytest.mark.parametrize("stored_days", range(3))
def test_what_an_aggregate_holds_and_what_it_does_not_are_one_series(stored_days):
    """Each aggregate stored up to a time of its own, and minutes changed on both sides of it."""
    if not aggregates.in_use():
        pytest.skip("the test database is none of TimescaleDB (DATABASE_URL)")
    random = Random(stored_days)
    minutes = random_rows(stored_days, symbols=(BTC,), start_ms=START, minutes=3 * 1_440)
    store(minutes)
    with connection.cursor() as cursor:
        for table in rollups.TABLES.values():
            end_ms = START + stored_days * DAY + random.randrange(DAY)
            cursor.execute(
                "CALL refresh_continuous_aggregate(%s, NULL, %s)", [table, to_datetime(end_ms)]
            )
    changed = {
        (BTC, START + random.randrange(3 * 1_440) * MINUTE): random_row(random, scale=4)
        for _ in range(9)
    }
    store(changed)
    note(BTC, *(open_ms for _, open_ms in changed))

    for resolution in ROLLED_UP:
        assert as_rows(read(resolution)) == by_hand(minutes | changed, resolution)
        span = {"from_ms": START, "to_ms": START + 9 * DAY}
        assert as_rows(walk(resolution, **span, limit=100)) == by_hand(
            minutes | changed, resolution
        )
