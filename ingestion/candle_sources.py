"""Where an exchange's own candles come from: its adapter, or ccxt for any other exchange."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Event

from ingestion import candle_pages, ccxt_candles
from ingestion.candle_pages import CandlePage
from ingestion.registry import ADAPTERS
from market.coverage import Series
from market.models import Listing
from market.ranges import TimeRange
from oracle.catalog import CatalogListing
from oracle.values import RESOLUTIONS

# What is kept of an exchange where nobody says otherwise; of 4h some exchanges have none.
TIMEFRAMES = ("1m", "5m", "15m", "1h", "1d")


class CandleError(Exception):
    """Candles of an exchange that cannot be had. ``retryable``: a later try may have them."""

    def __init__(self, detail: str, *, retryable: bool) -> None:
        super().__init__(detail)
        self.retryable = retryable


class UnknownExchangeError(CandleError):
    """No exchange that we or ccxt know is called so."""

    def __init__(self, exchange: str) -> None:
        more = "" if ccxt_candles.is_installed() else f"; {ccxt_candles.HOW_TO_INSTALL}"
        names = ", ".join(known_exchanges())
        super().__init__(
            f"unknown exchange {exchange[:64]!r}: there are {names}{more}", retryable=False
        )


def known_exchanges() -> list[str]:
    """Every exchange whose candles can be asked for here."""
    return sorted({*ADAPTERS, *ccxt_candles.exchanges()})


def check(exchange: str, *timeframes: str) -> None:
    """Raise CandleError for an exchange nobody knows, or a timeframe that it is known to lack.

    What an exchange of ccxt has is known when it is first asked.
    """
    if exchange in ADAPTERS:
        for timeframe in timeframes:
            _check_timeframe(exchange, timeframe)
    elif exchange not in ccxt_candles.exchanges():
        raise UnknownExchangeError(exchange)


def _check_timeframe(exchange: str, timeframe: str) -> None:
    adapter, step_ms = ADAPTERS[exchange], RESOLUTIONS[timeframe]
    try:
        adapter.candles_request(
            adapter.to_native("BTC/USD"),
            resolution_ms=step_ms,
            from_ms=step_ms,
            to_ms=2 * step_ms,
            now_ms=2 * step_ms,
        )
    except ValueError as error:
        raise CandleError(str(error), retryable=False) from error


def spell(exchange: str, symbol: str) -> str:
    """A symbol as the exchange spells it; ccxt spells all as we do."""
    return ADAPTERS[exchange].to_native(symbol) if exchange in ADAPTERS else symbol


def own_market(exchange: str, symbol: str) -> Listing | None:
    """The listing of the symbol itself: one in another currency is priced, not traded, in it."""
    quote = symbol.split("/")[1]
    found = Listing.objects.filter(exchange__name=exchange, symbol__name=symbol, quote=quote)
    return found.order_by("-enabled", "id").first()


def pages(
    series: Series, missing: Sequence[TimeRange], *, now_ms: int, stop: Event
) -> Iterator[CandlePage]:
    """Yield the pages of these ranges, oldest first; fewer once ``stop`` is set."""
    if not missing:
        return
    native = _native(series) if series.exchange in ADAPTERS else None
    for part in missing:
        try:
            if native is not None:
                yield from candle_pages.fetch(
                    native, resolution=series.timeframe, whole=part, now_ms=now_ms, stop=stop
                )
            else:
                yield from ccxt_candles.fetch(series, part, now_ms=now_ms, stop=stop)
        except candle_pages.Stopped:
            return


def _native(series: Series) -> CatalogListing:
    listed = own_market(series.exchange, series.symbol)
    return CatalogListing(
        exchange=series.exchange,
        exchange_symbol=(
            listed.exchange_symbol if listed else spell(series.exchange, series.symbol)
        ),
        symbol=series.symbol,
        quote=series.symbol.split("/")[1],
    )
