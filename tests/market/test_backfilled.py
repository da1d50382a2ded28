"""Minutes made of the exchanges' candles beside those of live collection, in one table."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from msgspec.structs import replace

from market import candles
from market.candles import BackfilledCandle, Written, upsert, upsert_backfilled
from market.models import Candle1m
from oracle.candle_book import OpenCandle
from oracle.trade_totals import Sums
from tests.factories import Candle1mFactory

pytestmark = pytest.mark.django_db

AT = 1_700_000_040_000
MINUTE_MS = 60_000
D = Decimal
MADE = BackfilledCandle(
    symbol="BTC/USDT",
    open_ms=AT,
    open=D("100.1"),
    high=D("100.3"),
    low=D("100"),
    close=D("100.2"),
    volume=D("1.5"),
    quote_volume=None,
    vwap=None,
    trade_count=None,
    sources=("binance", "okx"),
)
LIVE = OpenCandle(
    symbol="BTC/USDT",
    open_ms=AT,
    open=D(7),
    high=D(9),
    low=D(6),
    close=D(8),
    sources=("kraken",),
    version="1",
)
SUMS = Sums(volume=D(2), quote_volume=D(16), trade_count=4)
COLUMNS = ("open", "high", "low", "close", "volume", "quote_volume", "trade_count", "sources")


def row(*more: str) -> tuple[Any, ...]:
    found: tuple[Any, ...] = Candle1m.objects.values_list(
        *COLUMNS, "backfilled", "revision", *more
    ).get()
    return found


MADE_ROW = (
    *(D("100.1"), D("100.3"), D(100), D("100.2"), D("1.5"), None, None, ["binance", "okx"]),
    True,
    0,
)
LIVE_PRICES = (D(7), D(9), D(6), D(8))


def test_upsert_backfilled_twice_changes_nothing() -> None:
    assert upsert_backfilled([MADE], overwrite=False) == Written(created=1)
    assert upsert_backfilled([MADE], overwrite=False) == Written()
    assert row() == MADE_ROW


def test_upsert_backfilled_replaces_what_was_backfilled() -> None:
    upsert_backfilled([MADE], overwrite=False)
    later = replace(MADE, close=D("100.3"), sources=("okx",))
    assert upsert_backfilled([later], overwrite=False) == Written(revised=1)
    assert row("source_count")[3:] == (D("100.3"), D("1.5"), None, None, ["okx"], True, 1, 1)


def test_upsert_backfilled_keeps_live_rows_unless_told() -> None:
    upsert([LIVE], {})
    before = row()
    assert upsert_backfilled([MADE], overwrite=False) == Written()
    assert row() == before
    assert upsert_backfilled([MADE], overwrite=True) == Written(revised=1)
    assert row() == (*MADE_ROW[:-1], 1)


def test_upsert_live_takes_a_backfilled_minute_over() -> None:
    upsert_backfilled([replace(MADE, trade_count=900)], overwrite=False)
    assert upsert([LIVE], {("BTC/USDT", AT): SUMS}) == Written(revised=1)
    assert row() == (*LIVE_PRICES, D(2), D(16), 4, ["kraken"], False, 1)


def test_upsert_live_of_equal_prices_is_live_from_then_on() -> None:
    made = replace(MADE, open=D(7), high=D(9), low=D(6), close=D(8), sources=("kraken",))
    upsert_backfilled([made], overwrite=False)
    upsert([LIVE], {})
    assert row() == (*LIVE_PRICES, D("1.5"), None, None, ["kraken"], False, 1)


def test_upsert_late_trades_of_a_minute_we_missed_leave_what_exchanges_say() -> None:
    upsert_backfilled([MADE], overwrite=False)
    assert upsert([], {("BTC/USDT", AT): SUMS}) == Written()
    assert row() == MADE_ROW


def test_upsert_backfilled_minute_stored_meanwhile_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upsert([LIVE], {})
    before = row()
    monkeypatch.setattr(candles, "_any_stored", lambda rows: False)
    assert upsert_backfilled([MADE], overwrite=False) == Written()
    assert row() == before


def test_upsert_backfilled_many_in_one_transaction() -> None:
    minutes = [replace(MADE, open_ms=AT + n * MINUTE_MS) for n in range(1_500)]
    with transaction.atomic():
        assert upsert_backfilled(minutes[::2], overwrite=False) == Written(created=750)
        assert upsert_backfilled(minutes, overwrite=False) == Written(created=750)
        assert upsert_backfilled([], overwrite=False) == Written()
    times = list(Candle1m.objects.order_by("time").values_list("time", flat=True))
    assert [candles.epoch_ms(time) for time in times] == [each.open_ms for each in minutes]


def test_upsert_backfilled_unordered_prices_are_refused() -> None:
    with pytest.raises(IntegrityError, match="ohlcv_1m_ordered"):
        upsert_backfilled([replace(MADE, high=D(1))], overwrite=False)


def test_factory_rows_are_live() -> None:
    Candle1mFactory()
    assert row()[-2] is False
