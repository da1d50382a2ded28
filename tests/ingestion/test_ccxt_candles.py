"""Candles by way of ccxt: really ccxt, over HTTP, from the simulated Binance and Kraken."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from threading import Event
from typing import Any

import ccxt  # type: ignore[import-untyped]
import pytest

from ingestion import budget, candle_sources, ccxt_candles
from ingestion.candle_pages import CandlePage, Stopped
from ingestion.ccxt_candles import Client
from ingestion.exchange_candles import UnavailableError, ensure_range
from ingestion.registry import ADAPTERS
from market.coverage import Series
from market.models import Coverage, ExchangeCandle
from market.ranges import TimeRange
from oracle.values import Candle
from tests.ingestion.simulated import recover, simulator, suffer

MINUTE_MS, DAY_MS = 60_000, 86_400_000
NOW_MS = time.time_ns() // 1_000_000
END_MS = NOW_MS // DAY_MS * DAY_MS - 7 * DAY_MS
BINANCE = Series(exchange="binance", symbol="BTC/USDT", timeframe="1m")
KRAKEN = Series(exchange="kraken", symbol="BTC/USD", timeframe="1m")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with simulator() as url:
        yield url


@pytest.fixture
def simulated(server: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Our adapters ask the simulator, and so does ccxt."""
    settings.SIMULATOR_URL = server
    settings.HTTP_TOTAL_TIMEOUT_MS = 5_000
    monkeypatch.setattr(ccxt_candles, "FIRST_PAUSE_SECONDS", 0.01)
    real = ccxt_candles.client
    real.cache_clear()

    def pointed(name: str) -> Client:
        client = real(name)
        exchange = client.exchange
        exchange.urls["api"] = {
            key: f"{server}/{name}/" + str(url).removeprefix("https://").partition("/")[2]
            for key, url in exchange.urls["api"].items()
        }
        if name == "kraken":
            exchange.urls["api"]["public"] = f"{server}/kraken"
        exchange.options["fetchMarkets"] = {"types": ["spot"]}
        exchange.rateLimit = 10
        return client

    monkeypatch.setattr(ccxt_candles, "client", pointed)
    yield server
    recover(server)
    for name in ("binance", "kraken"):
        real(name).exchange.session.close()
    real.cache_clear()


@pytest.fixture
def without_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if Binance and Kraken were exchanges that only ccxt knows."""
    monkeypatch.setattr(candle_sources, "ADAPTERS", {})


def fetch(series: Series, whole: TimeRange, **options: Any) -> list[CandlePage]:
    return list(ccxt_candles.fetch(series, whole, now_ms=NOW_MS, **options))


def last(minutes: int) -> TimeRange:
    return TimeRange(start_ms=END_MS - minutes * MINUTE_MS, end_ms=END_MS)


class Exchange:
    """Stands in for an exchange of ccxt: answers with these rows, or raises."""

    rateLimit = 1
    timeframes = {"1m": "1m", "5m": "5m", "1h": "1h"}  # noqa: RUF012

    def __init__(self, *answers: Any, limit: int | None = 3) -> None:
        self.answers = list(answers)
        self.limit = limit
        self.asked: list[tuple[str, int]] = []

    def load_markets(self, reload: bool = False) -> dict[str, Any]:
        return {"BTC/USD": {}}

    def feature_value_by_type(self, *_: Any) -> int | None:
        return self.limit

    def fetch_ohlcv(self, symbol: str, timeframe: str, since: int, limit: int | None) -> Any:
        self.asked.append((timeframe, since))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


SERIES = Series(exchange="bitstamp", symbol="BTC/USD", timeframe="1m")


def fake(monkeypatch: pytest.MonkeyPatch, exchange: Any) -> Any:
    monkeypatch.setattr(ccxt_candles, "client", lambda _: Client(exchange=exchange))
    monkeypatch.setattr(ccxt_candles, "FIRST_PAUSE_SECONDS", 0.0)
    return exchange


def row(minute: int, volume: Any = "1") -> list[Any]:
    return [BASE_MS + minute * MINUTE_MS, "2", "3", "1", "2.5", volume]


BASE_MS = 1_700_000_400_000  # a whole hour, and day's part
WHOLE = TimeRange(start_ms=BASE_MS, end_ms=BASE_MS + 6 * MINUTE_MS)


def shape(pages: list[CandlePage]) -> list[tuple[int, int, int, bool]]:
    return [
        (
            (page.whole.start_ms - BASE_MS) // MINUTE_MS,
            (page.whole.end_ms - BASE_MS) // MINUTE_MS,
            len(page.candles),
            page.unavailable,
        )
        for page in pages
    ]


# --- really ccxt ---


@pytest.mark.django_db
@pytest.mark.parametrize("timeframe", ["1m", "1h"])
def test_ccxt_gives_the_same_candles_as_our_adapter_to_the_last_digit(
    simulated: str, monkeypatch: pytest.MonkeyPatch, timeframe: str
) -> None:
    span: dict[str, Any] = {
        "start_ms": END_MS - 2_200 * MINUTE_MS,
        "end_ms": END_MS,
        "now_ms": NOW_MS,
    }
    rows = []
    for adapters in (ADAPTERS, {}):
        monkeypatch.setattr(candle_sources, "ADAPTERS", adapters)
        ensure_range("binance", "BTC/USDT", timeframe, **span)
        rows.append(list(ExchangeCandle.objects.order_by("time").values()))
        ExchangeCandle.objects.all().delete()
        Coverage.objects.all().delete()
    assert len(rows[0]) > 30
    assert rows[0] == rows[1]


@pytest.mark.django_db
@pytest.mark.usefixtures("without_adapters")
def test_what_an_exchange_no_longer_keeps_is_no_quiet_time(simulated: str) -> None:
    start_ms = NOW_MS // MINUTE_MS * MINUTE_MS - 1_000 * MINUTE_MS
    with pytest.raises(UnavailableError) as caught:
        ensure_range("kraken", "BTC/USD", "1m", start_ms=start_ms, end_ms=NOW_MS, now_ms=NOW_MS)
    assert 270 < (caught.value.first_available_ms - start_ms) / MINUTE_MS < 290
    assert ExchangeCandle.objects.count() > 650


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (Series(exchange="binance", symbol="NO/USDT", timeframe="1m"), "does not list NO/USDT"),
        (Series(exchange="kraken", symbol="BTC/USD", timeframe="2m"), "not of 2m"),
    ],
)
def test_what_the_exchange_does_not_have_is_one_error(
    simulated: str, monkeypatch: pytest.MonkeyPatch, series: Series, message: str
) -> None:
    monkeypatch.setattr(ccxt_candles, "RESOLUTIONS", {"1m": MINUTE_MS, "2m": 2 * MINUTE_MS})
    [page] = fetch(series, last(10))
    assert (page.whole, page.retryable) == (last(10), False)
    assert message in str(page.error)


def test_exchange_that_is_down_is_asked_again_and_then_an_error(simulated: str) -> None:
    fetch(BINANCE, last(5))  # its markets are known
    suffer(simulated, "binance", "error")
    [page] = fetch(BINANCE, last(5))
    assert (page.whole, page.candles, page.retryable) == (last(5), (), True)
    assert "ExchangeNotAvailable" in str(page.error)


def test_rate_limit_blocks_the_exchange_for_all(
    simulated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(BINANCE, last(5))
    monkeypatch.setattr(ccxt_candles, "PATIENCE_SECONDS", 0.5)
    suffer(simulated, "binance", "rate_limit")
    [page] = fetch(BINANCE, last(5))
    assert page.error == "binance does not want to be asked now"
    assert budget.blocked_until("binance", now_ms=NOW_MS) is not None


# --- paging ---


def test_pages_follow_each_other_by_since(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = fake(
        monkeypatch,
        Exchange([row(0), row(1), row(2)], [row(3), row(4), row(5)]),
    )
    assert shape(fetch(SERIES, WHOLE)) == [(0, 3, 3, False), (3, 6, 3, False)]
    assert [(since - BASE_MS) // MINUTE_MS for _, since in exchange.asked] == [0, 3]


def test_short_answer_proves_nothing_about_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    # Fewer than the limit: perhaps it has another limit than ccxt knows.
    fake(monkeypatch, Exchange([row(0)], [row(1), row(2), row(3)], [row(4)], [row(9)]))
    assert shape(fetch(SERIES, WHOLE)) == [
        (0, 1, 1, False),
        (1, 4, 3, False),
        (4, 5, 1, False),
        (5, 6, 0, False),
    ]


def test_empty_answer_covers_what_one_call_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, Exchange([], [row(3), row(4), row(5)]))
    assert shape(fetch(SERIES, WHOLE)) == [(0, 3, 0, False), (3, 6, 3, False)]


def test_empty_answer_of_an_exchange_without_a_known_limit_covers_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = ccxt_candles.FEW_CANDLES
    whole = TimeRange(start_ms=BASE_MS, end_ms=BASE_MS + (few + 2) * MINUTE_MS)
    fake(monkeypatch, Exchange([], [], [row(few), row(few + 1)], limit=None))
    assert shape(fetch(SERIES, whole)) == [(0, few, 0, False), (few, few + 2, 2, False)]


def test_hole_in_which_longer_candles_show_trades_is_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = TimeRange(start_ms=BASE_MS, end_ms=BASE_MS + 9 * MINUTE_MS)
    exchange = fake(monkeypatch, Exchange([row(6), row(7), row(8)], [row(0)]))
    assert shape(fetch(SERIES, whole)) == [(0, 6, 0, True), (6, 9, 3, False)]
    assert exchange.asked == [("1m", BASE_MS), ("5m", BASE_MS)]


def test_hole_in_which_longer_candles_show_none_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = TimeRange(start_ms=BASE_MS, end_ms=BASE_MS + 9 * MINUTE_MS)
    fake(monkeypatch, Exchange([row(6), row(7), row(8)], [row(0, "0"), row(5)]))
    assert shape(fetch(SERIES, whole)) == [(0, 9, 3, False)]


def test_newest_candles_instead_of_those_asked_for_leave_the_rest_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exchange = fake(monkeypatch, Exchange([row(3), row(4), row(5)]))
    now_ms = BASE_MS + 6 * MINUTE_MS + 1
    pages = list(ccxt_candles.fetch(SERIES, WHOLE, now_ms=now_ms))
    assert shape(pages) == [(0, 3, 0, True), (3, 6, 3, False)]
    assert len(exchange.asked) == 1


def test_stop_ends_any_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = fake(monkeypatch, Exchange(ccxt.RequestTimeout("late")))
    monkeypatch.setattr(ccxt_candles, "FIRST_PAUSE_SECONDS", 60.0)
    stop = Event()
    real = exchange.fetch_ohlcv

    def asked(*args: Any) -> Any:
        stop.set()
        return real(*args)

    exchange.fetch_ohlcv = asked
    with pytest.raises(Stopped):
        fetch(SERIES, WHOLE, stop=stop)


# --- reading ---


def test_float_becomes_the_decimal_that_it_means() -> None:
    opened = BASE_MS
    assert ccxt_candles._candle([opened, 0.1, 0.3, 1e-07, 0.1, 123456789.123]) == Candle(
        open_ms=opened,
        open=Decimal("0.1"),
        high=Decimal("0.3"),
        low=Decimal("0.0000001"),
        close=Decimal("0.1"),
        volume=Decimal("123456789.123"),
    )


@pytest.mark.parametrize(
    "bad",
    [
        [],
        [BASE_MS, "1", "1", "1", "1"],
        [BASE_MS, None, "1", "1", "1", "1"],
        [BASE_MS, "nan", "1", "1", "1", "1"],
        [BASE_MS, "x", "1", "1", "1", "1"],
        [BASE_MS, "0", "1", "1", "1", "1"],
        [BASE_MS, "2", "1", "1", "1", "1"],
        ["x", "1", "1", "1", "1", "1"],
        [BASE_MS + 1, "1", "1", "1", "1", "1"],
    ],
)
def test_row_that_cannot_be_right_fails_the_page(
    monkeypatch: pytest.MonkeyPatch, bad: list[Any]
) -> None:
    fake(monkeypatch, Exchange([bad]))
    [page] = fetch(SERIES, WHOLE)
    assert page.whole == WHOLE
    assert "candle" in str(page.error)


# --- errors ---


@pytest.mark.parametrize(
    ("error", "retryable", "limited"),
    [
        (ccxt.RequestTimeout, True, False),
        (ccxt.NetworkError, True, False),
        (ccxt.ExchangeNotAvailable, True, False),
        (ccxt.OnMaintenance, True, False),
        (ccxt.RateLimitExceeded, True, True),
        (ccxt.DDoSProtection, True, True),
        (ccxt.BadSymbol, False, False),
        (ccxt.BadRequest, False, False),
        (ccxt.NotSupported, False, False),
        (ccxt.AuthenticationError, False, False),
        (ccxt.PermissionDenied, False, False),
        (ccxt.ExchangeError, False, False),
    ],
)
def test_error_is_worth_another_try_or_not(
    error: type[Exception], retryable: bool, limited: bool
) -> None:
    one = error("why")
    assert ccxt_candles.describe(one).retryable is retryable
    assert ccxt_candles.is_rate_limit(one) is limited
    assert str(ccxt_candles.describe(one)) == f"{error.__name__}: why"


def test_error_for_good_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = fake(monkeypatch, Exchange(ccxt.BadSymbol("gone")))
    [page] = fetch(SERIES, WHOLE)
    assert (page.error, len(exchange.asked)) == ("BadSymbol: gone", 1)


def test_error_that_passes_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, Exchange(ccxt.RequestTimeout("late"), [row(0), row(5)]))
    assert shape(fetch(SERIES, WHOLE)) == [(0, 6, 2, False)]


# --- what is there ---


def test_exchanges_are_known_without_importing_ccxt() -> None:
    assert ccxt_candles.exchanges() == set(ccxt.exchanges)
    code = (
        "import django; django.setup(); from ingestion import tasks, admin, api; "
        "from ingestion import ccxt_candles; import sys; "
        "assert 'bitstamp' in ccxt_candles.exchanges(); assert 'ccxt' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_exchanges_of_ccxt_in_the_simulated_world(settings: Any) -> None:
    settings.SIMULATED = True
    assert ccxt_candles.exchanges() == set()


def test_client_keeps_to_the_rate(settings: Any) -> None:
    settings.CCXT_RATE_LIMIT_MS = 250
    ccxt_candles.client.cache_clear()
    exchange = ccxt_candles.client("gate").exchange
    assert (exchange.enableRateLimit, exchange.rateLimit) == (True, 250)
    assert exchange.timeout == ccxt_candles.TIMEOUT_MS
    ccxt_candles.client.cache_clear()


def test_rate_is_that_of_all_processes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = fake(monkeypatch, Exchange([row(0)], [row(1)], [row(2)]))
    exchange.rateLimit = 150
    began = time.monotonic()
    fetch(SERIES, TimeRange(start_ms=BASE_MS, end_ms=BASE_MS + 3 * MINUTE_MS))
    # The list of markets and three pages: three times the pause between two calls.
    assert time.monotonic() - began >= 0.45
