"""``manage.py timescale``: what the server offers of TimescaleDB, and what of it is in use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from market import storage, timescale
from market.management import away
from market.storage_report import report

MEGABYTE = 1_000_000


class Command(BaseCommand):
    help = "Say what the server offers of TimescaleDB, what is on, and the state of the chunks."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="the whole of it, as JSON")
        parser.add_argument(
            "--convert",
            action="store_true",
            help="first move a history that was begun without TimescaleDB over to it: rollups are "
            "made anew of the 1m candles that are kept. Stop the oracle before",
        )

    @away.said()
    def handle(self, *args: Any, **options: Any) -> None:
        if options["convert"]:
            self._convert()
        found = report(storage.time_tables())
        if options["json"]:
            self.stdout.write(json.dumps(found, default=str, indent=2))
            return
        for line in _lines(found):
            self.stdout.write(line)

    def _convert(self) -> None:
        lacks = "TIMESCALEDB=off" if settings.TIMESCALEDB == "off" else timescale.offer().lacks
        if lacks:
            raise CommandError(f"Nothing was converted: {lacks}")
        storage.convert()
        timescale.apply(storage.time_tables())


def _lines(found: dict[str, Any]) -> Iterator[str]:
    offer = found["offer"]
    yield f"TIMESCALEDB={found['setting']}"
    if offer["lacks"]:
        yield f"server      no TimescaleDB: {offer['lacks']}"
    else:
        edition = f"{offer['edition']} edition" if offer["edition"] else "not installed here"
        yield f"server      TimescaleDB {offer['installed'] or offer['available']}, {edition}"
    yield f"rollups     {found['rollups']}{_instead(found)}"
    yield from _failures(found)
    for name, table in (found["tables"] | found["aggregates"]).items():
        yield f"{name:15} {table['kind']:21} {table['bytes'] / MEGABYTE:10.1f} MB{_chunks(table)}"
        for policy in table.get("policies", ()):
            facts = ", ".join(
                f"{key} {value}"
                for key, value in policy.items()
                if key not in ("policy", "error") and value
            )
            yield f"{'':15} {policy['policy']}: {facts}"


def _failures(found: dict[str, Any]) -> Iterator[str]:
    policies = [
        policy
        for table in (found["tables"] | found["aggregates"]).values()
        for policy in table.get("policies", ())
    ]
    failed = [policy for policy in policies if policy["last_run"] == "Failed"]
    if not failed:
        return
    yield (
        f"FAILED      {len(failed)} of {len(policies)} policies in their last run by the server; "
        "the task market.run_policies runs them instead, every 15 minutes"
    )
    for error in sorted({str(policy["error"]) for policy in failed}):
        yield f"            {error}"


def _instead(found: dict[str, Any]) -> str:
    if found["rollups"] == "tables":
        return ", refreshed for what was touched; old rows removed by daily tasks"
    return ", real-time; policies refresh, compress and remove"


def _chunks(table: dict[str, Any]) -> str:
    if "chunks" not in table:
        return ""
    text = f", {table['chunks']} chunks, {table['compressed_chunks']} compressed"
    sizes = table["compression"] or {}
    if sizes.get("bytes_after"):
        text += (
            f" ({sizes['bytes_before'] / MEGABYTE:.1f} MB to "
            f"{sizes['bytes_after'] / MEGABYTE:.1f} MB)"
        )
    return text
