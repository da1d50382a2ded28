"""Symbols in an exchange's spelling and in ours: ``BTCUSDT``, ``BTC-USDT`` and ``BTC/USDT``."""

from __future__ import annotations

from collections.abc import Sequence


def split_symbol(symbol: str) -> tuple[str, str]:
    """Split ``BTC/USDT`` into base and quote. Raises ValueError on any other form."""
    base, _, quote = symbol.partition("/")
    if joined(base, quote) != symbol:
        raise ValueError(f"a symbol is written BTC/USDT, got {symbol!r}")
    return base, quote


def joined(base: str, quote: str) -> str | None:
    """Join base and quote, or None where one of them is no asset's name."""
    for asset in (base, quote):
        if not asset.isalnum() or asset != asset.upper():
            return None
    return f"{base}/{quote}"


def from_dashed(exchange_symbol: str) -> str | None:
    """``BTC-USDT`` to ``BTC/USDT``; None where it is not two assets (``BTC-USD-SWAP``)."""
    base, _, quote = exchange_symbol.partition("-")
    return joined(base, quote)


def from_concatenated(exchange_symbol: str, quotes: Sequence[str]) -> str | None:
    """``BTCUSDT`` to ``BTC/USDT`` by the longest of ``quotes`` it ends with; None: none of them."""
    for quote in sorted(quotes, key=len, reverse=True):
        base = exchange_symbol.removesuffix(quote)
        if base and base != exchange_symbol:
            return joined(base, quote)
    return None
