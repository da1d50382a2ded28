"""The bulkhead: a store that hangs costs the web some threads, and never all of them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from django.db import OperationalError, connection, connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from config import asgi, bulkhead, servers
from config.bulkhead import Bulkhead
from config.postgres.base import WEB_STATEMENT_TIMEOUT_MS
from config.settings.environment import database
from oracle import catalog
from oracle.catalog import Catalog, CatalogSymbol
from oracle.connection import redis_client
from prices.rpc import memo
from tests.oracle.test_price_board import price, publish

ROOT = Path(__file__).parents[2]
SYMBOL = CatalogSymbol(name="BTC/USDT", base="BTC", quote="USDT", min_sources=1)
CANDLES, PRICE, LIVE = "market/ohlcv?symbol=btc-usdt", "prices/btc-usdt", "health/live"
SYMBOLS = "market/symbols"  # asks Redis, in a thread of Django's; the edge has prices in memory

embedded_only = pytest.mark.skipif(
    bool(os.environ.get("DATABASE_URL")), reason="stops the processes of its own PostgreSQL"
)


# --- the seats ---


def test_bulkhead_has_as_many_seats():
    house = Bulkhead(seats=2, patience_seconds=0.01)

    assert [house.enter() for _ in range(3)] == [True, True, False]


def test_bulkhead_who_waits_gets_the_seat_that_is_left():
    house = Bulkhead(seats=1, patience_seconds=10)
    house.enter()
    with ThreadPoolExecutor(max_workers=3) as pool:
        waiting = [pool.submit(house.enter) for _ in range(3)]
        for _ in waiting:
            house.leave()

        assert [one.result() for one in waiting] == [True] * 3


def test_bulkhead_nobody_leaves_who_comes_later_is_refused_at_once():
    house = Bulkhead(seats=1, patience_seconds=0.2)
    house.enter()
    started = time.monotonic()
    first = house.enter()
    waited = time.monotonic() - started
    started = time.monotonic()
    later = [house.enter() for _ in range(100)]

    assert (first, waited >= 0.19) == (False, True)
    assert (any(later), time.monotonic() - started < 0.1) == (False, True)


def test_bulkhead_leaves_threads_to_who_needs_no_database():
    assert bulkhead.SEATS * 2 <= asgi.THREADS
    assert bulkhead.SEATS * 2 <= memo.THREADS


def test_a_streamed_answer_is_a_visit_for_each_part():
    seen: list[bool] = []

    def parts():
        for number in range(2):
            seen.append(bulkhead.in_request())
            yield b"%d" % number

    answer = bulkhead.bulkhead(lambda _: StreamingHttpResponse(parts()))(HttpRequest())
    between = [bulkhead.in_request() for _ in answer]

    assert (seen, between) == ([True, True], [False, False])


# --- web requests ---


@pytest.fixture
def house(monkeypatch):
    """A house of one seat."""
    made = Bulkhead(seats=1, patience_seconds=0.05)
    monkeypatch.setattr(bulkhead, "_database", lambda: made)
    return made


def ask(question):
    """Run ``question`` as a web request."""
    return bulkhead.bulkhead(lambda _: question() or HttpResponse())(None)


def select(sql="SELECT 1"):
    with connection.cursor() as cursor:
        return cursor.execute(sql).fetchone()


@pytest.mark.django_db
def test_request_takes_one_seat_and_gives_it_back(house):
    for _ in range(2):
        ask(lambda: (select(), select(), None)[2])

    assert house.enter()


@pytest.mark.django_db
def test_request_that_fails_gives_its_seat_back(house):
    def fail():
        select()
        raise KeyError

    with pytest.raises(KeyError):
        ask(fail)

    assert house.enter()


@pytest.mark.django_db
def test_request_full_house_is_a_database_that_does_not_answer(house, client):
    catalog.publish(Catalog(symbols=(SYMBOL,)))
    house.enter()

    assert client.get("/api/v1/prices").status_code == 200
    answer = client.get("/api/v1/market/ohlcv?symbol=btc-usdt")

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "DATABASE_UNAVAILABLE"


@pytest.mark.django_db
def test_full_house_is_not_for_tasks_and_commands(house):
    house.enter()

    assert select() == (1,)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "step", [lambda: connection.connect(), lambda: connection.set_autocommit(False), select]
)
def test_request_every_way_to_the_database_needs_a_seat(house, step):
    house.enter()

    with pytest.raises(OperationalError, match="web requests wait"):
        ask(step)


@pytest.mark.django_db(transaction=True)
def test_request_connection_that_failed_is_not_asked_outside_of_a_seat(house, monkeypatch):
    def fail():
        with pytest.raises(OperationalError):
            select("SELECT pg_terminate_backend(pg_backend_pid())")

    ask(fail)

    assert connection.connection is None


@pytest.mark.django_db(transaction=True)
def test_statements_of_the_web_end_in_time_and_others_when_they_are_done():
    def timeout():
        try:
            return select("SELECT setting FROM pg_settings WHERE name = 'statement_timeout'")[0]
        finally:
            connections.close_all()

    found = []
    threads = [
        threading.Thread(target=lambda: ask(lambda: found.append(timeout()))),
        threading.Thread(target=lambda: found.append(timeout())),
    ]
    for thread in threads:
        thread.start()
        thread.join()

    assert found == [str(WEB_STATEMENT_TIMEOUT_MS), "0"]


@pytest.mark.django_db(transaction=True)
def test_calls_of_the_edge_have_the_statement_timeout_of_the_web():
    async def ask_in_thread():
        made = memo.Memo(bulkhead.visiting)
        sql = "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'"
        try:
            return await made.in_thread(select, sql)
        finally:
            made.close()

    assert asyncio.run(ask_in_thread()) == (str(WEB_STATEMENT_TIMEOUT_MS),)


def test_database_that_vanishes_is_noticed():
    options = database("postgresql://oracle@db/oracle?tcp_user_timeout=900")["OPTIONS"]

    assert options == {
        "connect_timeout": 3,
        "tcp_user_timeout": 900,  # as the URL has it
        "keepalives": 1,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 2,
    }


# --- for real ---


@pytest.fixture
def web(tmp_path, redis_prefix, settings, db_url):
    """The web server in a process of its own, with prices; what its API's addresses begin with."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    catalog.publish(Catalog(symbols=(SYMBOL,)))
    at = time.time_ns() // 1_000_000
    publish(price(now_ms=at), now_ms=at)
    environment = {
        **os.environ,
        "DATABASE_URL": db_url,
        "REDIS_URL": settings.REDIS_URL,
        "REDIS_PREFIX": redis_prefix,
        "RATE_LIMIT_PER_MINUTE": "10000",
    }
    with (tmp_path / "web.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", str(port)],
            cwd=ROOT, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
    base = f"http://127.0.0.1:{port}/api/v1/"
    try:
        while not _answers(base):
            assert process.poll() is None, (tmp_path / "web.log").read_text()
            time.sleep(0.05)
        yield base
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def db_url():
    """For who needs no database."""
    return "postgresql://nobody@/none?host=/nowhere"


def _answers(base):
    try:
        return requests.get(base + LIVE, timeout=1).ok
    except requests.ConnectionError:
        return False


def status(url, timeout=20):
    """The status and how many seconds it took; None without an answer in time."""
    started = time.monotonic()
    try:
        found = requests.get(url, timeout=timeout).status_code
    except requests.Timeout:
        found = None
    return found, time.monotonic() - started


@contextmanager
def stopped(first):
    """This process and its children stand still in here."""
    still = []
    try:
        # The parent before its children are listed, and awake only after them: it alone takes the
        # ended ones off the list, so none of these numbers can be nobody's, or another's, in here.
        still.append(first)
        os.kill(first, signal.SIGSTOP)
        while _state(first) != "T":
            time.sleep(0.001)
        for child in Path(f"/proc/{first}/task/{first}/children").read_text().split():
            still.append(int(child))
            os.kill(int(child), signal.SIGSTOP)
        yield
    finally:
        for pid in reversed(still):
            os.kill(pid, signal.SIGCONT)


def _state(pid):
    """A letter, as ps prints it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def postgres_process(home):
    """PostgreSQL's first process."""
    return int((home / "postgres" / "postmaster.pid").read_text().split()[0])


@embedded_only
@pytest.mark.django_db(transaction=True)
class TestDatabaseHangs:
    @pytest.fixture
    def db_url(self, transactional_db):
        config = connection.settings_dict
        connection.close()
        return (
            f"postgresql://postgres@/{config['NAME']}?host={config['HOST']}&port={config['PORT']}"
        )

    def test_prices_and_life_are_still_told(self, web, home):
        with ThreadPoolExecutor(max_workers=30) as pool:
            warm = list(pool.map(lambda _: status(web + CANDLES)[0], range(30)))
            with stopped(postgres_process(home)):
                candles = [pool.submit(status, web + CANDLES) for _ in range(30)]
                time.sleep(0.1)  # they are on their way
                meanwhile = [status(web + path, timeout=2) for path in (PRICE, LIVE, SYMBOLS) * 4]
            candle_statuses = [one.result()[0] for one in candles]

        assert warm == [200] * 30
        assert [code for code, _ in meanwhile] == [200] * 12
        assert max(seconds for _, seconds in meanwhile) < 1
        assert candle_statuses.count(503) == 30 - bulkhead.SEATS
        assert candle_statuses.count(200) == bulkhead.SEATS  # they had only to wait
        assert status(web + CANDLES)[0] == 200

    def test_calls_are_refused_as_requests_are(self, web, home):
        # Periods of their own: the same question is asked of the database only once.
        calls = [[CHANGE, {**GIVEN, "from": 1_700_000_000_000 + n}] for n in range(30)]
        with ThreadPoolExecutor(max_workers=31) as pool:
            warm = call(web, "PricesService", "getPriceChange", GIVEN)[0]
            with stopped(postgres_process(home)):
                asked = [pool.submit(call, web, "PricesService", *one) for one in calls]
                time.sleep(0.1)  # they are on their way
                health = call(web, "HealthService", "check", {})
                late = call(web, "PricesService", CHANGE, {**GIVEN, "from": 1_600_000_000_000})
            answers = [one.result() for one in asked]

        assert warm == "PRICE_1002"
        assert (health[0], health[1] < 2) == ("done", True)
        assert (late[0], late[1] < 1) == ("SYSTEM_5001", True)
        codes = [code for code, _ in answers]
        assert codes.count("SYSTEM_5001") == 30 - bulkhead.SEATS
        assert codes.count("PRICE_1002") == bulkhead.SEATS  # they had only to wait


CHANGE = "getPriceChange"
GIVEN = {"pair": "btc-usdt", "period": "custom", "from": 1_690_000_000_000}


def call(web, service, method, given):
    """What a call was answered, by its code, and how many seconds it took."""
    body = {"id": "1", "service": service, "method": method, "input": given}
    started = time.monotonic()
    answer = requests.post(web.replace("/api/v1/", "/netron/invoke"), json=body, timeout=20).json()
    code = "done" if answer["success"] else answer["error"]["code"]
    return code, time.monotonic() - started


class TestRedisHangs:
    @pytest.fixture
    def redis_prefix(self, redis_prefix, settings, tmp_path_factory):
        """As everywhere, but in a Redis that nobody else waits for."""
        from config import embedded

        home = tmp_path_factory.mktemp("redis")
        with servers.redis_server(home):
            settings.REDIS_URL = embedded.redis_url(home)
            yield redis_prefix

    def test_everybody_hears_of_it_soon(self, web):
        with ThreadPoolExecutor(max_workers=40) as pool:
            warm = list(pool.map(lambda _: status(web + PRICE)[0], range(40)))
            with stopped(redis_client().info("server")["process_id"]):
                paths = (PRICE, f"{PRICE}?format=json")
                prices = [pool.submit(status, web + paths[n % 2]) for n in range(40)]
                time.sleep(0.1)  # they are on their way
                live = status(web + LIVE)
                answers = [one.result() for one in prices]
            time.sleep(0.6)  # it is asked again half a second later
            afterwards = status(web + PRICE)[0]

        assert warm == [200] * 40
        assert (live[0], live[1] < 1) == (200, True)
        # The edge has the prices of a moment ago, Django's views have none.
        assert {code for code, _ in answers} == {200, 503}
        assert max(seconds for _, seconds in answers) < 1.5
        assert afterwards == 200
