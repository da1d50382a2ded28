"""Names of symbols: the canonical ``BTC/USDT``, the slug ``btc-usdt`` and what people type."""

from __future__ import annotations

import re
from collections.abc import Collection

_PART = r"[A-Z0-9]{1,16}"
_CANONICAL = re.compile(rf"{_PART}/{_PART}")


class UnknownSymbolError(ValueError):
    """No symbol of ours is meant by this text, or more than one is."""

    retryable = False


def slug(symbol: str) -> str:
    """``BTC/USDT`` → ``btc-usdt``."""
    return symbol.replace("/", "-").lower()


def is_canonical(text: str) -> bool:
    """Is this text the canonical form of a name: ``BTC/USDT``?"""
    return _CANONICAL.fullmatch(text) is not None


def resolve(text: str, known: Collection[str]) -> str:
    """The one of the ``known`` symbols that ``text`` means.

    Accepts ``BTC/USDT``, ``BTC-USDT``, ``btc-usdt``, ``btc_usdt`` and, where only one symbol reads
    so, ``BTCUSDT``. Raises UnknownSymbolError.
    """
    wanted = text.strip().upper().replace("-", "/").replace("_", "/")
    if wanted in known:
        return wanted
    joined = [name for name in known if name.replace("/", "") == wanted]
    if len(joined) == 1:
        return joined[0]
    if joined:
        raise UnknownSymbolError(f"{text!r} may mean {' or '.join(sorted(joined))}: say which")
    raise UnknownSymbolError(f"unknown symbol {text!r}: write it as BTC/USDT or btc-usdt")
