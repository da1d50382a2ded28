"""Paging each exchange's candles, over HTTP, from the simulator and through its faults."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from threading import Event
from typing import Any

import pytest

from ingestion import breaker, candle_pages, rest
from ingestion.adapter import Parsed, Unresolved
from ingestion.candle_pages import CandlePage, Stopped, fetch
from ingestion.registry import ADAPTERS
from ingestion.rest import Refused
from market.ranges import TimeRange, join
from oracle.catalog import CatalogListing
from oracle.connection import redis_client
from oracle.values import Candle, ErrorCode
from tests.ingestion import simulated

MINUTE_MS = 60_000
RATE = 1  # a trade a minute: many minutes have none
QUOTE = dict.fromkeys(ADAPTERS, "USDT") | {"upbit": "KRW", "coinbase": "USD", "kraken": "USD"}
FILLS = ("binance", "kraken", "okx", "bybit")  # those that show minutes without a trade


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    with simulated.simulator("--rate-per-minute", str(RATE)) as url:
        yield url


@pytest.fixture
def url(simulator: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    settings.SIMULATOR_URL = simulator
    settings.HTTP_TOTAL_TIMEOUT_MS = 5_000
    monkeypatch.setattr(candle_pages, "FIRST_PAUSE_SECONDS", 0.01)
    yield simulator
    simulated.recover(simulator)


def listing(name: str, base: str = "LINK") -> CatalogListing:
    symbol = f"{base}/{QUOTE[name]}"
    return CatalogListing(
        exchange=name,
        exchange_symbol=ADAPTERS[name].to_native(symbol),
        symbol=symbol,
        quote=QUOTE[name],
    )


def now() -> int:
    return time.time_ns() // 1_000_000


def minutes_back(first: int, last: int = 0, *, at: int) -> TimeRange:
    end = at // MINUTE_MS
    return TimeRange(start_ms=(end - first) * MINUTE_MS, end_ms=(end - last) * MINUTE_MS)


def expected(name: str, whole: TimeRange) -> list[tuple[int, tuple[Decimal, ...], Decimal]]:
    """(open time, prices, volume) as the tape of the simulator says."""
    market = simulated.market(name, f"LINK/{QUOTE[name]}", rate_per_minute=RATE)
    price, size = market.listing.price_scale, market.listing.size_scale
    return [
        (
            minute * MINUTE_MS,
            tuple(Decimal(ticks).scaleb(-price) for ticks in candle[:4]),
            Decimal(candle.lots).scaleb(-size),
        )
        for minute, candle in market.candles.rows(
            first=whole.start_ms // MINUTE_MS,
            last=whole.end_ms // MINUTE_MS - 1,
            minutes=1,
            now_ms=now(),
            fill=name in FILLS,
        )
    ]


def read(candles: Any) -> list[tuple[int, tuple[Decimal, ...], Decimal | None]]:
    return [(c.open_ms, (c.open, c.high, c.low, c.close), c.volume) for c in candles]


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("name", ADAPTERS)
def test_fetch_pages_together_are_the_tape(url: str, name: str, newest_first: bool) -> None:
    at = now()
    # Over the limits of one call, of Kraken's memory, and of OKX's recent candles.
    whole = minutes_back(1_700, at=at) if name != "kraken" else minutes_back(700, at=at)
    pages = list(
        fetch(listing(name), resolution="1m", whole=whole, now_ms=at, newest_first=newest_first)
    )
    assert [page.error for page in pages] == [None] * len(pages)
    assert join(page.whole for page in pages) == [whole]
    in_order = pages[::-1] if newest_first else pages
    assert [page.whole for page in in_order] == sorted(page.whole for page in pages)
    got = [candle for page in in_order for candle in page.candles]
    assert read(got) == expected(name, whole)


@pytest.mark.parametrize("name", set(ADAPTERS) - set(FILLS))
def test_fetch_omitted_minutes_are_no_error(url: str, name: str) -> None:
    at = now()
    whole = minutes_back(100, at=at)
    pages = list(fetch(listing(name), resolution="1m", whole=whole, now_ms=at))
    assert [page.error for page in pages] == [None] * len(pages)
    assert join(page.whole for page in pages) == [whole]
    assert 0 < sum(len(page.candles) for page in pages) < 100


@pytest.mark.parametrize("name", ADAPTERS)
def test_fetch_forming_candle_is_left_out(url: str, name: str) -> None:
    at = now()
    whole = TimeRange(start_ms=at // MINUTE_MS * MINUTE_MS - 3 * MINUTE_MS, end_ms=at + MINUTE_MS)
    pages = list(fetch(listing(name), resolution="1m", whole=whole, now_ms=at))
    assert join(page.whole for page in pages) == [minutes_back(3, at=at)]
    assert all(candle.closed for page in pages for candle in page.candles)


@pytest.mark.parametrize("newest_first", [False, True])
def test_fetch_what_an_exchange_no_longer_keeps_is_unavailable(
    url: str, newest_first: bool
) -> None:
    at = now()
    whole = minutes_back(1_000, at=at)
    pages = list(
        fetch(listing("kraken"), resolution="1m", whole=whole, now_ms=at, newest_first=newest_first)
    )
    if newest_first:
        pages.reverse()
    assert join(page.whole for page in pages) == [whole]
    lost = [page for page in pages if page.unavailable]
    kept = [candle for page in pages for candle in page.candles]
    assert all(not page.candles and page.error is None for page in lost)
    assert read(kept) == expected("kraken", minutes_back(720, at=at))[-len(kept) :]
    assert join(page.whole for page in lost)[0].start_ms == whole.start_ms
    assert len(kept) >= 718


def test_fetch_older_than_an_exchange_keeps_asks_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candle_pages, "call", lambda *_, **__: pytest.fail("asked"))
    at = now()
    whole = minutes_back(3_000, 2_000, at=at)
    pages = list(fetch(listing("kraken"), resolution="1m", whole=whole, now_ms=at))
    assert pages == [CandlePage(whole=whole, unavailable=True)]


@pytest.mark.parametrize(
    ("fault", "value", "code"),
    [
        ("error", 503, "BUSY"),
        ("disconnect", None, "CONNECTION"),
        ("garbage", "html", "UNREADABLE"),
        ("garbage", "half", "UNREADABLE"),
        ("garbage", "nan", "BAD_PRICE"),
        ("garbage", "tomorrow", "candles of another time"),
    ],
)
def test_fetch_failing_exchange_is_an_error_with_its_range(
    url: str, fault: str, value: Any, code: str
) -> None:
    at = now()
    simulated.suffer(url, "binance", fault, **({} if value is None else {"value": value}))
    whole = minutes_back(20, at=at)
    (page,) = fetch(listing("binance"), resolution="1m", whole=whole, now_ms=at, attempts=2)
    assert (page.whole, page.candles) == (whole, ())
    assert page.error is not None
    assert page.error.startswith("LINKUSDT on binance: ")
    assert code in page.error


def test_fetch_exchange_that_recovers_is_no_error(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = now()
    simulated.suffer(url, "bybit", "error", value=502)
    asked = []
    real = rest.call

    def call(*args: Any, **kwargs: Any) -> Any:
        asked.append(args)
        if len(asked) == 3:
            simulated.recover(url)
        return real(*args, **kwargs)

    monkeypatch.setattr(candle_pages, "call", call)
    monkeypatch.setattr("random.uniform", lambda low, high: 0.01)
    whole = minutes_back(20, at=at)
    (page,) = fetch(listing("bybit"), resolution="1m", whole=whole, now_ms=at)
    assert (page.error, read(page.candles)) == (None, expected("bybit", whole))
    assert len(asked) == 3


def test_fetch_retry_after_is_waited_out(
    url: str, redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = now()
    simulated.suffer(url, "binance", "rate_limit", value=7)
    waited: list[float] = []
    stop = Event()

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        simulated.recover(url)
        client = redis_client()
        client.delete(*client.scan_iter(f"{redis_prefix}:*"))  # as if the time had passed
        return False

    monkeypatch.setattr(stop, "wait", wait)
    whole = minutes_back(20, at=at)
    (page,) = fetch(listing("binance"), resolution="1m", whole=whole, now_ms=at, stop=stop)
    assert page.error is None
    (seconds,) = waited
    assert 7.0 <= seconds < 7.0 * 1.1 * 1.3


def test_fetch_asked_to_wait_too_long_is_an_error_at_once(url: str) -> None:
    at = now()
    simulated.suffer(url, "binance", "rate_limit", value=3_600)
    (page,) = fetch(listing("binance"), resolution="1m", whole=minutes_back(20, at=at), now_ms=at)
    assert page.error is not None
    assert "RATE_LIMIT" in page.error


@pytest.mark.parametrize("name", ADAPTERS)
def test_fetch_unknown_symbol_names_the_listing_and_asks_once(
    url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = rest.call, []

    def call(*args: Any, **kwargs: Any) -> Any:
        asked.append(args)
        return real(*args, **kwargs)

    monkeypatch.setattr(candle_pages, "call", call)
    at = now()
    whole = minutes_back(3_000, at=at) if name != "kraken" else minutes_back(100, at=at)
    wrong = listing(name, "NOSUCH")
    pages = list(fetch(wrong, resolution="1m", whole=whole, now_ms=at, newest_first=True))
    assert [page.whole for page in pages] == [whole]
    assert pages[0].error is not None
    assert pages[0].error.startswith(f"{wrong.exchange_symbol} on {name}: ")
    assert len(asked) == 1


def test_fetch_bad_row_keeps_its_neighbours_and_is_an_error(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = rest.call

    def call(*args: Any, **kwargs: Any) -> Parsed[Candle]:
        parsed = real(*args, **kwargs)
        row = Unresolved(code=ErrorCode.BAD_PRICE, detail="1 is None")
        return Parsed(values=parsed.values[1:], unresolved=(row,))

    monkeypatch.setattr(candle_pages, "call", call)
    at = now()
    whole = minutes_back(20, at=at)
    (page,) = fetch(listing("binance"), resolution="1m", whole=whole, now_ms=at, attempts=2)
    assert read(page.candles) == expected("binance", whole)[1:]
    assert page.error == "LINKUSDT on binance: 1 rows cannot be read: BAD_PRICE: 1 is None"


def test_fetch_older_rows_only_are_an_empty_window(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = now()
    older = [
        candle
        for page in fetch(
            listing("upbit"), resolution="1m", whole=minutes_back(200, 100, at=at), now_ms=at
        )
        for candle in page.candles
    ]
    monkeypatch.setattr(candle_pages, "call", lambda *_, **__: Parsed(values=tuple(older)))
    whole = minutes_back(50, at=at)
    assert list(fetch(listing("upbit"), resolution="1m", whole=whole, now_ms=at)) == [
        CandlePage(whole=whole)
    ]


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize(("name", "kept"), [("binance", "oldest"), ("bybit", "newest")])
def test_fetch_limit_lowered_without_a_word_loses_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch, name: str, kept: str, newest_first: bool
) -> None:
    real = rest.call

    def call(*args: Any, **kwargs: Any) -> Parsed[Candle]:
        parsed = real(*args, **kwargs)
        values = parsed.values[:100] if kept == "oldest" else parsed.values[-100:]
        return Parsed(values=values)

    monkeypatch.setattr(candle_pages, "call", call)
    at = now()
    whole = minutes_back(350, at=at)
    options: Any = {"resolution": "1m", "now_ms": at, "newest_first": newest_first}
    pages = list(fetch(listing(name), whole=whole, **options))
    in_order = pages[::-1] if newest_first else pages
    assert [page.whole for page in in_order] == sorted(page.whole for page in pages)
    assert join(page.whole for page in pages) == [whole]
    got = [candle for page in in_order for candle in page.candles]
    assert read(got) == expected(name, whole)


def test_fetch_round_number_of_rows_that_nothing_is_beside_is_asked_about_once(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = rest.call, []
    at = now()
    middle = minutes_back(100, 50, at=at)

    def call(*args: Any, **kwargs: Any) -> Parsed[Candle]:
        asked.append(args)
        parsed = real(*args, **kwargs)
        return Parsed(values=tuple(c for c in parsed.values if middle.holds(c.open_ms)))

    monkeypatch.setattr(candle_pages, "call", call)
    whole = minutes_back(150, at=at)
    pages = list(fetch(listing("binance"), resolution="1m", whole=whole, now_ms=at))
    assert [(page.whole, len(page.candles)) for page in pages] == [
        (minutes_back(150, 100, at=at), 0),
        (middle, 50),
        (minutes_back(50, at=at), 0),
    ]
    assert len(asked) == 3


def test_fetch_memory_shortened_without_a_word_is_unavailable_and_not_empty(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = rest.call

    def call(*args: Any, **kwargs: Any) -> Parsed[Candle]:
        return Parsed(values=real(*args, **kwargs).values[-300:])

    monkeypatch.setattr(candle_pages, "call", call)
    at = now()
    whole = minutes_back(600, at=at)
    lost, kept = fetch(listing("kraken"), resolution="1m", whole=whole, now_ms=at)
    assert (lost.unavailable, lost.candles, kept.unavailable) == (True, (), False)
    assert read(kept.candles) == expected("kraken", kept.whole)
    assert join([lost.whole, kept.whole]) == [whole]
    assert 299 <= len(kept.candles) <= 300
    old = minutes_back(600, 550, at=at)
    assert list(fetch(listing("kraken"), resolution="1m", whole=old, now_ms=at)) == [
        CandlePage(whole=old, unavailable=True)
    ]


def test_fetch_past_minute_called_unfinished_is_an_error(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = now()
    whole = minutes_back(2, at=at)
    forming = Candle(
        open_ms=whole.start_ms,
        open=Decimal(1),
        high=Decimal(1),
        low=Decimal(1),
        close=Decimal(1),
        volume=None,
        closed=False,
    )
    monkeypatch.setattr(candle_pages, "call", lambda *_, **__: Parsed(values=(forming,)))
    (page,) = fetch(listing("okx"), resolution="1m", whole=whole, now_ms=at, attempts=1)
    assert page == CandlePage(
        whole=whole, error="LINK-USDT on okx: it calls a past minute unfinished"
    )


def test_fetch_open_circuit_is_not_asked(
    url: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BREAKER_FAILURES, settings.BREAKER_OPEN_MS = 1, 3_600_000
    monkeypatch.setattr(candle_pages, "call", lambda *_, **__: pytest.fail("asked"))
    at = now()
    breaker.record_failure("okx", code=ErrorCode.TIMEOUT, now_ms=at)
    (page,) = fetch(listing("okx"), resolution="1m", whole=minutes_back(9, at=at), now_ms=at)
    assert page.error == "LINK-USDT on okx: its circuit is open: TIMEOUT"


def test_fetch_open_circuit_is_not_waited_for_by_each_page(
    url: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BREAKER_FAILURES, settings.BREAKER_OPEN_MS = 1, 60_000
    monkeypatch.setattr(candle_pages, "call", lambda *_, **__: pytest.fail("asked"))
    at, stop = now(), Event()
    breaker.record_failure("okx", code=ErrorCode.TIMEOUT, now_ms=at)
    monkeypatch.setattr(stop, "wait", lambda *_: pytest.fail("waited"))
    whole = minutes_back(250, at=at)
    options: Any = {"resolution": "1m", "now_ms": at, "attempts": 1, "stop": stop}
    pages = list(fetch(listing("okx"), whole=whole, **options))
    assert len(pages) == 3
    assert all("its circuit is open" in (page.error or "") for page in pages)


def test_fetch_circuit_that_nobody_probes_is_asked_after_its_time(url: str, settings: Any) -> None:
    settings.BREAKER_FAILURES, settings.BREAKER_OPEN_MS = 1, 1_000
    at = now()
    breaker.record_failure("okx", code=ErrorCode.TIMEOUT, now_ms=at - 2_000)
    (page,) = fetch(listing("okx"), resolution="1m", whole=minutes_back(9, at=at), now_ms=at)
    assert page.error is None


def test_fetch_budget_that_is_spent_is_waited_for_and_no_failure(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refusals = rest.call, [1, 1, 1, 1, 1, 1, 1]

    def call(*args: Any, **kwargs: Any) -> Any:
        if refusals:
            refusals.pop()
            raise Refused("not now: budget", wait_ms=1, sent=False)
        return real(*args, **kwargs)

    monkeypatch.setattr(candle_pages, "call", call)
    at = now()
    whole = minutes_back(5, at=at)
    (page,) = fetch(listing("bybit"), resolution="1m", whole=whole, now_ms=at, attempts=1)
    assert (page.error, refusals) == (None, [])


def test_fetch_stopped_ends_without_a_page(url: str) -> None:
    stop = Event()
    stop.set()
    at = now()
    with pytest.raises(Stopped):
        list(
            fetch(
                listing("okx"),
                resolution="1m",
                whole=minutes_back(9, at=at),
                now_ms=at,
                stop=stop,
            )
        )


def test_fetch_resolution_an_exchange_lacks_is_refused() -> None:
    at = 1_700_000_000_000
    with pytest.raises(ValueError, match="coinbase has candles of"):
        list(
            fetch(
                listing("coinbase"),
                resolution="4h",
                whole=minutes_back(2_000, at=at),
                now_ms=at,
            )
        )
