"""``manage.py export BTC/USDT --resolution 1h --from 2024-01-01 --output btc.csv``: closed candles.

A file is there when it is whole: until then it has another name, and Ctrl-C leaves nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ingestion.moment import ACCEPTED, allow_ago, read_moment
from market import export, timeframes
from market.coverage import INDEX
from market.export import ExportError, Rows, Table
from market.management import away
from market.models import Symbol
from market.symbols import UnknownSymbolError, is_canonical, resolve

STDOUT = "-"


class Command(BaseCommand):
    help = "Write closed candles to a file, oldest first: CSV or Parquet."

    def add_arguments(self, parser: ArgumentParser) -> None:
        allow_ago(parser)
        parser.add_argument("symbol", help="such as BTC/USDT")
        parser.add_argument("--resolution", default="1m", help="1m 5m 15m 1h 4h 1d (default: 1m)")
        parser.add_argument(
            "--from", dest="start", metavar="TIME", help=f"{ACCEPTED} (default: the first candle)"
        )
        parser.add_argument("--to", dest="end", metavar="TIME", default="now", help="default: now")
        parser.add_argument("--format", choices=("csv", "parquet"), default="csv")
        parser.add_argument(
            "--output", default=STDOUT, metavar="FILE", help="default: -, the standard output"
        )
        parser.add_argument(
            "--exchange", default=INDEX, help="whose candles: index (default), binance, …"
        )

    @away.said()
    def handle(self, **options: Any) -> None:
        try:
            exchange = None if options["exchange"] == INDEX else options["exchange"]
            table, span = _table(exchange, options, now_ms=time.time_ns() // 1_000_000)
            with _output(options["output"]) as file, _progress(span) as shown:
                counted = replace(table, pages=shown(table.pages))
                if options["format"] == "parquet":
                    export.write_parquet(counted, file)
                else:
                    for part in export.csv_parts(counted):
                        file.write(part)
        except BrokenPipeError:
            # Who read it has enough, as `head` does; what Python would still flush has no reader.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except (ExportError, ValueError) as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"{options['output']}: {error.strerror}") from None
        except KeyboardInterrupt:
            raise CommandError("stopped: nothing is written", returncode=130) from None


def _table(
    exchange: str | None, options: dict[str, Any], *, now_ms: int
) -> tuple[Table, tuple[int, int]]:
    """What is to be written, and from when to when. Raises ExportError and ValueError."""
    resolution = timeframes.normalise(options["resolution"])
    symbol = _symbol(options["symbol"], known=exchange is None)
    first_ms = export.first_ms(exchange, symbol, resolution=resolution)
    if first_ms is None:
        whose = "the index" if exchange is None else repr(exchange)
        raise ExportError(f"there are no {resolution} candles of {symbol} from {whose}")
    end_ms = read_moment(options["end"], now_ms=now_ms)
    start_ms = first_ms
    if options["start"] is not None:
        start_ms = read_moment(options["start"], now_ms=now_ms)
    if start_ms >= end_ms:
        raise ExportError(
            f"--from {options['start'] or 'the first candle'} must be before --to {options['end']}"
        )
    span: dict[str, Any] = {
        "resolution": resolution,
        "from_ms": start_ms,
        "to_ms": end_ms,
        "now_ms": now_ms,
    }
    if exchange is None:
        table = export.index_table(symbol, **span)
    else:
        table = export.exchange_table(exchange, symbol, **span)
    return table, (max(start_ms, first_ms), min(end_ms, now_ms))


def _symbol(text: str, *, known: bool) -> str:
    """The symbol's name; an exchange may have candles of one that is not priced."""
    names = list(Symbol.objects.values_list("name", flat=True))
    try:
        return resolve(text, names)
    except UnknownSymbolError as error:
        name = text.strip().upper().replace("-", "/")
        if not known and is_canonical(name):
            return name
        raise ExportError(str(error)) from None


@contextmanager
def _output(name: str) -> Iterator[BinaryIO]:
    """A file that has its name only once it is whole, or the standard output."""
    if name == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(name)
    if path.is_dir():
        raise ExportError(f"{name} is a folder: name a file in it")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def _progress(span: tuple[int, int]) -> Iterator[Any]:
    """A bar on the standard error; what it yields counts pages as they pass."""
    columns = (BarColumn(), TextColumn("{task.fields[rows]:,} candles"), TimeRemainingColumn())
    start_ms, end_ms = span
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=max(1, end_ms - start_ms), rows=0)

        def shown(pages: Any) -> Iterator[Rows]:
            count = 0
            for page in pages:
                count += len(page)
                yield page
                done_ms = page[-1][0] * 1_000 - start_ms if page else end_ms - start_ms
                progress.update(task, completed=done_ms, rows=count)
            progress.update(task, completed=end_ms - start_ms)

        yield shown
