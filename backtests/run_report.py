"""What `manage.py tune` and `walkforward` show: a bar while it runs, then the best in a table."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any, cast

from django.core.management.base import CommandError, OutputWrapper
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from backtests import artifacts, job_orders
from backtests.following import Seen, follow, stopping
from backtests.job_orders import Order
from backtests.models import Job, Status

WIDTH = 120  # where the output is no terminal


def carry_out(order: Order, *, queue: bool) -> Job:
    """Enqueue a run and follow it to its end. Raises CommandError where that is no success."""
    job, _ = job_orders.enqueue(order)
    with stopping() as stop, _bar() as show:
        job = follow(job.pk, here=not queue, stop=stop, show=show)
    if job.status == Status.CANCELED:
        raise CommandError(f"Canceled: {job.type} {job.pk}")
    if job.status == Status.FAILED:
        raise CommandError(f"{job.type} {job.pk} failed: {job.error}")
    return job


def console(out: OutputWrapper) -> Console:
    """What tables are written with."""
    file = cast(IO[str], out)
    return Console(file=file) if out.isatty() else Console(file=file, width=WIDTH)


def say_where(job: Job, out: OutputWrapper) -> None:
    """Which candles it read, its id and its folder."""
    read = (job.result or {})["data"]
    out.write(
        f"{read['row_count']} of {read['expected_count']} candles from {read['start']} to "
        f"{read['end']}, revision {read['revision']}\n"
    )
    out.write(f"{job.type} {job.pk}  {artifacts.root() / artifacts.folder(job.type, job.pk)}\n")


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Callable[[Any], str]]) -> Table:
    """Candidates, the best first: their parameters, then the columns."""
    made = Table()
    names = list(rows[0]["params"]) if rows else []
    for name in (*names, *columns):
        made.add_column(name, justify="right")
    for row in rows:
        made.add_row(
            *(f"{row['params'][name]:g}" for name in names),
            *(read(row) for read in columns.values()),
        )
    return made


def decimal(value: float | None) -> str:
    """A ratio or score to three decimals; a dash where there is none."""
    return "–" if value is None else f"{value:,.3f}"


def percent(value: float | None) -> str:
    """A fraction in percent."""
    return "–" if value is None else f"{value:,.1%}"


@contextmanager
def _bar() -> Iterator[Callable[[Seen], None]]:
    before = sys.stderr  # on a terminal, rich puts one in its place that writes above the bar
    with (
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[best]}"),
            console=Console(stderr=True),
        ) as progress,
        _logs_to(sys.stderr, instead_of=before),
    ):
        task = progress.add_task("pending", total=None, best="")

        def show(seen: Seen) -> None:
            progress.update(
                task,
                description=seen.what,
                completed=seen.done,
                total=seen.total or None,
                best="" if seen.best is None else f"best {decimal(seen.best)}",
            )

        yield show


@contextmanager
def _logs_to(stream: IO[str], *, instead_of: IO[str]) -> Iterator[None]:
    """Have log lines written there: their handlers keep the stream that they were made with."""
    moved = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is instead_of
    ]
    for handler in moved:
        handler.setStream(stream)
    try:
        yield
    finally:
        for handler in moved:
            handler.setStream(instead_of)
