"""``manage.py prices [--watch]``: every price in the terminal, with its status and age."""

from __future__ import annotations

import time
from collections.abc import Sequence
from decimal import Decimal
from typing import IO, Any, cast

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import InterfaceError, OperationalError
from redis.exceptions import RedisError
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from market import query
from market.query import ApiError
from oracle import price_board, rate_board
from oracle.jsontext import exact
from oracle.values import Price
from prices import changes

EVERY_SECONDS = 1.0
# Changes come from the database, and no eye sees them move each second.
CHANGES_EVERY_SECONDS = 30.0
STYLES = {"fresh": "green", "degraded": "yellow", "stale": "red", "missing": "dim"}


class Command(BaseCommand):
    help = "Show every price: status, age, sources and the change of the last 24 hours."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("symbols", nargs="*", help="such as btc-usdt (default: all)")
        parser.add_argument("--watch", action="store_true", help="renew it until Ctrl-C")

    def handle(self, *args: Any, **options: Any) -> None:
        console = Console(file=cast(IO[str], self.stdout._out))
        board = Board(options["symbols"])
        try:
            if not options["watch"]:
                console.print(board.step(now_ms=_now_ms()))
                return
            with Live(board.step(now_ms=_now_ms()), console=console, screen=True) as live:
                while True:
                    time.sleep(EVERY_SECONDS)
                    live.update(board.watch(now_ms=_now_ms()))
        except KeyboardInterrupt:
            pass
        except (ApiError, RedisError) as error:
            raise CommandError(getattr(error, "message", None) or str(error)) from None


class Board:
    """The table of prices; it keeps what is asked for more rarely."""

    def __init__(self, wanted: Sequence[str]) -> None:
        self._wanted = wanted
        self._changes: dict[str, Decimal | None] = {}
        self._changes_at = -CHANGES_EVERY_SECONDS

    def step(self, *, now_ms: int) -> Table:
        """The prices of now. Raises ApiError, RedisError."""
        catalog = query.current_catalog()
        names = sorted({query.symbol(text, catalog) for text in self._wanted} or catalog.names)
        self._renew_changes(names, now_ms)
        prices, rates = price_board.read(names), rate_board.read(names)
        table = Table("Symbol", title=time.strftime("%H:%M:%S"), title_justify="right")
        for heading in ("Index", "Status", "Age", "Exchanges", "Trade rate", "24 h"):
            table.add_column(heading, justify="left" if heading == "Status" else "right")
        for name in names:
            rate = rates.get(name)
            table.add_row(
                name,
                *_price_cells(prices.get(name), now_ms),
                exact(rate.price) if rate else "—",
                _change_cell(self._changes.get(name)),
            )
        return table

    def watch(self, *, now_ms: int) -> Table | Group:
        """As `step`; without Redis, what is wrong."""
        try:
            return self.step(now_ms=now_ms)
        except RedisError as error:
            return Group(Text(f"Redis does not answer: {error}", style="red"))

    def _renew_changes(self, names: Sequence[str], now_ms: int) -> None:
        if time.monotonic() - self._changes_at < CHANGES_EVERY_SECONDS:
            return
        self._changes_at = time.monotonic()
        try:
            self._changes = _read_changes(names, now_ms)
        except (OperationalError, InterfaceError):
            self._changes = {}  # the prices are there all the same


def _read_changes(names: Sequence[str], now_ms: int) -> dict[str, Decimal | None]:
    found = {
        name: changes.change(name, from_ms=now_ms - changes.DAY_MS, to_ms=now_ms + 1)
        for name in names
    }
    return {name: each.percent if each else None for name, each in found.items()}


def _price_cells(price: Price | None, now_ms: int) -> tuple[str | Text, ...]:
    if price is None:
        return "—", Text("missing", style=STYLES["missing"]), "—", "0"
    freshness = price_board.freshness(price, now_ms=now_ms)
    status = Text(freshness.status, style=STYLES[freshness.status])
    return (
        exact(price.price),
        status,
        f"{freshness.age_ms / 1_000:.1f} s",
        str(price.source_count),
    )


def _change_cell(percent: Decimal | None) -> Text:
    if percent is None:
        return Text("—", style="dim")
    return Text(f"{percent:+} %", style="red" if percent < 0 else "green")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
