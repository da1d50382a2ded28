"""Core symbols: listings with timeframes, whose exchange candles are kept up to date.

This has nothing to do with what is priced. A listing is a source of the price while it and its
exchange are ``enabled``, and a core symbol while it has timeframes and is ``synced``: neither
switch touches the other. What is added here and was not known before is therefore added disabled
(exchange, symbol and listing): nobody polls it, streams it, or serves a price of it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from django.db import transaction
from django.db.models import QuerySet

from ingestion import candle_sources
from ingestion.candle_sources import TIMEFRAMES
from market.models import Exchange, Listing, Symbol
from market.symbols import is_canonical, resolve
from market.timeframes import normalise
from oracle.values import RESOLUTIONS

Action = Literal["remove", "enable", "disable"]
ACTIONS: tuple[Action, ...] = ("remove", "enable", "disable")


class CoreSymbolError(ValueError):
    """A symbol or timeframe that cannot be one of an exchange's; the text says why."""

    retryable = False


def listed(*, exchange: str | None = None, include_disabled: bool = False) -> QuerySet[Listing]:
    """The core symbols, of one exchange or of all, by exchange and name."""
    found = Listing.objects.exclude(timeframes=[]).select_related("exchange", "symbol")
    if exchange is not None:
        found = found.filter(exchange__name=exchange)
    if not include_disabled:
        found = found.filter(synced=True)
    return found.order_by("exchange__name", "symbol__name", "id")


def check_exchange(exchange: str) -> None:
    """Raise UnknownExchangeError for one that is neither here nor can be asked for candles.

    One that is here may have lost its adapter or ccxt since: what it has can still be looked at.
    """
    if not Exchange.objects.filter(name=exchange).exists():
        candle_sources.check(exchange)


@transaction.atomic
def add(
    exchange: str,
    symbols: Sequence[str],
    *,
    timeframes: Sequence[str] | None = None,
    added_by: str,
    taken_over: bool = False,
) -> list[Listing]:
    """Make symbols of an exchange core symbols; those that are keep the timeframes they have.

    ``timeframes`` None: the usual ones, for those that have none. ``taken_over``: a person names
    them, so what was listed before is ``added_by`` that person from now on. Raises
    `CoreSymbolError`, and `CandleError` for an unknown exchange or a timeframe that it lacks.
    """
    wanted = [] if timeframes is None else [normalise(text) for text in timeframes]
    candle_sources.check(exchange, *wanted)
    names = canonical(symbols)
    venue, _ = Exchange.objects.get_or_create(
        name=exchange, defaults={"title": exchange.title(), "enabled": False}
    )
    # One at a time on an exchange, or two would each add what neither sees of the other's.
    Exchange.objects.select_for_update().get(pk=venue.pk)
    rows = [_listing(venue, name, added_by=added_by) for name in names]
    for row in rows:
        have = {*row.timeframes, *wanted} or set(TIMEFRAMES)
        row.timeframes = [name for name in RESOLUTIONS if name in have]
        row.synced = True
        if taken_over:
            row.added_by = added_by
        row.save()
    return rows


def _listing(venue: Exchange, name: str, *, added_by: str) -> Listing:
    """The listing of a symbol, or a new one that is not saved."""
    base, quote = name.split("/")
    listing = candle_sources.own_market(venue.name, name)
    if listing is None:
        symbol, _ = Symbol.objects.get_or_create(
            name=name, defaults={"base": base, "quote": quote, "enabled": False}
        )
        listing = Listing(
            exchange=venue,
            symbol=symbol,
            exchange_symbol=candle_sources.spell(venue.name, name),
            quote=quote,
            enabled=False,
            added_by=added_by,
        )
    return listing


@transaction.atomic
def change(action: Action, exchange: str, symbols: Sequence[str]) -> list[str]:
    """Remove, enable or disable core symbols; the names of those that were changed.

    A removed one stays listed, without timeframes; its candles stay too. Raises `CoreSymbolError`
    for symbols to enable or disable that are no core symbols of the exchange.
    """
    names = canonical(symbols)
    found = listed(exchange=exchange, include_disabled=True).filter(symbol__name__in=names)
    rows = list(found.select_for_update(of=("self",)))
    missing = sorted(set(names) - {row.symbol.name for row in rows})
    if missing and action != "remove":
        raise CoreSymbolError(
            f"no core symbols of {exchange}: {', '.join(missing)}. Add them with POST"
        )
    if action == "remove":
        chosen = rows
        _of(chosen).update(timeframes=[])
    else:
        chosen = [row for row in rows if row.synced != (action == "enable")]
        _of(chosen).update(synced=action == "enable")
    return [row.symbol.name for row in chosen]


def _of(rows: Collection[Listing]) -> QuerySet[Listing]:
    return Listing.objects.filter(pk__in=[row.pk for row in rows])


def canonical(symbols: Sequence[str]) -> list[str]:
    """The names of symbols written in any of our spellings, each once. Raises `CoreSymbolError`.

    A symbol that is new here needs its two parts told apart: ``BTC/USDT``, not ``BTCUSDT``.
    """
    known = set(Symbol.objects.values_list("name", flat=True))
    names: dict[str, None] = {}
    wrong = []
    for text in symbols:
        name = text.strip().upper().replace("-", "/").replace("_", "/")
        if not is_canonical(name):
            try:
                name = resolve(text, known)
            except ValueError as error:
                wrong.append(str(error))
                continue
        base, quote = name.split("/")
        if base == quote:
            wrong.append(f"{name} prices {base} in itself")
        names[name] = None
    if wrong:
        raise CoreSymbolError("; ".join(wrong))
    return list(names)
