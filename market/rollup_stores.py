"""Where the candles of each table are stored, and up to when all of them are.

A reader that takes what is stored from there, and folds what is newer, never reads a real-time
view: that would be planned down to the minutes, and could not stop at a page's end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from market import aggregates
from market.ranges import TimeRange
from market.rollup_levels import LEVELS

FOR_EVER_MS = 253_402_300_799_000  # the end of the year 9999


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Rows of ``relation`` are candles where they open before ``until_ms``; later ones are not."""

    relation: str
    until_ms: int = FOR_EVER_MS


MINUTES = Store(relation=LEVELS[0].below)
TABLES: Mapping[str, Store] = {
    MINUTES.relation: MINUTES,
    **{level.table: Store(relation=level.table) for level in LEVELS},
}


def read() -> Mapping[str, Store]:
    """Ask the database: the store of each table of candles, by the table's name."""
    if not aggregates.in_use():
        return TABLES
    return {
        MINUTES.relation: MINUTES,
        **{
            table: Store(relation=relation, until_ms=until_ms)
            for table, relation, until_ms in aggregates.stored()
        },
    }


def relation_of(resolution: str, whole: TimeRange) -> str:
    """Where the candles of a range are all to be read: stored, or a real-time view if need be."""
    table = f"ohlcv_{resolution}"
    store = read()[table]
    return store.relation if whole.end_ms <= store.until_ms else table
