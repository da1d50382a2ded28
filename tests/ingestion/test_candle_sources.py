"""Which exchange is asked for candles, how, and what is known to be in vain."""

from __future__ import annotations

from threading import Event
from typing import Any

import pytest

from ingestion import candle_pages, candle_sources, ccxt_candles
from ingestion.candle_sources import CandleError, UnknownExchangeError
from ingestion.registry import ADAPTERS
from market.coverage import Series
from market.models import Listing
from market.ranges import TimeRange
from tests.factories import ExchangeFactory, ListingFactory, SymbolFactory


@pytest.mark.django_db
def test_market_is_the_one_in_the_symbols_own_quote_as_it_is_listed() -> None:
    symbol: Any = SymbolFactory(name="BTC/USDT")
    exchange: Any = ExchangeFactory(name="upbit")
    ListingFactory(symbol=symbol, exchange=exchange, exchange_symbol="KRW-BTC", quote="KRW")
    series = Series(exchange="upbit", symbol="BTC/USDT", timeframe="1m")
    assert candle_sources._native(series).exchange_symbol == "USDT-BTC"
    Listing.objects.create(
        symbol=symbol, exchange=exchange, exchange_symbol="USDT-XBT", quote="USDT"
    )
    assert candle_sources._native(series).exchange_symbol == "USDT-XBT"


def test_check_passes_what_there_is() -> None:
    for name in ADAPTERS:
        candle_sources.check(name, *candle_sources.TIMEFRAMES)
    candle_sources.check("bitstamp", *candle_sources.TIMEFRAMES)


def test_check_names_the_exchanges_there_are() -> None:
    with pytest.raises(
        UnknownExchangeError, match=r"'mtgox': there are .*binance, .*bitstamp"
    ) as caught:
        candle_sources.check("mtgox")
    assert not caught.value.retryable


def test_check_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccxt_candles, "is_installed", lambda: False)
    monkeypatch.setattr(ccxt_candles, "exchanges", frozenset)
    with pytest.raises(UnknownExchangeError, match=r"pip install -r requirements/ccxt\.txt"):
        candle_sources.check("bitstamp")


def test_check_names_the_timeframes_there_are() -> None:
    with pytest.raises(CandleError, match="coinbase has candles of 1m 5m 15m 1h 1d"):
        candle_sources.check("coinbase", "1m", "4h")


def test_pages_end_without_a_word_once_they_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any, **__: Any) -> Any:
        raise candle_pages.Stopped

    monkeypatch.setattr(ccxt_candles, "fetch", stopped)
    series = Series(exchange="bitstamp", symbol="BTC/USD", timeframe="1m")
    ranges = [TimeRange(start_ms=0, end_ms=1), TimeRange(start_ms=2, end_ms=3)]
    assert list(candle_sources.pages(series, ranges, now_ms=9, stop=Event())) == []
