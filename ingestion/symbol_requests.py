"""Who asked for candles out of turn; what is asked for often may become a core symbol."""

from __future__ import annotations

import structlog
from django.conf import settings

from ingestion import core_symbols
from ingestion.models import SymbolRequest
from market.candles import to_datetime
from market.coverage import INDEX, Series

PROMOTING_COUNT = 3
WITHIN_MS = 7 * 86_400_000

log = structlog.get_logger(__name__)


def note(series: Series, *, requested_by: str, now_ms: int) -> bool:
    """Note a request; True when it made the symbol a core symbol (`PROMOTE_SYMBOLS`).

    With the timeframes that were asked for within the week.
    """
    SymbolRequest.objects.create(
        exchange=series.exchange,
        symbol=series.symbol,
        timeframe=series.timeframe,
        requested_by=requested_by[:64],
        requested_at=to_datetime(now_ms),
    )
    if not settings.PROMOTE_SYMBOLS or series.exchange == INDEX:
        return False
    recent = SymbolRequest.objects.filter(
        exchange=series.exchange,
        symbol=series.symbol,
        requested_at__gt=to_datetime(now_ms - WITHIN_MS),
    )
    if recent[:PROMOTING_COUNT].count() < PROMOTING_COUNT or _is_core(series):
        return False
    asked = recent.order_by("timeframe").values_list("timeframe", flat=True).distinct()
    core_symbols.add(series.exchange, [series.symbol], timeframes=list(asked), added_by="promoted")
    log.info("core_symbol.promoted", exchange=series.exchange, symbol=series.symbol)
    return True


def _is_core(series: Series) -> bool:
    """Is it one already, or was it disabled by a person, who is not overruled?"""
    core = core_symbols.listed(exchange=series.exchange, include_disabled=True)
    return core.filter(symbol__name=series.symbol).exists()
