"""``manage.py reconcile BTC/USDT --from -24h``: our 1m candles beside the exchanges' own."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from decimal import Decimal
from shutil import get_terminal_size
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from ingestion import reconcile
from ingestion.moment import ACCEPTED, allow_ago, read_moment
from ingestion.reconcile import Comparison, Difference
from ingestion.window import NotListedError, make_plan
from market import catalog
from market.candles import to_datetime
from market.management import away
from market.ranges import TimeRange
from market.symbols import resolve
from oracle.aggregation import publishable
from oracle.candle_book import MINUTE_MS


class Command(BaseCommand):
    help = "Compare our 1m candles with the exchanges' own, per exchange and field."

    def add_arguments(self, parser: ArgumentParser) -> None:
        allow_ago(parser)
        parser.add_argument("symbol", help="such as BTC/USDT")
        parser.add_argument("--from", dest="start", metavar="TIME", required=True, help=ACCEPTED)
        parser.add_argument("--to", dest="end", metavar="TIME", default="now", help="default: now")
        parser.add_argument("--exchange", action="append", default=[], help="only this; repeatable")
        parser.add_argument("--json", action="store_true", help="one JSON object a comparison")

    @away.said()
    def handle(self, **options: Any) -> None:
        now_ms = time.time_ns() // 1_000_000
        try:
            known = catalog.load()
            plan = make_plan(resolve(options["symbol"], known.names), known)
            start_ms = read_moment(options["start"], now_ms=now_ms) // MINUTE_MS * MINUTE_MS
            end_ms = read_moment(options["end"], now_ms=now_ms) // MINUTE_MS * MINUTE_MS
        except (ValueError, NotListedError) as error:
            raise CommandError(str(error)) from error
        if start_ms >= end_ms:
            raise CommandError(
                f"--from ({to_datetime(start_ms):%Y-%m-%dT%H:%MZ}) must be a minute or more "
                f"before --to ({to_datetime(end_ms):%Y-%m-%dT%H:%MZ})"
            )
        whole = TimeRange(start_ms=start_ms, end_ms=end_ms)
        listed = {listing.exchange for listing, path in plan.ways if not path}
        if unknown := [name for name in options["exchange"] if name not in listed]:
            raise CommandError(
                f"{unknown[0]} has no {plan.symbol} in its own currency; "
                f"there are {', '.join(sorted(listed)) or 'none'}"
            )
        try:
            found = reconcile.compare(plan, whole, now_ms=now_ms, exchanges=options["exchange"])
        except KeyboardInterrupt:
            raise CommandError("Stopped: nothing was compared to its end.") from None
        if options["json"]:
            for comparison in found:
                self.stdout.write(json.dumps(_plain(comparison)))
        else:
            console = Console(width=get_terminal_size((120, 40)).columns)
            with console.capture() as shown:
                console.print(_table(plan.symbol, found))
            self.stdout.write(shown.get())
        errors = [error for comparison in found for error in comparison.errors]
        if errors:
            raise CommandError("\n".join(["Not all could be compared:", *errors]))


def _table(symbol: str, found: list[Comparison]) -> Table:
    table = Table(title=f"{symbol}: ours and theirs")
    for name in ("exchange", "field", "compared", "mean", "max", "mean bps", "max bps", "worst"):
        table.add_column(name)
    for comparison in found:
        for name, difference in comparison.fields.items():
            table.add_row(comparison.name, name, *_cells(difference))
        table.add_row(
            *("", "missing", f"ours {comparison.missing_ours}"),
            f"theirs {comparison.missing_theirs}",
            f"not kept {comparison.unavailable_minutes}",
            end_section=True,
        )
    return table


def _cells(difference: Difference) -> Iterator[str]:
    yield str(difference.compared)
    for number in (difference.mean, difference.max, difference.mean_bps, difference.max_bps):
        yield "-" if number is None else f"{number:.8g}" if number else "0"
    yield ", ".join(f"{to_datetime(ms):%m-%d %H:%M}" for _, ms in difference.worst)


def _plain(comparison: Comparison) -> dict[str, Any]:
    return {
        "name": comparison.name,
        "missing_ours": comparison.missing_ours,
        "missing_theirs": comparison.missing_theirs,
        "unavailable_minutes": comparison.unavailable_minutes,
        "errors": comparison.errors,
        "fields": {
            name: {
                "compared": each.compared,
                "mean": _text(each.mean),
                "max": _text(each.max),
                "mean_bps": _text(each.mean_bps),
                "max_bps": _text(each.max_bps),
                "worst": [
                    {"time": f"{to_datetime(ms):%Y-%m-%dT%H:%M:%SZ}", "bps": _text(bps)}
                    for bps, ms in each.worst
                ],
            }
            for name, each in comparison.fields.items()
        },
    }


def _text(number: Decimal | None) -> str | None:
    return None if number is None else format(publishable(number).normalize(), "f")
