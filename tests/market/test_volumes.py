"""Volumes of candles: from totals of trades to rows and reads."""

from decimal import Decimal

import pytest
from django.db import OperationalError
from structlog.testing import capture_logs

from market import candles, flush, volumes
from market.models import Candle1m
from oracle import candle_book, catalog, keys, trade_totals
from oracle.catalog import Catalog, CatalogListing, CatalogSymbol
from oracle.connection import redis_client
from oracle.trade_totals import Sums
from tests.market.test_flush import LATER, MINUTE, fill, page, rows, run
from tests.market.test_flush import put as put_price
from tests.oracle.test_price_board import NOW
from tests.oracle.test_trade_totals import BTC, put, sums, total

pytestmark = pytest.mark.django_db

D = Decimal


def listed(*exchanges):
    catalog.publish(
        Catalog(
            exchanges=exchanges,
            symbols=(CatalogSymbol(name=BTC, base="BTC", quote="USDT", min_sources=1),),
            listings=tuple(
                CatalogListing(exchange=name, exchange_symbol="X", symbol=BTC, quote="USDT")
                for name in exchanges
            ),
        )
    )


def columns(row):
    return row.volume, row.quote_volume, row.vwap, row.trade_count


def only(found=None):
    """Volumes and revision of the one row."""
    [row] = rows()
    return (*columns(row), row.revision)


# --- what is known ---


def read(minute_ms=NOW, symbol=BTC):
    return volumes.read([(symbol, minute_ms)]).known.get((symbol, minute_ms))


def test_volumes_are_the_sums_over_the_exchanges():
    put("1.00000001", quote_volume="100")
    put("2", quote_volume="200.5", exchange="okx")
    assert read() == sums("3.00000001", "300.5", 2)


def test_nothing_traded_while_somebody_listened_is_zero():
    listed("binance", "okx")
    trade_totals.note_listening("okx", at_ms=NOW + 1)
    assert read() == Sums()


def test_nothing_traded_while_nobody_listened_is_unknown():
    listed("binance", "okx")
    trade_totals.note_listening("okx", at_ms=NOW - 1)
    trade_totals.note_listening("kraken", at_ms=NOW)  # it does not list the symbol
    assert read() is None
    assert read(symbol="BTC/RUB") is None


def test_a_minute_whose_totals_are_forgotten_is_unknown_not_zero():
    listed("binance")
    trade_totals.note_listening("binance", at_ms=NOW)
    put(symbol="ETH/USDT")
    trade_totals.mark_flushed([total("ETH/USDT")], now_ms=LATER)
    trade_totals.forget(now_ms=LATER + trade_totals.KEEP_MS)
    assert read() is None


def test_sums_too_large_for_the_table_are_unknown_and_named():
    put("1e20")
    with capture_logs() as logs:
        assert read() is None
    assert logs[0]["event"] == "volumes.too_large"


def test_of_no_minutes_nothing_is_known():
    assert volumes.read([]).known == {}


# --- flushed ---


def test_a_candle_is_written_with_its_volumes():
    fill()
    put("3", quote_volume="10", trade_count=7)
    assert run() == flush.Flushed(created=1)
    assert only() == (D(3), D(10), D("3.33333333333333"), 7, 0)
    assert trade_totals.due(now_ms=LATER, grace_ms=0, limit=9) == []


def test_a_quiet_minute_is_written_with_zero_and_no_vwap():
    listed("binance")
    trade_totals.note_listening("binance", at_ms=NOW)
    fill()
    run()
    assert only() == (0, 0, None, 0, 0)


def test_late_trades_revise_a_candle_that_is_long_flushed():
    fill()
    put("1", quote_volume="100")
    run("1")
    redis_client().delete(keys.candle(BTC, NOW))  # an hour later
    put("1", quote_volume="102")
    assert run("2") == flush.Flushed(revised=1)
    assert only() == (D(2), D(202), D(101), 2, 1)


def test_volumes_that_come_after_the_prices_revise_them():
    fill()
    run("1")
    assert only() == (None, None, None, None, 0)
    put()
    assert run("2") == flush.Flushed(revised=1)
    assert only() == (D(1), D(100), D(100), 1, 1)


def test_prices_that_change_after_the_volumes_keep_them():
    fill()
    put()
    run("1")
    put_price("9", NOW + 59_000)
    assert run("2") == flush.Flushed(revised=1)
    assert only() == (D(1), D(100), D(100), 1, 1)
    assert rows()[0].close == 9


def test_both_changed_is_one_revision():
    fill()
    put()
    run("1")
    put()
    put_price("9", NOW + 59_000)
    assert run("2") == flush.Flushed(revised=1)
    assert only() == (D(2), D(200), D(100), 2, 1)


def test_again_with_the_same_sums_changes_nothing():
    fill()
    put("1", quote_volume="0.3333333333333333333333333333")  # more decimals than are stored
    run("1")
    redis_client().zadd(keys.trades_dirty(), {f"{BTC}|{NOW}": NOW})
    assert run("2") == flush.Flushed()
    assert rows()[0].revision == 0


@pytest.mark.parametrize("known", [{}, {(BTC, NOW): Sums()}, {(BTC, NOW): sums(trade_count=2)}])
def test_what_was_known_is_never_overwritten_with_less(known):
    fill()
    put(trade_count=3)
    run("1")
    [candle] = candle_book.read([(BTC, NOW)])
    assert candles.upsert([candle], known) == candles.Written()
    assert candles.upsert([], known) == candles.Written()
    assert only()[3:] == (3, 0)


def test_trades_without_a_candle_wait_for_one():
    put()
    assert run("1") == flush.Flushed()
    assert rows() == []
    fill()
    assert run("2") == flush.Flushed(created=1)
    assert only() == (D(1), D(100), D(100), 1, 0)


def test_when_the_commit_fails_no_volumes_are_forgotten(monkeypatch):
    fill()
    put()

    def away(batch, known):
        raise OperationalError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(candles, "upsert", away)
        with pytest.raises(OperationalError):
            run("1")
    assert run("2") == flush.Flushed(created=1)
    assert only() == (D(1), D(100), D(100), 1, 0)


def test_when_the_worker_dies_between_its_marks_the_next_flush_finishes(monkeypatch):
    fill()
    put()

    def die(totals, *, now_ms):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(trade_totals, "mark_flushed", die)
        with pytest.raises(SystemExit):
            run("1")
    assert run("2") == flush.Flushed()
    assert only() == (D(1), D(100), D(100), 1, 0)
    assert trade_totals.due(now_ms=LATER, grace_ms=0, limit=9) == []


def test_trades_that_come_during_the_flush_are_left_for_the_next(monkeypatch):
    fill()
    put()
    upsert = candles.upsert

    def upsert_then_trade(batch, known):
        written = upsert(batch, known)
        put()
        return written

    with monkeypatch.context() as patch:
        patch.setattr(candles, "upsert", upsert_then_trade)
        patch.setattr(flush, "CANDLES_PER_BATCH", 1)
        assert run("1").created == 1
    run("2")
    assert only()[:4] == (total().sums.volume, total().sums.quote_volume, D(100), 3)


def test_a_flush_forgets_totals_that_were_flushed_long_ago():
    fill()
    put()
    run("1")
    run("2", now_ms=LATER + trade_totals.KEEP_MS)
    assert total() is None
    assert trade_totals.horizon_ms() == NOW


# --- read ---


def candle(**options):
    [one] = page(**options).candles
    return one


def test_the_open_minute_shows_its_trades_so_far():
    fill()
    put("3", quote_volume="10", trade_count=7)
    one = candle(now_ms=NOW + 30_000)
    assert (one.closed, columns(one)) == (False, (D(3), D(10), D("3.33333333333333"), 7))


def test_a_stored_candle_shows_trades_that_are_not_flushed_yet():
    fill()
    put()
    run()
    put()
    assert columns(candle()) == (D(2), D(200), D(100), 2)


def test_a_stored_candle_keeps_its_volumes_when_redis_knows_less():
    fill()
    run()
    Candle1m.objects.update(volume=D(5), trade_count=9)
    put(minute_ms=NOW - MINUTE)  # something older is not flushed
    put()
    assert (candle().volume, candle().trade_count) == (D(5), 9)
