"""``manage.py backfill BTC/USDT --from 2024-01-01 --to now``: candles from the exchanges' own.

Works in this process, beside whatever runs. Ctrl-C ends it with what is written; the same command,
or ``--resume`` with the numbers it prints, goes on.
"""

from __future__ import annotations

import signal
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ingestion import backfill, backfill_run
from ingestion.backfill import BackfillError
from ingestion.models import Backfill
from ingestion.moment import ACCEPTED, allow_ago, read_moment
from ingestion.registry import ADAPTERS
from market import catalog
from market.management import away
from market.symbols import UnknownSymbolError, resolve
from oracle.catalog import Catalog

AGAIN_SECONDS = 1.0


class Command(BaseCommand):
    help = "Fill a range of 1m candles from the exchanges that list a symbol."

    def add_arguments(self, parser: ArgumentParser) -> None:
        allow_ago(parser)
        parser.add_argument("symbols", nargs="*", help="such as BTC/USDT")
        parser.add_argument("--all", action="store_true", help="every symbol, rates first")
        parser.add_argument("--from", dest="start", metavar="TIME", help=ACCEPTED)
        parser.add_argument("--to", dest="end", metavar="TIME", help=f"{ACCEPTED} (default: now)")
        parser.add_argument(
            "--overwrite", action="store_true", help="replace what our own index made, too"
        )
        parser.add_argument(
            "--resume", nargs="+", type=int, metavar="ID", help="go on with these backfills"
        )

    @away.said()
    def handle(self, **options: Any) -> None:
        now_ms = time.time_ns() // 1_000_000
        if options["resume"]:
            rows, ours = _reopened(options)
        else:
            rows = _noted(options, now_ms)
            ours = {row.pk for row in rows}
        try:
            stopped = _work_all(rows, ours)
        except away.ERRORS as error:
            raise CommandError(f"{away.why(error)}\nGo on with: {_again(rows)}") from error
        self._report([Backfill.objects.get(pk=row.pk) for row in rows], stopped=stopped)

    def _report(self, rows: Sequence[Backfill], *, stopped: bool) -> None:
        """Say what came of it. Raises CommandError when a range is not as it should be."""
        for row in rows:
            self.stdout.write(
                f"{row.symbol}  {row.status}  {row.minutes_done} of {row.minutes_total} minutes, "
                f"{row.candles_written} candles written"
            )
            for entry in row.errors:
                if "note" in entry:
                    minutes, exchange = entry["minutes"], entry["exchange"]
                    self.stdout.write(f"  {exchange}: {minutes} {entry['note']}")
        failed = [
            f"  {entry.get('start', '')} – {entry.get('end', '')}  {entry['error']}"
            for row in rows
            for entry in row.errors
            if "error" in entry
        ]
        left = [row for row in rows if row.status != Backfill.SUCCEEDED]
        if stopped and left:
            raise CommandError(f"Stopped; what is written stays. Go on with: {_again(left)}")
        if failed or left:
            lines = ["Not all came:", *failed, f"Try again with: {_again(left)}"]
            raise CommandError("\n".join(lines))


def _again(rows: Sequence[Backfill]) -> str:
    return "python manage.py backfill --resume " + " ".join(str(row.pk) for row in rows)


def _noted(options: dict[str, Any], now_ms: int) -> list[Backfill]:
    """The orders for what was asked, all of them or none, rates first. Raises CommandError."""
    if options["start"] is None:
        raise CommandError(f"--from is missing: {ACCEPTED}")
    known = catalog.load()
    try:
        start_ms = read_moment(options["start"], now_ms=now_ms)
        end_ms = read_moment(options["end"] or "now", now_ms=now_ms)
        symbols = _symbols(options, known)
    except (ValueError, UnknownSymbolError) as error:
        raise CommandError(str(error)) from error
    rows: list[Backfill] = []
    try:
        with transaction.atomic():  # a worker of a running stack sees none of them before
            for symbol in symbols:
                rows += backfill.note(
                    symbol,
                    start_ms=start_ms,
                    end_ms=end_ms,
                    overwrite=options["overwrite"],
                    created_by="command",
                    now_ms=now_ms,
                )
    except BackfillError as error:
        raise CommandError(str(error)) from error
    return rows


def _symbols(options: dict[str, Any], known: Catalog) -> list[str]:
    if bool(options["symbols"]) == options["all"]:
        raise CommandError("name the symbols, or say --all")
    rates = {symbol.name for symbol in known.symbols if symbol.is_rate}
    if options["all"]:
        asked = {each.symbol for each in known.listings if each.exchange in ADAPTERS}
        names = sorted(known.spot_names & asked)
    else:
        names = list(dict.fromkeys(resolve(text, known.names) for text in options["symbols"]))
    return sorted(names, key=lambda name: name not in rates)


def _reopened(options: dict[str, Any]) -> tuple[list[Backfill], set[int]]:
    """The backfills to go on with, and which of them live by our doing."""
    more = ("symbols", "all", "start", "end", "overwrite")
    if any(options[name] for name in more):
        raise CommandError("--resume goes on with what was ordered then: say nothing else")
    ids: Sequence[int] = options["resume"]
    rows = {row.pk: row for row in Backfill.objects.filter(pk__in=ids)}
    if unknown := [each for each in ids if each not in rows]:
        raise CommandError(f"there is no backfill {unknown[0]}")
    ours = {each for each in ids if backfill.reopen(each)}
    return [rows[each] for each in ids], ours


def _work_all(rows: Sequence[Backfill], ours: set[int]) -> bool:
    """Run them one after the other; True when that was stopped.

    ``ours``: those that end with us when it is, and not before; those we have worked on join them.
    """
    with _stopping() as stop, _progress() as progress:
        tasks = {
            row.pk: progress.add_task(
                row.symbol, total=row.minutes_total, completed=row.minutes_done, said=""
            )
            for row in rows
        }
        for row in rows:
            if not stop.is_set():
                _work(row, progress, tasks[row.pk], stop, ours)
        if stop.is_set():
            for each in ours:  # or the workers of a running stack would go on with them
                backfill.cancel(each, now_ms=time.time_ns() // 1_000_000)
        return stop.is_set()


def _work(row: Backfill, progress: Progress, task: TaskID, stop: Event, ours: set[int]) -> None:
    """Run a backfill to its end, or follow it where another process has it."""

    def show(row: Backfill, waiting: str = "") -> None:
        errors = sum("error" in entry for entry in row.errors)
        said = waiting or (f"{errors} failed" if errors else "")
        progress.update(task, completed=row.minutes_done, said=said)

    while not stop.is_set():
        status = backfill_run.run(
            row.pk,
            now_ms=time.time_ns() // 1_000_000,
            seconds=float("inf"),
            stop=stop,
            progress=show,
        )
        if status is not None:
            ours.add(row.pk)
        row.refresh_from_db()
        show(row)
        if row.status not in Backfill.LIVE:
            return
        if status is None:
            show(row, backfill.why_waiting(row, now_ms=time.time_ns() // 1_000_000))
            stop.wait(AGAIN_SECONDS)


@contextmanager
def _stopping() -> Iterator[Event]:
    """An event that Ctrl-C and SIGTERM set; the second Ctrl-C is the usual one."""
    stop = Event()

    def stopping(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {number: signal.signal(number, stopping) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Rate(ProgressColumn):
    """How many minutes a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} min/s")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("[red]{task.fields[said]}"),
        console=Console(stderr=True),
    )
