"""Backfills from simulated exchanges, disturbed at every step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Event
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError, connections, transaction

from ingestion import backfill, backfill_run, candle_pages, rest, window
from ingestion.backfill import BackfillError
from ingestion.backfill_run import run
from ingestion.models import Backfill
from ingestion.registry import ADAPTERS
from ingestion.window import Asked, Blended, Plan, Wanted
from market import coverage
from market.candles import BackfilledCandle, epoch_ms, to_datetime
from market.models import Candle1m, Coverage, Symbol
from market.ranges import TimeRange
from tests.factories import Candle1mFactory, ExchangeFactory, ListingFactory, SymbolFactory
from tests.ingestion import simulated

pytestmark = pytest.mark.django_db

MINUTE_MS = 60_000
RATE = 1
NOW_MS = time.time_ns() // 1_000_000
END_MS = NOW_MS // MINUTE_MS * MINUTE_MS - 5 * MINUTE_MS
SYMBOL = "LINK/USDT"


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    with simulated.simulator("--rate-per-minute", str(RATE)) as url:
        yield url


@pytest.fixture
def url(simulator: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    settings.SIMULATOR_URL = simulator
    monkeypatch.setattr(candle_pages, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(candle_pages, "ATTEMPTS", 2)
    monkeypatch.setattr("ingestion.backfill.current_app.send_task", lambda *_, **__: None)
    yield simulator
    simulated.recover(simulator)


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (window, backfill):
        monkeypatch.setattr(module, "WINDOW_MS", 100 * MINUTE_MS)


def listed(*exchanges: str, symbol: str = SYMBOL, **fields: Any) -> None:
    row = SymbolFactory(name=symbol, **fields)
    base, quote = symbol.split("/")
    for name in exchanges:
        ListingFactory(
            exchange=ExchangeFactory(name=name),
            symbol=row,
            exchange_symbol=ADAPTERS[name].to_native(f"{base}/{quote}"),
            quote=quote,
        )


def ordered(minutes: int, *, overwrite: bool = False, symbol: str = SYMBOL) -> Backfill:
    return backfill.order(
        symbol,
        start_ms=END_MS - minutes * MINUTE_MS,
        end_ms=END_MS,
        overwrite=overwrite,
        created_by="test",
        now_ms=NOW_MS,
    )


COLUMNS = (
    *("symbol", "time", "open", "high", "low", "close", "volume", "quote_volume", "vwap"),
    *("trade_count", "source_count", "sources", "backfilled"),
)


def table() -> list[tuple[Any, ...]]:
    return list(Candle1m.objects.order_by("symbol", "time").values_list(*COLUMNS))


def covered(symbol: str = SYMBOL) -> list[tuple[int, int]]:
    rows = Coverage.objects.filter(symbol=symbol).order_by("start")
    return [(epoch_ms(row.start), epoch_ms(row.end)) for row in rows]


def asked(url: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    seen: list[Any] = []
    real = rest.call

    def call(*args: Any, **kwargs: Any) -> Any:
        seen.append(args[1])
        return real(*args, **kwargs)

    monkeypatch.setattr(candle_pages, "call", call)
    return seen


def undisturbed(minutes: int) -> list[tuple[Any, ...]]:
    """The rows of a run that nothing happens to; nothing of it is left."""
    row = ordered(minutes)
    assert run(row.pk, now_ms=NOW_MS) == "succeeded"
    rows = table()
    Candle1m.objects.all().delete()
    Coverage.objects.all().delete()
    Backfill.objects.all().delete()
    return rows


def test_run_one_exchange_is_its_tape(url: str) -> None:
    listed("kucoin")
    row = ordered(250)
    assert run(row.pk, now_ms=NOW_MS) == "succeeded"
    market = simulated.market("kucoin", SYMBOL, rate_per_minute=RATE)
    price, size = market.listing.price_scale, market.listing.size_scale
    expected = [
        (
            to_datetime(minute * MINUTE_MS),
            *(Decimal(ticks).scaleb(-price) for ticks in candle[:4]),
            Decimal(candle.lots).scaleb(-size),
            ["kucoin"],
        )
        for minute, candle in market.candles.rows(
            first=END_MS // MINUTE_MS - 250,
            last=END_MS // MINUTE_MS - 1,
            minutes=1,
            now_ms=NOW_MS,
            fill=False,
        )
    ]
    stored = Candle1m.objects.order_by("time").values_list(
        "time", "open", "high", "low", "close", "volume", "sources"
    )
    assert list(stored) == expected
    assert covered() == [(END_MS - 250 * MINUTE_MS, END_MS)]
    row.refresh_from_db()
    assert (row.minutes_total, row.minutes_done, row.candles_written, row.attempt, row.errors) == (
        *(250, 250, len(expected), 1),
        [],
    )


def test_run_twice_asks_nothing_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listed("kucoin", "binance")
    run(ordered(250).pk, now_ms=NOW_MS)
    before, calls = table(), asked(url, monkeypatch)
    assert run(ordered(250).pk, now_ms=NOW_MS) == "succeeded"
    assert (table(), calls) == (before, [])


def test_run_over_what_is_covered_in_part_counts_each_minute_once(url: str) -> None:
    listed("binance")
    run(ordered(130).pk, now_ms=NOW_MS)
    row = ordered(350)
    told: list[int] = []
    run(row.pk, now_ms=NOW_MS, progress=lambda row: told.append(row.minutes_done))

    row.refresh_from_db()
    assert told == sorted(told)
    assert (told[-1], row.minutes_done, row.minutes_total) == (350, 350, 350)


def test_run_live_rows_are_kept_and_not_asked_for(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed("kucoin")
    for number in range(250):
        Candle1mFactory(symbol=SYMBOL, time=to_datetime(END_MS - (number + 1) * MINUTE_MS))
    before, calls = table(), asked(url, monkeypatch)
    row = ordered(250)
    assert run(row.pk, now_ms=NOW_MS) == "succeeded"
    assert (table(), calls, covered()) == (before, [], [])
    row.refresh_from_db()
    assert row.minutes_done == 250


def test_run_overwrite_replaces_live_rows(url: str) -> None:
    listed("binance")
    expected = undisturbed(150)
    for number in range(150):
        Candle1mFactory(symbol=SYMBOL, time=to_datetime(END_MS - (number + 1) * MINUTE_MS))
    assert run(ordered(150, overwrite=True).pk, now_ms=NOW_MS) == "succeeded"
    assert table() == expected


def test_write_takes_back_what_nobody_has_though_a_live_minute_came_in_between() -> None:
    whole = TimeRange(start_ms=END_MS - 2 * MINUTE_MS, end_ms=END_MS)
    Candle1mFactory(symbol=SYMBOL, time=to_datetime(whole.start_ms), backfilled=True)
    Candle1mFactory(symbol=SYMBOL, time=to_datetime(whole.start_ms + MINUTE_MS))
    facts: dict[str, Any] = {
        **dict.fromkeys(("open", "high", "low", "close"), Decimal(5)),
        **dict.fromkeys(("volume", "quote_volume", "vwap", "trade_count")),
    }
    made = BackfilledCandle(
        symbol=SYMBOL, open_ms=whole.start_ms + MINUTE_MS, sources=("binance",), **facts
    )
    blended = Blended(
        asked=Asked(whole=whole, wanted=Wanted(minutes=2, parts=(whole,)), answers=()),
        rows=(made,),
        failures=(),
        unconverted=(),
        without_rate={},
        not_kept={},
    )
    with transaction.atomic():
        plan = Plan(symbol=SYMBOL, factor=Decimal(2), ways=())
        window.write(plan, blended, overwrite=False)

    left = Candle1m.objects.filter(symbol=SYMBOL).values_list("time", "backfilled")
    assert list(left) == [(to_datetime(made.open_ms), False)]


class Crash(BaseException):
    """As a kill: nothing catches it."""


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("step", ["fetch", "blend", "write", "commit", "after"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_run_killed_anywhere_and_run_again_is_an_undisturbed_one(
    url: str, step: str, at: int, overwrite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed("kucoin", "binance", "okx")
    expected = undisturbed(350)
    row = ordered(350, overwrite=overwrite)
    with monkeypatch.context() as patch:
        break_at(patch, step, at)
        with pytest.raises(Crash):
            run(row.pk, now_ms=NOW_MS)
    row.refresh_from_db()
    assert row.status == Backfill.RUNNING
    assert run(row.pk, now_ms=NOW_MS) is None  # it may still be running
    later = NOW_MS + 10 * MINUTE_MS
    assert run(row.pk, now_ms=later) == "succeeded"
    assert table() == expected
    row.refresh_from_db()
    assert (row.minutes_done, row.attempt) == (350, 2)


def break_at(patch: pytest.MonkeyPatch, step: str, at: int) -> None:
    """Have a run die in its ``at``-th step of a kind."""
    module, name = {
        "fetch": (window, "ask"),
        "blend": (window, "blend"),
        "write": (window, "write"),
        "commit": (backfill, "held"),
        "after": (backfill_run._Slice, "_write"),
    }[step]
    real, count = getattr(module, name), iter(range(100))

    def broken(*args: Any, **kwargs: Any) -> Any:
        done = real(*args, **kwargs) if step in ("write", "after") else None
        if next(count) == at:
            raise Crash
        return done if step in ("write", "after") else real(*args, **kwargs)

    patch.setattr(module, name, broken)


def test_run_failed_exchange_leaves_its_windows_uncovered_and_retry_completes_them(
    url: str,
) -> None:
    listed("kucoin", "binance")
    expected = undisturbed(250)
    simulated.suffer(url, "kucoin", "error", value=503)
    row = ordered(250)
    assert run(row.pk, now_ms=NOW_MS) == "failed"
    row.refresh_from_db()
    (error,) = row.errors
    assert (error["exchange"], error["listing"]) == ("kucoin", "LINK-USDT")
    assert (error["start_ms"], error["end_ms"]) == (END_MS - 250 * MINUTE_MS, END_MS)
    assert "BUSY" in error["error"]
    assert (covered(), row.minutes_done) == ([], 0)
    assert {tuple(each) for each in Candle1m.objects.values_list("sources", flat=True)} == {
        ("binance",)
    }
    simulated.recover(url)
    assert backfill.retry(row.pk)
    assert run(row.pk, now_ms=NOW_MS) == "succeeded"
    row.refresh_from_db()
    assert (table(), row.errors, row.minutes_done) == (expected, [], 250)


def test_run_failed_window_is_asked_once_in_an_attempt(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed("kucoin")
    simulated.suffer(url, "kucoin", "error", value=503)
    calls = asked(url, monkeypatch)
    row = ordered(250)
    while run(row.pk, now_ms=NOW_MS, seconds=0) == "pending":
        pass
    row.refresh_from_db()
    assert row.status == "failed"
    windows = {request.params[2] for request in calls}
    assert len(windows) in (3, 4)
    assert len(calls) <= 2 * len(windows)


def test_run_slices_end_where_one_run_does(url: str) -> None:
    listed("kucoin", "okx")
    expected = undisturbed(350)
    row = ordered(350)
    statuses = []
    while (status := run(row.pk, now_ms=NOW_MS, seconds=0)) == "pending":
        statuses.append(status)
    assert (status, table()) == ("succeeded", expected)
    assert len(statuses) >= 2


def test_run_stopped_gives_the_backfill_back(url: str) -> None:
    listed("kucoin")
    row, stop = ordered(250), Event()
    stop.set()
    assert run(row.pk, now_ms=NOW_MS, stop=stop) == "pending"
    assert run(row.pk, now_ms=NOW_MS) == "succeeded"


def test_run_canceled_while_waiting_writes_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed("kucoin")
    row = ordered(250)
    real = window.write

    def write(*args: Any, **kwargs: Any) -> Any:
        assert backfill.cancel(row.pk, now_ms=NOW_MS)
        return real(*args, **kwargs)

    monkeypatch.setattr(window, "write", write)
    assert run(row.pk, now_ms=NOW_MS) is None
    # The window that ran into it is rolled back, and with it, in this test's one transaction, the
    # cancel; in life that is another's and stays.
    assert (table(), covered()) == ([], [])


def test_cancel_then_run_does_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listed("kucoin")
    row, calls = ordered(250), asked(url, monkeypatch)
    assert backfill.cancel(row.pk, now_ms=NOW_MS)
    assert not backfill.cancel(row.pk, now_ms=NOW_MS)
    assert (run(row.pk, now_ms=NOW_MS), calls) == (None, [])
    row.refresh_from_db()
    assert (row.status, row.finished_at) == ("canceled", to_datetime(NOW_MS))


def test_claim_second_of_a_symbol_waits_for_the_first(url: str) -> None:
    listed("kucoin")
    first, second = ordered(250), ordered(250)
    assert backfill.claim(first.pk, now_ms=NOW_MS) is not None
    assert backfill.claim(second.pk, now_ms=NOW_MS) is None
    assert run(first.pk, now_ms=NOW_MS + 10 * MINUTE_MS) == "succeeded"
    assert run(second.pk, now_ms=NOW_MS) == "succeeded"


def converted_only() -> None:
    """A symbol that no exchange lists in its own currency, and the rate that makes it so."""
    listed("upbit", symbol="USDT/KRW", is_rate=True)
    ListingFactory(
        exchange=ExchangeFactory(name="upbit"),
        symbol=SymbolFactory(name=SYMBOL),
        exchange_symbol="KRW-LINK",
        quote="KRW",
    )


def test_claim_waits_for_older_ones_of_its_rates(url: str) -> None:
    converted_only()
    rate, other = ordered(60, symbol="USDT/KRW"), ordered(60)
    assert run(other.pk, now_ms=NOW_MS) is None
    assert run(rate.pk, now_ms=NOW_MS) == "succeeded"
    assert run(other.pk, now_ms=NOW_MS) == "succeeded"
    other.refresh_from_db()
    stored = Candle1m.objects.filter(symbol=SYMBOL)
    rates = dict(Candle1m.objects.filter(symbol="USDT/KRW").values_list("time", "close"))
    assert stored.count() > 5
    assert set(stored.values_list("time", flat=True)) <= set(rates)
    assert not stored.exclude(volume=None).exists()
    market = simulated.market("upbit", "LINK/KRW", rate_per_minute=RATE)
    for candle in stored:
        own = market.candles.minute(epoch_ms(candle.time) // MINUTE_MS)
        assert own is not None
        close = Decimal(own.close).scaleb(-market.listing.price_scale) / rates[candle.time]
        assert abs(candle.close / close - 1) < Decimal("1e-12")
    assert all("note" in entry for entry in other.errors)


def test_claim_waits_for_its_rates_only_where_it_needs_them(url: str) -> None:
    converted_only()
    rate, year, day = ordered(350, symbol="USDT/KRW"), ordered(350), ordered(60)
    assert run(day.pk, now_ms=NOW_MS) is None
    for _ in range(2):
        assert run(rate.pk, now_ms=NOW_MS, seconds=0) == "pending"
    assert run(day.pk, now_ms=NOW_MS) == "succeeded"
    assert run(year.pk, now_ms=NOW_MS) is None
    assert f"waits for backfill {rate.pk}" in backfill.why_waiting(year, now_ms=NOW_MS)


def test_order_has_the_missing_rates_ordered_before_it(url: str) -> None:
    converted_only()
    row = ordered(60)
    rate = Backfill.objects.get(symbol="USDT/KRW")
    assert (rate.pk < row.pk, rate.created_by, rate.overwrite) == (True, "test", False)
    assert (rate.start, rate.end) == (row.start, row.end)
    ordered(50)  # the rate is on its way
    assert Backfill.objects.filter(symbol="USDT/KRW").count() == 1
    assert run(rate.pk, now_ms=NOW_MS) == "succeeded"
    assert run(row.pk, now_ms=NOW_MS) == "succeeded"
    assert Candle1m.objects.filter(symbol=SYMBOL).exists()
    ordered(60)
    assert Backfill.objects.filter(symbol="USDT/KRW").count() == 1


def test_run_minutes_without_a_rate_are_no_empty_ones(url: str) -> None:
    converted_only()
    row = ordered(60)
    Backfill.objects.filter(symbol="USDT/KRW").delete()
    assert run(row.pk, now_ms=NOW_MS) == "failed"
    row.refresh_from_db()
    assert (covered(), row.minutes_done, Candle1m.objects.count()) == ([], 0, 0)
    error = next(entry for entry in row.errors if "error" in entry)
    assert "KRW-LINK on upbit" in error["error"]
    assert "cannot be converted without USDT/KRW: backfill that" in error["error"]
    assert END_MS - 60 * MINUTE_MS <= error["start_ms"] < error["end_ms"] <= END_MS
    # Not all minutes have a rate, but all were asked for.
    assert run(ordered(60, symbol="USDT/KRW").pk, now_ms=NOW_MS) == "succeeded"
    assert backfill.retry(row.pk)
    assert run(row.pk, now_ms=NOW_MS) == "succeeded"
    assert Candle1m.objects.filter(symbol=SYMBOL).exists()


def test_run_minutes_that_nobody_keeps_are_told(url: str) -> None:
    listed("kraken")
    row = ordered(900)
    assert run(row.pk, now_ms=NOW_MS) == "succeeded"
    row.refresh_from_db()
    (note,) = row.errors
    assert (note["exchange"], note["note"]) == (
        *("kraken", "minutes that it keeps no longer, and that no other has"),
    )
    assert 180 <= note["minutes"] <= 190


@pytest.mark.parametrize("kind", [OperationalError, InterfaceError])
def test_run_ends_though_its_rollups_fail(
    url: str, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def fail(**_: Any) -> int:
        raise kind("canceling statement due to statement timeout")

    listed("kucoin")
    row = ordered(50)
    monkeypatch.setattr("ingestion.backfill_run.rollups.refresh_due", fail)
    assert run(row.pk, now_ms=NOW_MS) == "succeeded"


@pytest.mark.parametrize(("seconds", "status"), [(60, "succeeded"), (0, "pending")])
def test_run_holds_nothing_while_it_rolls_up(
    url: str, monkeypatch: pytest.MonkeyPatch, seconds: float, status: str
) -> None:
    found: list[tuple[str, str]] = []

    def refresh(**_: Any) -> int:
        found.extend(Backfill.objects.values_list("status", "locked_by"))
        return 0

    listed("kucoin")
    row = ordered(350)
    monkeypatch.setattr("ingestion.backfill_run.rollups.refresh_due", refresh)
    assert run(row.pk, now_ms=NOW_MS, seconds=seconds) == status
    assert found == [(status, "")]


def silent(then: Callable[[], object]) -> Callable[..., Asked]:
    """In the place of `window.ask`: an exchange that never answers, and what happens meanwhile."""

    def ask(plan: Plan, whole: TimeRange, wanted: Wanted, **_: Any) -> Asked:
        then()
        return Asked(whole=whole, wanted=wanted, answers=(Future(),))

    return ask


def test_run_canceled_while_an_exchange_is_silent_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    listed("kucoin")
    row = ordered(50)
    monkeypatch.setattr(window, "ask", silent(lambda: backfill.cancel(row.pk, now_ms=NOW_MS)))
    monkeypatch.setattr(backfill_run, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(backfill_run, "BEAT_SECONDS", 0.0)
    assert run(row.pk, now_ms=NOW_MS) is None
    row.refresh_from_db()
    assert row.status == "canceled"


def test_run_stopped_while_an_exchange_is_silent_gives_the_backfill_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed("kucoin")
    row, stop = ordered(50), Event()
    monkeypatch.setattr(window, "ask", silent(stop.set))
    monkeypatch.setattr(backfill_run, "LOOK_SECONDS", 0.01)
    assert run(row.pk, now_ms=NOW_MS, stop=stop) == "pending"


@pytest.mark.django_db(transaction=True)
def test_claim_is_not_canceled_unseen_while_it_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    listed("kucoin")
    row = ordered(50)
    real, other = window.make_plan, connections.create_connection("default")

    def make_plan(symbol: str) -> Plan:
        with pytest.raises(OperationalError, match="lock timeout"), other.cursor() as cursor:
            cursor.execute("SET lock_timeout = '50ms'")
            cursor.execute("UPDATE backfill SET status = 'canceled' WHERE id = %s", [row.pk])
        return real(symbol)

    monkeypatch.setattr(window, "make_plan", make_plan)
    try:
        assert backfill.claim(row.pk, now_ms=NOW_MS) is not None
    finally:
        other.close()


def test_run_minutes_that_wait_in_redis_are_left_to_the_flush(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed("binance")

    class Waiting:
        open_ms = END_MS - 3 * MINUTE_MS

    monkeypatch.setattr(
        "ingestion.window.candle_book.unflushed", lambda symbol, from_ms, to_ms: [Waiting]
    )
    assert run(ordered(10).pk, now_ms=NOW_MS) == "succeeded"
    assert covered() == [
        (END_MS - 10 * MINUTE_MS, END_MS - 3 * MINUTE_MS),
        (END_MS - 2 * MINUTE_MS, END_MS),
    ]
    assert not Candle1m.objects.filter(time=to_datetime(Waiting.open_ms)).exists()


@pytest.mark.parametrize(
    ("symbol", "start_ms", "end_ms", "text"),
    [
        (SYMBOL, END_MS, END_MS, "must be before to"),
        (SYMBOL, END_MS, END_MS - 1, "must be before to"),
        (SYMBOL, END_MS, NOW_MS + 1, "lies in the future"),
        (SYMBOL, 1_000_000_000_000, END_MS, "is before 2010-01-01T00:00:00Z"),
        ("NO/SUCH", END_MS - MINUTE_MS, END_MS, "not among the enabled symbols"),
        ("LINK/RUB", END_MS - MINUTE_MS, END_MS, "derived from LINK/USDT"),
        ("ETH/USDT", END_MS - MINUTE_MS, END_MS, "no enabled exchange lists"),
        (SYMBOL, 1_500_000_000_000, END_MS, "RETENTION_DAYS is 730, and what is older is removed"),
        (SYMBOL, NOW_MS // MINUTE_MS * MINUTE_MS, NOW_MS, "over for long enough yet"),
    ],
)
def test_order_that_cannot_be_is_refused(
    symbol: str, start_ms: int, end_ms: int, text: str
) -> None:
    listed("kucoin")
    SymbolFactory(name="LINK/RUB", derived_from=Symbol.objects.get(name=SYMBOL))
    SymbolFactory(name="ETH/USDT")
    with pytest.raises(BackfillError, match=text):
        backfill.order(
            symbol,
            start_ms=start_ms,
            end_ms=end_ms,
            overwrite=False,
            created_by="test",
            now_ms=NOW_MS,
        )
    assert not Backfill.objects.exists()


def test_resume_sends_for_what_waits_and_what_died(monkeypatch: pytest.MonkeyPatch) -> None:
    listed("kucoin")
    sent: list[int] = []
    monkeypatch.setattr(
        "ingestion.backfill.current_app.send_task", lambda name, args, **_: sent.append(args[0])
    )
    moment = datetime.fromtimestamp(NOW_MS / 1000, tz=UTC)
    waiting, running, dead, over = (ordered(10) for _ in range(4))
    Backfill.objects.filter(pk=running.pk).update(status="running", locked_at=moment)
    long_ago = moment - timedelta(seconds=backfill.STALE_SECONDS + 1)
    Backfill.objects.filter(pk=dead.pk).update(status="running", locked_at=long_ago)
    Backfill.objects.filter(pk=over.pk).update(status="failed")
    assert backfill.resume(now_ms=NOW_MS) == [waiting.pk, dead.pk] == sent


def test_retry_of_a_live_or_good_one_is_refused() -> None:
    listed("kucoin")
    row = ordered(10)
    assert not backfill.retry(row.pk)
    Backfill.objects.update(status="succeeded")
    assert not backfill.retry(row.pk)


def test_run_reads_only_closed_and_old_enough_minutes() -> None:
    listed("kucoin")
    row = backfill.order(
        SYMBOL,
        start_ms=NOW_MS - 10 * MINUTE_MS,
        end_ms=NOW_MS,
        overwrite=False,
        created_by="test",
        now_ms=NOW_MS,
    )
    # An exchange that is behind would have its last minute taken for an empty one.
    assert epoch_ms(row.end) == (NOW_MS - 60_000) // MINUTE_MS * MINUTE_MS


def test_series_of_a_plan_is_the_index() -> None:
    listed("kucoin")
    plan = window.make_plan(SYMBOL)
    assert plan.series == coverage.Series(exchange="index", symbol=SYMBOL, timeframe="1m")
    whole = TimeRange(start_ms=END_MS - 5 * MINUTE_MS, end_ms=END_MS)
    assert window.find_wanted(plan, whole, overwrite=False).parts == (whole,)
