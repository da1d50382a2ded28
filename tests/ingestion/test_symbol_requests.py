from typing import Any

import pytest

from ingestion import core_symbols, symbol_requests
from ingestion.exchange_candles import ensure_range
from ingestion.models import SymbolRequest
from market.coverage import INDEX, Series

pytestmark = pytest.mark.django_db

NOW_MS = 1_795_000_000_000
DAY_MS = 86_400_000


def note(timeframe: str = "1h", *, exchange: str = "okx", days_ago: int = 0) -> bool:
    series = Series(exchange=exchange, symbol="BTC/USDT", timeframe=timeframe)
    return symbol_requests.note(series, requested_by="someone", now_ms=NOW_MS - days_ago * DAY_MS)


def promoted() -> list[tuple[str, list[str]]]:
    return [(row.symbol.name, row.timeframes) for row in core_symbols.listed()]


def test_third_request_of_a_week_promotes(settings: Any) -> None:
    settings.PROMOTE_SYMBOLS = True
    assert [note("1h", days_ago=6), note("1m"), note("1m")] == [False, False, True]
    assert promoted() == [("BTC/USDT", ["1m", "1h"])]
    assert note() is False


def test_requests_of_longer_ago_or_elsewhere_do_not_count(settings: Any) -> None:
    settings.PROMOTE_SYMBOLS = True
    note(days_ago=8)
    note(exchange="bybit")
    assert [note(), note()] == [False, False]
    assert promoted() == []


def test_nothing_is_promoted_unless_asked_for() -> None:
    assert [note() for _ in range(4)] == [False] * 4
    assert SymbolRequest.objects.count() == 4


def test_what_a_person_disabled_is_not_promoted(settings: Any) -> None:
    settings.PROMOTE_SYMBOLS = True
    core_symbols.add("okx", ["BTC/USDT"], added_by="me")
    core_symbols.change("disable", "okx", ["BTC/USDT"])
    assert [note() for _ in range(4)] == [False] * 4
    assert promoted() == []


def test_index_is_noted_and_never_promoted(settings: Any) -> None:
    settings.PROMOTE_SYMBOLS = True
    assert [note(exchange=INDEX) for _ in range(4)] == [False] * 4


def test_only_what_somebody_asks_for_is_noted() -> None:
    span: dict[str, Any] = {"start_ms": NOW_MS - DAY_MS, "end_ms": NOW_MS, "now_ms": NOW_MS}
    ensure_range(INDEX, "BTC/USDT", "60m", **span)
    assert not SymbolRequest.objects.exists()
    ensure_range(INDEX, "BTC/USDT", "60m", requested_by="run 7", **span)
    [row] = SymbolRequest.objects.values_list("exchange", "symbol", "timeframe", "requested_by")
    assert row == (INDEX, "BTC/USDT", "1h", "run 7")
