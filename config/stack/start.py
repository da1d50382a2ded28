"""The first program of a stack: sets up, starts the others, and says how it goes.

supervisord runs it. What it prints is what the person who typed `make demo` sees; its end with a
status other than 0 ends the stack.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from collections.abc import Sequence
from xmlrpc.client import Fault, ServerProxy

import django
from django.conf import settings
from django.core.management.base import CommandError
from redis.exceptions import RedisError
from supervisor.xmlrpc import Faults, SupervisorTransport

from config import embedded

SAID_WHY = 2
WAIT_SECONDS = 60
WEB_SECONDS = 30
# From the first fresh price until most of the others are there too.
SETTLE_SECONDS = 3
NO_PRICES_SECONDS = 15
LOOK_EVERY_SECONDS = 0.2


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m config.stack.start", description=__doc__)
    parser.add_argument("--host", required=True, help="address of the web server")
    parser.add_argument("--started-ms", type=int, required=True, help="when the stack started")
    parser.add_argument("programs", nargs="+", help="what to start when all is set up")
    arguments = parser.parse_args()
    django.setup()
    from config.installation import NotReachableError, install, password_notice

    try:
        password = install(wait_seconds=WAIT_SECONDS, say=say)
    except (CommandError, NotReachableError) as error:
        say(f"Cannot start: {error}")
        return SAID_WHY
    start_programs(arguments.programs)
    fill_history()
    say(greeting(answers=web_answers(arguments.host)))
    if password:
        say(password_notice(password))
    follow_prices(started_ms=arguments.started_ms)
    return 0


def start_programs(names: Sequence[str]) -> None:
    """Have supervisord start these; those that run already stay."""
    url = f"unix://{embedded.supervisor_socket(settings.ORACLE_HOME)}"
    server = ServerProxy("http://supervisor", transport=SupervisorTransport(None, None, url))
    for name in names:
        try:
            server.supervisor.startProcess(name, False)
        except Fault as fault:
            if fault.faultCode != Faults.ALREADY_STARTED:
                raise


def fill_history() -> None:
    """Have the last day fetched from the exchanges now, not at beat's next look for gaps."""
    from celery import current_app
    from kombu.exceptions import OperationalError

    try:
        current_app.send_task("ingestion.fill_gaps", ignore_result=True)
    except OperationalError as error:
        say(f"History comes in five minutes: the broker is away ({error})")


def greeting(*, answers: bool) -> str:
    """The line that says where to look."""
    world = "simulated" if settings.SIMULATED else "live"
    parts = [f"Token Price Oracle ({world}): http://localhost:{settings.PORT}/"]
    if settings.SIMULATED:
        parts.append(f"admin: admin / {settings.ADMIN_PASSWORD}")
    parts.append(f"logs: {settings.ORACLE_HOME / 'log'}")
    if not answers:
        parts.append("(the web server does not answer yet)")
    return "  ".join(parts)


def web_answers(host: str) -> bool:
    """Wait until the web server takes connections; False when it has not after a while."""
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    deadline = time.monotonic() + WEB_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, settings.PORT), timeout=1).close()
        except OSError:
            time.sleep(LOOK_EVERY_SECONDS)
        else:
            return True
    return False


def follow_prices(*, started_ms: int) -> None:
    """Wait, however long, until prices are fresh, and say so; meanwhile, say why there are none."""
    first: float | None = None
    explained = False
    while True:
        waited = time.time() - started_ms / 1_000
        try:
            fresh, symbols = fresh_prices(since_ms=started_ms)
            if fresh and first is None:
                first = waited
            if first is not None and (fresh == symbols or waited - first > SETTLE_SECONDS):
                return say(f"Prices flow: {fresh} symbols fresh, first after {first:.1f} s")
            if first is None and not explained and waited > NO_PRICES_SECONDS:
                explained = True
                for line in explanation(waited, since_ms=started_ms):
                    say(line)
        except RedisError:
            pass  # being restarted; the price board is still what there is to wait for
        time.sleep(LOOK_EVERY_SECONDS)


def fresh_prices(*, since_ms: int) -> tuple[int, int]:
    """How many symbols have a fresh price made since then, and how many there are."""
    from oracle import price_board
    from oracle.catalog import CatalogReader

    names = CatalogReader().current().spot_names
    now_ms = time.time_ns() // 1_000_000
    ours = [p for p in price_board.read(names).values() if p.timestamp_ms >= since_ms]
    ages = (price_board.freshness(price, now_ms=now_ms) for price in ours)
    return sum(age.status == "fresh" for age in ages), len(names)


def explanation(waited: float, *, since_ms: int) -> Sequence[str]:
    """Why there is no price yet: what the feeds met that have brought nothing since then."""
    from oracle.catalog import CatalogReader
    from oracle.ticker_book import read_feeds

    feeds = read_feeds(CatalogReader().current().exchanges)
    silent = {name: feed for name, feed in feeds.items() if (feed.received_ms or 0) < since_ms}
    head = f"No price yet after {waited:.0f} s"
    if all((feed.failed_ms or 0) >= since_ms for feed in feeds.values()):
        head += ": no exchange could be reached. Still trying."
    return [
        head,
        *(
            f"  {name}: {feed.error or 'not asked yet'} {feed.detail or ''}".rstrip()
            for name, feed in silent.items()
        ),
    ]


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
