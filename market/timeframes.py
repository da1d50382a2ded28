"""Lengths of candles as people spell them: ``1min``, ``60m``, ``24h`` and ``1day`` are ours too."""

from __future__ import annotations

import re

from oracle.values import RESOLUTIONS

_SPELLED = re.compile(r"([1-9][0-9]{0,4})\s?([a-z]+)", re.ASCII)
_UNITS_MS = {
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60_000),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3_600_000),
    **dict.fromkeys(("d", "day", "days"), 86_400_000),
}
_NAMES = {length_ms: name for name, length_ms in RESOLUTIONS.items()}


class UnknownTimeframeError(ValueError):
    """No candles of ours are as long as this text says."""

    retryable = False


def normalise(text: str) -> str:
    """Our name of a timeframe: ``1m 5m 15m 1h 4h 1d``. ``60m`` → ``1h``, ``24h`` → ``1d``.

    Raises UnknownTimeframeError. ``1M``, a month everywhere else, is refused and not read as 1m.
    """
    wanted = text.strip()
    found = None if wanted.endswith("M") else _SPELLED.fullmatch(wanted.lower())
    if found is not None:
        name = _NAMES.get(int(found[1]) * _UNITS_MS.get(found[2], 0))
        if name is not None:
            return name
    raise UnknownTimeframeError(
        f"unknown timeframe {text[:40]!r}: there are {' '.join(RESOLUTIONS)}, "
        "also written 1min, 60m, 1hour, 24h, 1day"
    )
