"""Fingerprints of data, on a real database."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from market import revisions, rollup_stores, rollups
from market.candles import epoch_ms, to_datetime
from market.coverage import INDEX, Series
from market.models import DataRevision, ExchangeCandle
from market.ranges import TimeRange
from market.revisions import Drift, Fingerprint, StaleRollupError
from market.rollup_stores import Store
from oracle.values import RESOLUTIONS
from tests.factories import FIRST_CANDLE, Candle1mFactory

pytestmark = pytest.mark.django_db

SERIES = Series(exchange="okx", symbol="BTC/USDT", timeframe="5m")
OURS = Series(exchange=INDEX, symbol="BTC/USDT", timeframe="1m")
STEP_MS = 300_000
START_MS = epoch_ms(FIRST_CANDLE)
WHOLE = TimeRange(start_ms=START_MS, end_ms=START_MS + 10 * STEP_MS)
NOW_MS = WHOLE.end_ms
ROW = {"open": "42150.5", "high": "42180.30", "low": "42145", "close": "42170.2", "volume": "1.25"}
LINE = (
    "{},42150.5000000000,42180.3000000000,42145.0000000000,42170.2000000000,1.2500000000\n".format
)


def put(number: int, series: Series = SERIES, **other: Any) -> None:
    ExchangeCandle.objects.create(
        exchange=series.exchange,
        symbol=series.symbol,
        timeframe=series.timeframe,
        time=to_datetime(START_MS + number * STEP_MS),
        **{name: Decimal(text) for name, text in (ROW | other).items()},
    )


def compute(series: Series = SERIES, whole: TimeRange = WHOLE) -> Fingerprint:
    return revisions.compute(series, whole, now_ms=NOW_MS)


def of(text: str) -> Fingerprint:
    checksum = hashlib.sha256(text.encode()).hexdigest()
    return Fingerprint(row_count=text.count("\n"), checksum=checksum)


def test_compute_is_sha256_of_the_canonical_lines() -> None:
    put(1)
    put(0, low="0.00000123")
    second = LINE("2024-01-01T12:05:00Z")
    first = LINE("2024-01-01T12:00:00Z").replace("42145.0000000000", "0.0000012300")
    assert compute() == of(first + second)


def test_compute_of_nothing() -> None:
    assert compute() == of("")


def test_compute_takes_only_its_series_and_half_open_range() -> None:
    put(0)
    alone = compute()
    put(10)
    put(-1)
    for field, value in (("exchange", "kraken"), ("symbol", "ETH/USDT"), ("timeframe", "1m")):
        fields = {"exchange": "okx", "symbol": "BTC/USDT", "timeframe": "5m", field: value}
        put(0, Series(**fields))
    assert compute() == alone


@pytest.mark.parametrize("field", ROW)
def test_compute_sees_a_changed_digit_of_every_column(field: str) -> None:
    put(0)
    before = compute()
    ExchangeCandle.objects.update(**{field: Decimal(ROW[field]) + Decimal("1E-10")})
    assert before.row_count == compute().row_count
    assert before.checksum != compute().checksum


def test_compute_sees_digits_beyond_the_tenth_decimal() -> None:
    tiny = dict.fromkeys(("open", "high", "low", "close"), "0.000000000012345678")
    put(0, SERIES, **tiny)
    before = compute()
    assert before == of(
        LINE("2024-01-01T12:00:00Z")
        .replace("42150.5000000000", tiny["open"])
        .replace("42180.3000000000", tiny["open"])
        .replace("42145.0000000000", tiny["open"])
        .replace("42170.2000000000", tiny["open"])
    )
    ExchangeCandle.objects.update(low=Decimal("0.000000000012345677"))
    assert compute() != before


def test_compute_sees_a_row_that_is_gone_or_moved() -> None:
    put(0)
    put(1)
    before = compute()
    ExchangeCandle.objects.filter(time=to_datetime(START_MS)).update(
        time=to_datetime(START_MS + 2 * STEP_MS)
    )
    assert compute() != before


def test_compute_that_takes_too_long_fails_as_djangos_own_statements_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(revisions, "_query", lambda *_: ("SELECT pg_sleep(5)", []))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '10ms'")
    with pytest.raises(OperationalError, match="statement timeout"), transaction.atomic():
        compute()


def test_compute_of_the_index_reads_our_own_candles() -> None:
    Candle1mFactory(time=FIRST_CANDLE, volume=Decimal("1.25"))
    Candle1mFactory(time=FIRST_CANDLE + timedelta(minutes=1))
    first, second = LINE("2024-01-01T12:00:00Z"), LINE("2024-01-01T12:01:00Z")
    # A volume nobody knows is not the volume 0.
    assert compute(OURS) == of(first + second.replace("1.2500000000", ""))


def test_compute_of_a_rollup_rolls_up_what_is_due_first() -> None:
    for minute in range(7):
        Candle1mFactory(time=FIRST_CANDLE + timedelta(minutes=minute), volume=Decimal("0.25"))
    rollups.note_touched([("BTC/USDT", WHOLE)])
    series = Series(exchange=INDEX, symbol="BTC/USDT", timeframe="5m")
    assert compute(series) == of(
        LINE("2024-01-01T12:00:00Z")
        + LINE("2024-01-01T12:05:00Z").replace("1.2500000000", "0.5000000000")
    )


def test_compute_of_a_rollup_that_stays_due_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rollups.note_touched([("BTC/USDT", WHOLE)])
    # Another process is at it, and holds its rows.
    monkeypatch.setattr(rollups, "refresh_due", lambda *, now_ms: 0)
    with pytest.raises(StaleRollupError, match="BTC/USDT 5m"):
        compute(Series(exchange=INDEX, symbol="BTC/USDT", timeframe="5m"))


def test_compute_of_a_rollup_that_is_stored_whole_reads_no_view(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Candle1mFactory(time=FIRST_CANDLE)
    ours = Series(exchange=INDEX, symbol="BTC/USDT", timeframe="5m")
    rollups.note_touched([("BTC/USDT", WHOLE)])
    whole = compute(ours)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE stored AS SELECT * FROM ohlcv_5m WITH NO DATA")

    def stored_until(until_ms: int) -> Fingerprint:
        stores = {"ohlcv_5m": Store(relation="stored", until_ms=until_ms)}
        monkeypatch.setattr(rollup_stores, "read", lambda: stores)
        return compute(ours)

    assert (whole.row_count, stored_until(WHOLE.end_ms)) == (1, of(""))
    assert stored_until(WHOLE.end_ms - STEP_MS) == whole


def test_pin_notes_a_range_once_and_brings_it_up_to_date() -> None:
    put(0)
    first = revisions.pin(SERIES, WHOLE, now_ms=NOW_MS)
    assert (first.row_count, first.checksum) == (1, compute().checksum)
    assert str(first) == compute().shown == first.checksum[:16]
    put(1)
    second = revisions.pin(SERIES, WHOLE, now_ms=NOW_MS + 1)
    assert (second.pk, second.row_count) == (first.pk, 2)
    assert second.computed_at == to_datetime(NOW_MS + 1)
    assert DataRevision.objects.count() == 1


def test_drift_of_the_same_data_is_none_and_of_other_data_says_what() -> None:
    put(0)
    revision = revisions.pin(SERIES, WHOLE, now_ms=NOW_MS)
    pinned = compute()
    assert revisions.drift(revision, now_ms=NOW_MS) is None
    put(1)
    found = compute()
    drift = revisions.drift(revision, now_ms=NOW_MS)
    assert drift == Drift(pinned=pinned, found=found)
    assert str(drift) == (
        f"data changed since it was pinned: {pinned.shown} is now {found.shown}, +1 of 1 rows"
    )


@pytest.mark.parametrize("timeframe", RESOLUTIONS)
def test_index_candles_of_every_timeframe_can_be_pinned(timeframe: str) -> None:
    series = replace(SERIES, exchange=INDEX, timeframe=timeframe)
    assert revisions.compute(series, WHOLE, now_ms=NOW_MS).row_count == 0
