"""``manage.py backfill`` and ``manage.py reconcile``, against the simulator."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from redis.exceptions import RedisError

from ingestion import backfill, backfill_run, candle_pages, reconcile
from ingestion.models import Backfill
from ingestion.registry import ADAPTERS
from market.models import Candle1m, Listing
from tests.factories import ExchangeFactory, ListingFactory, SymbolFactory
from tests.ingestion import simulated

pytestmark = pytest.mark.django_db

SYMBOL = "BTC/USDT"


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    with simulated.simulator() as url:
        yield url


@pytest.fixture(autouse=True)
def url(simulator: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    settings.SIMULATOR_URL = simulator
    monkeypatch.setattr(candle_pages, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(candle_pages, "ATTEMPTS", 2)
    row = SymbolFactory(name=SYMBOL)
    for name in ("binance", "okx"):
        ListingFactory(
            exchange=ExchangeFactory(name=name),
            symbol=row,
            exchange_symbol=ADAPTERS[name].to_native(SYMBOL),
        )
    yield simulator
    simulated.recover(simulator)


def command(*words: str) -> str:
    out = StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


def test_backfill_command_fills_and_again_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said = command("backfill", "btc-usdt", "--from", "-2h")
    assert Candle1m.objects.count() in (119, 120)
    assert "BTC/USDT  succeeded" in said
    monkeypatch.setattr(candle_pages, "call", lambda *_, **__: pytest.fail("asked"))
    monkeypatch.setattr(candle_pages, "fetch", lambda *_, **__: iter(()))
    first = Backfill.objects.get()
    end = f"{first.end:%Y-%m-%dT%H:%M}"
    command("backfill", "BTC/USDT", "--from", f"{first.start:%Y-%m-%dT%H:%M}", "--to", end)
    assert set(Backfill.objects.values_list("status", flat=True)) == {"succeeded"}


def test_backfill_command_failed_range_is_listed_and_resumed(url: str) -> None:
    simulated.suffer(url, "okx", "error", value=503)
    with pytest.raises(CommandError) as failed:
        command("backfill", "--all", "--from", "-1h")
    row = Backfill.objects.get()
    assert "BTC-USDT on okx: BUSY" in str(failed.value)
    assert f"{row.start:%Y-%m-%dT%H:%M:%SZ}" in str(failed.value)
    assert f"--resume {row.pk}" in str(failed.value)
    simulated.recover(url)
    assert "succeeded" in command("backfill", "--resume", str(row.pk))
    assert set(Candle1m.objects.values_list("source_count", flat=True)) == {2}


def test_backfill_command_stopped_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    real = backfill_run.run

    def run(*args: Any, **kwargs: Any) -> Any:
        kwargs["stop"].set()  # as Ctrl-C does
        return real(*args, **kwargs)

    monkeypatch.setattr(backfill_run, "run", run)
    with pytest.raises(CommandError, match=r"Stopped; .* Go on with: .*--resume"):
        command("backfill", SYMBOL, "--from", "-1h")
    row = Backfill.objects.get()
    assert row.status == "canceled"  # or a worker would go on with it
    monkeypatch.setattr(backfill_run, "run", real)
    assert "succeeded" in command("backfill", "--resume", str(row.pk))


def test_backfill_command_stopped_leaves_nothing_to_the_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ListingFactory(
        exchange=ExchangeFactory(name="okx"),
        symbol=SymbolFactory(name="ETH/USDT"),
        exchange_symbol="ETH-USDT",
    )

    def run(*_: Any, stop: Any, **__: Any) -> None:
        stop.set()  # as Ctrl-C does

    monkeypatch.setattr(backfill_run, "run", run)
    with pytest.raises(CommandError, match=r"Stopped"):
        command("backfill", "--all", "--from", "-1h")
    assert list(Backfill.objects.values_list("status", flat=True)) == ["canceled"] * 2


def test_backfill_command_stopped_leaves_to_others_what_they_work_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_ms = time.time_ns() // 1_000_000
    span: dict[str, Any] = {"start_ms": now_ms - 3_600_000, "end_ms": now_ms - 600_000}
    (row,) = backfill.note(SYMBOL, **span, overwrite=False, created_by="test", now_ms=now_ms)
    assert backfill.claim(row.pk, now_ms=now_ms) is not None

    def why_waiting(*_: Any, **__: Any) -> str:
        signal.raise_signal(signal.SIGINT)  # Ctrl-C
        return "another process runs it"

    monkeypatch.setattr(backfill, "why_waiting", why_waiting)
    with pytest.raises(CommandError, match=r"Stopped"):
        command("backfill", "--resume", str(row.pk))
    row.refresh_from_db()
    assert row.status == Backfill.RUNNING


def test_reconcile_command_says_that_it_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reconcile, "compare", compare)
    with pytest.raises(CommandError, match=r"^Stopped: nothing was compared"):
        command("reconcile", SYMBOL, "--from", "-1h")


def test_backfill_command_says_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ms = time.time_ns() // 1_000_000
    order: dict[str, Any] = {"overwrite": False, "created_by": "test", "now_ms": now_ms}
    span: dict[str, Any] = {"start_ms": now_ms - 3_600_000, "end_ms": now_ms - 600_000}
    (first,) = backfill.note(SYMBOL, **span, **order)
    (second,) = backfill.note(SYMBOL, **span, **order)
    assert backfill.why_waiting(second, now_ms=now_ms) == ""
    assert backfill.claim(first.pk, now_ms=now_ms) is not None
    first.refresh_from_db()
    waits = f"waits for backfill {first.pk} of {SYMBOL}"
    assert backfill.why_waiting(second, now_ms=now_ms) == waits
    assert "another process runs it" in backfill.why_waiting(first, now_ms=now_ms)


def test_backfill_command_database_away_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise OperationalError("server closed the connection unexpectedly\nmore")

    monkeypatch.setattr(backfill_run, "run", run)
    with pytest.raises(CommandError, match=r"unexpectedly\nGo on with: .*--resume \d"):
        command("backfill", SYMBOL, "--from", "-1h")


@pytest.mark.parametrize(
    "words",
    [
        ("backfill", SYMBOL, "--from", "-1h"),
        ("backfill", "--resume", "1"),
        ("export", SYMBOL),
        ("reconcile", SYMBOL, "--from", "-1h"),
    ],
)
def test_command_without_a_database_is_an_error(words: tuple[str, ...]) -> None:
    def away(*_: Any) -> None:
        raise OperationalError("connection refused\n\tIs the server running?")

    with (
        connection.execute_wrapper(away),
        pytest.raises(CommandError, match=r"^The database: connection refused$"),
    ):
        command(*words)


def test_backfill_command_redis_away_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise RedisError("Connection refused.")

    monkeypatch.setattr(backfill_run, "run", run)
    with pytest.raises(CommandError, match=r"^Redis: .*refused\.\nGo on with: .*--resume \d"):
        command("backfill", SYMBOL, "--from", "-1h")


def test_backfill_command_orders_all_or_none() -> None:
    SymbolFactory(name="ETH/USDT")  # listed nowhere
    with pytest.raises(CommandError, match="no enabled exchange lists ETH/USDT"):
        command("backfill", SYMBOL, "ETH/USDT", "--from", "-1h")
    assert not Backfill.objects.exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((SYMBOL,), "--from is missing: an ISO date"),
        (("--from", "-1h"), "name the symbols, or say --all"),
        ((SYMBOL, "--all", "--from", "-1h"), "name the symbols, or say --all"),
        (("NOPE", "--from", "-1h"), "unknown symbol 'NOPE'"),
        ((SYMBOL, "--from", "soon"), "'soon' is no point in time"),
        ((SYMBOL, "--from", "-1h", "--to", "2200-01-01"), "lies in the future"),
        ((SYMBOL, "--from", "-1h", "--to", "-2h"), "must be before to"),
        (("--resume", "999999"), "there is no backfill 999999"),
        (("--resume", "1", "--overwrite"), "say nothing else"),
        (("--resume", "1", "--to", "now"), "say nothing else"),
        ((SYMBOL, "--resume", "1"), "say nothing else"),
    ],
)
def test_backfill_command_wrong_words_teach(words: tuple[str, ...], text: str) -> None:
    with pytest.raises(CommandError, match=text):
        command("backfill", *words)
    assert not Backfill.objects.exists()


def test_reconcile_backfilled_from_one_exchange_is_that_one() -> None:
    Listing.objects.filter(exchange__name="okx").delete()
    end = f"{time.time() // 60 * 60 - 120:.0f}"
    command("backfill", SYMBOL, "--from", "-1h", "--to", end)
    words = ("reconcile", SYMBOL, "--from", "-50m", "--to", end)
    binance, together = (json.loads(line) for line in command(*words, "--json").splitlines())
    nothing = {"mean": "0", "max": "0", "mean_bps": "0", "max_bps": "0", "worst": []}
    compared = binance["fields"]["open"]["compared"]
    assert compared in (47, 48)
    assert binance == {
        "name": "binance BTCUSDT",
        "missing_ours": 0,
        "missing_theirs": 0,
        "unavailable_minutes": 0,
        "errors": [],
        "fields": {
            name: {"compared": compared, **nothing} for name in ("open", "high", "low", "close")
        },
    }
    assert together["fields"] == {"volume": {"compared": compared, **nothing}}
    assert "binance BTCUSDT" in command(*words)


def test_reconcile_differences_and_missing_minutes_are_told() -> None:
    command("backfill", SYMBOL, "--from", "-1h")
    first, *rest = Candle1m.objects.order_by("time")[2:5]
    first.delete()
    changed = rest[0]
    Candle1m.objects.filter(time=changed.time).update(high=changed.high * 2)
    words = ("reconcile", SYMBOL, "--from", "-55m", "--to", "-2m", "--exchange", "okx", "--json")
    lines = [json.loads(line) for line in command(*words).splitlines()]
    assert [line["name"] for line in lines] == ["okx BTC-USDT", "all together"]
    assert lines[0]["missing_ours"] in (0, 1)
    window = ("--from", "-58m", "--to", "-2m")
    found = json.loads(command("reconcile", SYMBOL, *window, "--json").splitlines()[0])
    assert float(found["fields"]["high"]["max_bps"]) > 4_000
    assert found["fields"]["high"]["worst"][0]["time"] == f"{changed.time:%Y-%m-%dT%H:%M:%SZ}"


def test_reconcile_failing_exchange_is_an_error(url: str) -> None:
    simulated.suffer(url, "okx", "error", value=503)
    said = r"Not all could be compared:\n20[-0-9T:]+Z – 20[-0-9T:]+Z  BTC-USDT on okx: BUSY"
    with pytest.raises(CommandError, match=said):
        command("reconcile", SYMBOL, "--from", "-1h", "--exchange", "okx")


def test_reconcile_in_windows_is_reconcile_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    command("backfill", SYMBOL, "--from", "-1h")
    words = ("reconcile", SYMBOL, "--from", "-55m", "--to", "-5m", "--json")
    at_once = command(*words)
    monkeypatch.setattr("ingestion.reconcile.WINDOW_MS", 7 * 60_000)
    assert command(*words) == at_once


def test_reconcile_from_after_to_teaches() -> None:
    with pytest.raises(CommandError, match=r"--from \(20.*Z\) must be .* before --to \(20.*Z\)"):
        command("reconcile", SYMBOL, "--from", "-1h", "--to", "-2h")


def test_reconcile_exchange_without_the_symbol_is_refused() -> None:
    with pytest.raises(CommandError, match="kraken has no BTC/USDT in its own currency"):
        command("reconcile", SYMBOL, "--from", "-1h", "--exchange", "kraken")
