"""Points in time as people type them."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from datetime import UTC, datetime

from market.candles import epoch_ms

ACCEPTED = "an ISO date such as 2024-05-01 or 2024-05-01T12:30 (UTC), unix seconds, -24h, or now"
_UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_AGO = re.compile(r"-([0-9]{1,6})([mhdw])")
_SECONDS = re.compile(r"[0-9]{9,10}")


def read_moment(text: str, *, now_ms: int) -> int:
    """Epoch milliseconds of what was typed. Raises ValueError saying what is accepted.

    Not so long ago that it was before 1970: who typed that meant something else.
    """
    text = text.strip()
    if text == "now":
        return now_ms
    if ago := _AGO.fullmatch(text):
        ms = now_ms - int(ago[1]) * _UNITS_MS[ago[2]]
        if ms < 0:
            raise ValueError(f"{text!r} is no point in time since 1970: write {ACCEPTED}")
        return ms
    if _SECONDS.fullmatch(text):
        return int(text) * 1_000
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no point in time: write {ACCEPTED}") from None
    return epoch_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def allow_ago(parser: ArgumentParser) -> None:
    """Have a parser take ``-24h`` for a value, as it takes ``-24``: not for an option."""
    parser._negative_number_matcher = re.compile(r"-[0-9]+[mhdw]?")
