"""The candles of a run, read from the database as arrays."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from django.db import connection

from backtests import data, job_orders, jobs
from backtests.job_orders import Order
from backtests.models import JobEvent
from backtests.work import JobError, Running, StoppedError
from ingestion.models import SymbolRequest
from market import rollups
from market.candles import to_datetime
from market.coverage import INDEX, Series, mark
from market.models import DataRevision, ExchangeCandle
from market.ranges import TimeRange
from tests.backtests.series import HOUR_MS, START_MS, walk
from tests.backtests.stored import SYMBOL, hours, nobody, rows, store

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("artifacts_dir")]

BARS = 50
OURS = Series(exchange=INDEX, symbol=SYMBOL, timeframe="1h")
THEIRS = Series(exchange="okx", symbol=SYMBOL, timeframe="1h")
WHOLE = TimeRange(start_ms=START_MS, end_ms=START_MS + BARS * HOUR_MS)
NOW_MS = WHOLE.end_ms + HOUR_MS
CANDLES = walk(BARS, seed=3, price=1e-6)
FIELDS = ("time_ms", "open", "high", "low", "close", "volume")


def store_theirs(count: int = BARS) -> None:
    names = ("open", "high", "low", "close", "volume")
    ExchangeCandle.objects.bulk_create(
        ExchangeCandle(
            exchange="okx",
            symbol=SYMBOL,
            timeframe="1h",
            time=time,
            **dict(zip(names, values, strict=True)),
        )
        for time, *values in list(rows(CANDLES))[:count]
    )
    mark(THEIRS, WHOLE)


def running() -> Running:
    job_orders.enqueue(Order(type="tune"))
    held = jobs.claim("worker")
    assert held is not None
    return Running(claim=held)


def prepare(series: Series = OURS, wanted: TimeRange = WHOLE, **options: Any) -> data.Dataset:
    given: dict[str, Any] = {"now_ms": NOW_MS, "running": running()} | options
    return data.prepare(series, wanted, **given)


@pytest.mark.parametrize("series", [OURS, THEIRS], ids=["index", "exchange"])
def test_prepare_reads_what_is_stored(series: Series):
    store(CANDLES)
    store_theirs()
    found = prepare(series)
    for name in FIELDS:
        array = getattr(found.candles, name)
        # NUMERIC keeps 18 decimals.
        np.testing.assert_allclose(array, getattr(CANDLES, name), rtol=1e-11, err_msg=name)
        assert array.flags.c_contiguous


def test_prepare_volume_that_nobody_knows_is_none():
    store(CANDLES)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {hours()} SET volume = NULL")
    assert not prepare().candles.volume.any()


def test_prepare_takes_only_its_series_and_half_open_range():
    store(walk(BARS + 10, seed=3))
    store(CANDLES, symbol="ETH/USDT")
    wanted = TimeRange(start_ms=START_MS + 5 * HOUR_MS, end_ms=START_MS + 10 * HOUR_MS)
    found = prepare(wanted=wanted)
    assert found.candles.time_ms.tolist() == list(range(wanted.start_ms, wanted.end_ms, HOUR_MS))


def test_prepare_pins_the_revision_and_says_so():
    store(CANDLES)
    found = prepare()
    row = DataRevision.objects.get()
    assert (row.row_count, row.checksum) == (BARS, found.fingerprint.checksum)
    assert JobEvent.objects.get().meta == {"revision": row.checksum[:16], "row_count": BARS}


def test_prepare_end_that_has_not_come_is_cut():
    store(CANDLES)
    found = prepare(now_ms=START_MS + 10 * HOUR_MS + 60_000)
    assert (found.whole.end_ms, len(found.candles)) == (START_MS + 10 * HOUR_MS, 10)


def test_prepare_range_without_data_says_which():
    with pytest.raises(JobError, match=r"no candles: index BTC/USDT 1h \[2023-11-15T00:00Z") as it:
        prepare()
    assert (
        "is empty; 50 of the range's 50 are missing: `python manage.py backfill BTC/USDT --from "
        "2023-11-15T00:00 --to 2023-11-17T02:00` fetches"
    ) in str(it.value)
    assert not DataRevision.objects.exists()


def test_prepare_range_that_has_not_begun_says_so():
    with pytest.raises(JobError, match="no candle of 1h has closed"):
        prepare(now_ms=START_MS)


def test_prepare_too_few_candles_say_how_many():
    store(walk(3, seed=1))
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {hours()} WHERE time > %s", [to_datetime(START_MS)])
    with pytest.raises(JobError, match="needs 3 bars"):
        prepare()


def test_prepare_candles_that_change_meanwhile_are_read_another_time(
    monkeypatch: pytest.MonkeyPatch,
):
    store(CANDLES)
    read = data._read

    def disturbed(*args: Any) -> Any:
        found = read(*args)
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE {hours()} SET volume = volume + 1 WHERE time = %s", [first])
        return found

    first = to_datetime(START_MS)
    monkeypatch.setattr(data, "_read", disturbed)
    with pytest.raises(JobError, match="changed while they were read") as caught:
        prepare()
    assert caught.value.retryable


@pytest.mark.parametrize("count", [BARS - 1, BARS + 1])
def test_prepare_other_count_than_a_moment_ago_is_read_another_time(count: int):
    store(CANDLES)
    with pytest.raises(JobError, match="changed while they were read") as caught:
        data._read(OURS, WHOLE, count, nobody())
    assert caught.value.retryable


def test_prepare_rollups_that_are_due_are_made_first():
    minutes = replace(walk(300, seed=5), time_ms=START_MS + 60_000 * np.arange(300))
    store(minutes, table="ohlcv_1m")
    whole = TimeRange(start_ms=START_MS, end_ms=START_MS + 5 * HOUR_MS)
    rollups.note_touched([(SYMBOL, whole)])
    found = prepare(wanted=whole).candles
    np.testing.assert_allclose(found.close, minutes.close[59::60])


def test_prepare_told_to_stop_stops():
    store_theirs()
    one = running()
    one.stop.set()
    with pytest.raises(StoppedError):
        prepare(THEIRS, running=one)
    with pytest.raises(StoppedError):  # in the middle of the rows
        data.read(THEIRS, WHOLE, now_ms=NOW_MS, running=one)
    with pytest.raises(StoppedError):
        data._read(THEIRS, WHOLE, BARS, one)
    assert len(prepare(THEIRS).candles) == BARS  # the connection is as good as before


def test_prepare_holds_little_more_than_the_arrays_that_it_makes(
    monkeypatch: pytest.MonkeyPatch,
):
    count = 100_000
    numbers = ", ".join(["1::float8"] * 5)
    query = f"SELECT {START_MS} + n::int8 * {HOUR_MS}, {numbers} FROM generate_series(1, %s) AS n"
    monkeypatch.setattr(data, "_query", lambda *_: (query, [count]))
    tracemalloc.start()
    try:
        candles = data._read(OURS, WHOLE, count, nobody())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    arrays = sum(getattr(candles, name).nbytes for name in FIELDS)
    assert (len(candles), arrays) == (count, count * 48)
    assert candles.time_ms[[0, -1]].tolist() == [START_MS + n * HOUR_MS for n in (1, count)]
    assert peak < 1.3 * arrays


@pytest.mark.parametrize("volume", ["NULL::float8", "1::float4"])
def test_prepare_rows_that_are_not_as_agreed_are_refused(
    volume: str, monkeypatch: pytest.MonkeyPatch
):
    query = f"SELECT {START_MS}::int8, {'1::float8, ' * 4}{volume} FROM generate_series(1, 3)"
    monkeypatch.setattr(data, "_query", lambda *_: (query, []))
    with pytest.raises(ValueError, match="not of eight bytes a field"):
        data._read(OURS, WHOLE, 3, nobody())


def test_prepare_unknown_timeframe_of_an_exchange_is_no_retry():
    with pytest.raises(JobError) as caught:
        prepare(Series(exchange="nasdaq", symbol=SYMBOL, timeframe="1h"))
    assert not caught.value.retryable


def test_prepare_of_a_fold_is_no_request_of_its_own():
    store(CANDLES)
    prepare()
    asked = SymbolRequest.objects.count()
    job_orders.enqueue(Order(type="wfo"))
    parent = jobs.claim("one")
    assert parent is not None
    jobs.wait_for(parent, [Order(type="tune")])
    child = jobs.claim("two")
    assert child is not None
    prepare(running=Running(claim=child))
    assert SymbolRequest.objects.count() == asked == 1


def test_prepare_of_a_later_attempt_is_no_other_request():
    store(CANDLES)
    first = running()
    prepare(running=first)
    prepare(running=Running(claim=replace(first.claim, attempt=2)))
    assert SymbolRequest.objects.get().requested_by == f"job {first.claim.job_id}"


def test_prepare_range_that_is_half_empty_is_told():
    store(CANDLES)
    found = prepare(wanted=replace(WHOLE, start_ms=WHOLE.start_ms - BARS * HOUR_MS))
    event = JobEvent.objects.get()
    assert (event.level, event.message.split(",")[0]) == ("warn", "data pinned: 50 of 100 candles")
    assert (found.lineage["row_count"], found.lineage["expected_count"]) == (BARS, 2 * BARS)


def test_lacking_is_said_of_the_index_only_and_where_something_is():
    assert "; 1 of the range's 50 are missing" in data.lacking(OURS, WHOLE, BARS - 1)
    assert data.lacking(OURS, WHOLE, BARS) == data.lacking(THEIRS, WHOLE, BARS - 1) == ""


def test_drifted_says_how():
    store(CANDLES)
    before = prepare()
    ExchangeCandle.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {hours()} SET close = close + %s", [Decimal("1e-10")])
    after = prepare()
    assert data.drifted(before.lineage, before.fingerprint) is None
    text = data.drifted(before.lineage, after.fingerprint)
    assert text is not None and "with as many rows" in text
