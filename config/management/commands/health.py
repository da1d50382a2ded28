"""``manage.py health``: what /api/v1/health says, for scripts and containers without a web server.

Exits with 0 when the oracle is ok or degraded, with 1 when it is down.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from redis.exceptions import RedisError

from config.health import health_body
from config.state import read_state
from ingestion.registry import ADAPTERS
from oracle import heartbeat, jsontext

# A role that works was heard of within this time.
MAX_SILENCE_MS = {"collect": 15_000, "aggregate": 15_000, "index": 5_000, "flush": 150_000}


class Command(BaseCommand):
    help = "Say how the oracle is; exit 0 when it is ok or degraded, 1 when it is down."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="the whole answer, as JSON")
        parser.add_argument(
            "--role",
            choices=tuple(MAX_SILENCE_MS),
            help="only: did this role do its work lately? Exit 1 when not",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["role"]:
            self._check_role(options["role"], now_ms=time.time_ns() // 1_000_000)
            return
        body = health_body(read_state(), uptime_seconds=0)
        del body["uptime"]  # of a web server
        if options["json"]:
            self.stdout.write(jsontext.encode(body).decode())
        else:
            self._write(body)
        if body["status"] == "down":
            sys.exit(1)

    def _check_role(self, role: str, *, now_ms: int) -> None:
        roles = [f"collect:{name}" for name in ADAPTERS] if role == "collect" else [role]
        try:
            beats = [str(facts["at_ms"]) for facts in heartbeat.last(roles).values()]
        except RedisError as error:
            raise CommandError(f"not known of {role}: Redis is away ({error})") from None
        if not beats:
            raise CommandError(f"{role} has not done its work yet")
        age_ms = min(now_ms - int(at_ms) for at_ms in beats)
        if age_ms > MAX_SILENCE_MS[role]:
            raise CommandError(f"{role} last did its work {age_ms} ms ago")
        self.stdout.write(f"{role} did its work {age_ms} ms ago")

    def _write(self, body: dict[str, Any]) -> None:
        world = "simulated" if body["simulated"] else "live"
        self.stdout.write(f"{body['status']} ({world}, version {body['version']})")
        for name, check in body["checks"].items():
            self.stdout.write(f"  {name:10} {check['status']:5} {check['message'] or ''}".rstrip())
        for name, exchange in body["exchanges"].items():
            age_ms = exchange["last_ticker_age_ms"]
            age = "no tickers" if age_ms is None else f"tickers {age_ms} ms old"
            self.stdout.write(
                f"  {name:10} {exchange['status']:5} {age}, circuit {exchange['circuit']}"
            )
