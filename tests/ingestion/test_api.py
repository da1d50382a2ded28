"""The history's admin API, through the project's own URLs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from kombu.exceptions import OperationalError
from rest_framework.authtoken.models import Token

from ingestion import asked, backfill, core_symbols, data_sync
from ingestion.models import Backfill
from market import coverage
from market.candles import to_datetime
from market.coverage import Series
from market.models import Listing
from market.ranges import TimeRange
from oracle import catalog
from oracle.catalog import Catalog, CatalogListing, CatalogSymbol
from oracle.jsontext import decode
from tests.factories import ExchangeFactory, ListingFactory, SymbolFactory

pytestmark = pytest.mark.django_db

SHORT, LONG = "/admin", "/api/v1/admin"
CORE, STATUS, TRIGGER = "/data/core-symbols", "/data/status", "/data/sync/trigger"
START = 1_700_000_040
USUAL = ["1m", "5m", "15m", "1h", "1d"]


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    messages: list[Any] = []

    def send(name: str, *, args: list[Any], **_: Any) -> None:
        messages.append((name, args))

    monkeypatch.setattr("ingestion.backfill.current_app.send_task", send)
    return messages


@pytest.fixture(autouse=True)
def _kept_for_ever(settings: Any) -> None:
    settings.RETENTION_DAYS = 0


@pytest.fixture(autouse=True)
def _priced() -> None:
    listing: Any = ListingFactory(
        exchange=ExchangeFactory(name="okx"),
        symbol=SymbolFactory(name="BTC/USDT"),
        exchange_symbol="BTC-USDT",
    )
    names = ("BTC/USDT", "ETH/USDT")
    catalog.publish(
        Catalog(
            exchanges=("okx",),
            symbols=tuple(
                CatalogSymbol(name=name, base=name[:3], quote="USDT", min_sources=1)
                for name in names
            ),
            listings=(
                CatalogListing(
                    exchange="okx",
                    exchange_symbol=listing.exchange_symbol,
                    symbol=names[0],
                    quote="USDT",
                ),
            ),
        )
    )


@pytest.fixture
def clerk() -> User:
    return User.objects.create_user("clerk", is_staff=True)


@pytest.fixture
def staff(clerk: User) -> Client:
    token = Token.objects.create(user=clerk)
    return Client(headers={"Authorization": f"Bearer {token.key}"})


def call(client: Client, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    options = {} if body is None else {"data": body, "content_type": "application/json"}
    answer: Any = getattr(client, method)(path, **options)
    return answer.status_code, decode(answer.content)


def problem(client: Client, method: str, path: str, body: Any = None) -> tuple[int, str, str]:
    status, answer = call(client, method, path, body)
    return status, answer["error"]["code"], answer["error"]["message"]


# --- who may ---

ROUTES = (
    *(("get", prefix + path) for prefix in (SHORT, LONG) for path in (CORE, STATUS)),
    *(("post", prefix + path) for prefix in (SHORT, LONG) for path in (CORE, TRIGGER)),
    *(("patch", prefix + CORE) for prefix in (SHORT, LONG)),
    *(("post", prefix + "/backfill") for prefix in (SHORT, LONG)),
    ("get", f"{LONG}/backfills"),
    ("get", f"{LONG}/backfills/1"),
    ("post", f"{LONG}/backfills/1/cancel"),
    ("post", f"{LONG}/backfills/1/retry"),
)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nobody_but_staff(method: str, path: str) -> None:
    assert problem(Client(), method, path)[:2] == (401, "UNAUTHENTICATED")
    wrong = Client(headers={"Authorization": "Bearer nonsense"})
    assert problem(wrong, method, path)[:2] == (401, "UNAUTHENTICATED")
    user = User.objects.create_user("somebody")
    token = Token.objects.create(user=user)
    known = Client(headers={"Authorization": f"Bearer {token.key}"})
    assert problem(known, method, path)[:2] == (403, "FORBIDDEN")
    assert not Backfill.objects.exists()


def test_session_of_staff_needs_the_csrf_token(clerk: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(clerk)
    body = {"exchange_id": "okx", "symbols": ["BTC/USDT"]}
    assert call(client, "get", SHORT + CORE)[0] == 200
    assert problem(client, "post", SHORT + CORE, body)[:2] == (403, "FORBIDDEN")
    client.get("/admin/", follow=True)
    client.get("/admin/password_change/")
    token = client.cookies["csrftoken"].value
    answer = client.post(
        SHORT + CORE, body, content_type="application/json", headers={"X-CSRFToken": token}
    )
    assert answer.status_code == 201


# --- core symbols ---


@pytest.mark.parametrize("prefix", [SHORT, LONG])
def test_core_symbols_are_added_listed_and_changed(staff: Client, prefix: str) -> None:
    path = prefix + CORE
    body = {"exchange_id": "OKX", "symbols": ["btc-usdt"], "timeframes": ["60m"]}
    status, added = call(staff, "post", path, body)
    assert status == 201
    [row] = added["core_symbols"]
    assert row.pop("created_at").endswith("Z")
    assert row == {
        "exchange_id": "okx",
        "symbol": "BTC/USDT",
        "exchange_symbol": "BTC-USDT",
        "timeframes": ["1h"],
        "enabled": True,
        "added_by": "clerk",  # the listing was there, and is of who names it from now on
    }
    change = {"action": "disable", "exchange_id": "okx", "symbols": ["BTC/USDT"]}
    assert call(staff, "patch", path, change) == (
        200,
        {"action": "disable", "exchange_id": "okx", "affected": 1, "symbols": ["BTC/USDT"]},
    )
    assert call(staff, "get", path)[1]["count"] == 0
    assert call(staff, "get", f"{path}?include_disabled=true&exchange_id=OKX")[1]["count"] == 1
    assert call(staff, "get", f"{path}?include_disabled=true&exchange_id=")[1]["count"] == 1
    assert call(staff, "get", f"{path}?include_disabled=true&exchange_id=kraken")[1]["count"] == 0
    call(staff, "patch", path, change | {"action": "enable"})
    assert call(staff, "patch", path, change | {"action": "remove"})[1]["affected"] == 1
    assert call(staff, "patch", path, change | {"action": "remove"})[1]["affected"] == 0


def test_core_symbol_is_of_who_added_it(staff: Client) -> None:
    body = {"exchange_id": "bitstamp", "symbols": ["BTC/USD"]}
    [row] = call(staff, "post", LONG + CORE, body)[1]["core_symbols"]
    assert (row["added_by"], row["timeframes"]) == ("clerk", USUAL)
    body = {"exchange_id": "bitstamp", "symbols": ["ETH/USD"], "added_by": "the fund"}
    [row] = call(staff, "post", LONG + CORE, body)[1]["core_symbols"]
    assert row["added_by"] == "the fund"
    body = {"exchange_id": "okx", "symbols": ["BTC/USDT"], "added_by": "the fund"}
    [row] = call(staff, "post", LONG + CORE, body)[1]["core_symbols"]
    assert row["added_by"] == "the fund"
    assert Listing.objects.get(exchange__name="okx").added_by == "the fund"


ADD = {"exchange_id": "okx", "symbols": ["BTC/USDT"]}


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "exchange_id must be a text of 1 to 64 characters: it is missing"),
        (ADD | {"exchange_id": 7}, 400, "exchange_id must be a text"),
        (ADD | {"exchange_id": "mtgox"}, 404, "unknown exchange 'mtgox': there are "),
        (ADD | {"symbols": []}, 400, "symbols must be a list of 1 to 50"),
        (ADD | {"symbols": "BTC/USDT"}, 400, "symbols must be a list of 1 to 50"),
        (ADD | {"symbols": ["BTC/USDT"] * 51}, 400, "got '51 of them'"),
        (ADD | {"symbols": [None]}, 400, "symbols must be a list"),
        (ADD | {"symbols": ["BTCEUR"]}, 400, "symbols: unknown symbol 'BTCEUR'"),
        (ADD | {"timeframes": ["2m"]}, 400, "timeframes: unknown timeframe '2m': there are 1m 5m"),
        (ADD | {"timeframes": "1m"}, 400, "timeframes must be a list"),
        (ADD | {"added_by": ""}, 400, "added_by must be a text"),
        (ADD | {"added_by": "a\0"}, 400, "added_by must be a text"),
        ([], 400, "the body must be a JSON object"),
        ("x", 400, "JSON parse error"),
    ],
)
def test_core_symbols_that_cannot_be_added(
    staff: Client, body: Any, status: int, message: str
) -> None:
    found = problem(staff, "post", LONG + CORE, body)
    assert found[0] == status
    assert message in found[2]
    assert not Listing.objects.exclude(timeframes=[]).exists()


@pytest.mark.parametrize("text", ["a%00", "a" * 65])
@pytest.mark.parametrize(
    ("method", "path"), [("get", CORE), ("get", STATUS), ("post", TRIGGER)], ids=lambda part: part
)
def test_exchange_asked_about_that_is_no_name(
    staff: Client, method: str, path: str, text: str
) -> None:
    found = problem(staff, method, f"{LONG}{path}?exchange_id={text}")
    assert found[:2] == (400, "INVALID_PARAMETER")
    assert found[2].startswith("exchange_id must be a text of 1 to 64 characters: got 'a")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("get", f"{CORE}?exchange_id=mtgox", None),
        ("get", f"{CORE}?exchange_id=index", None),
        ("get", f"{STATUS}?exchange_id=mtgox", None),
        ("post", CORE, ADD | {"exchange_id": "mtgox"}),
        ("patch", CORE, ADD | {"exchange_id": "mtgox", "action": "remove"}),
        ("patch", CORE, ADD | {"exchange_id": "mtgox", "action": "enable"}),
        ("post", f"{TRIGGER}?exchange_id=mtgox", None),
        ("post", TRIGGER, {"exchange_id": "mtgox", "which": "daily"}),
    ],
)
def test_exchange_that_nobody_knows_is_404_whoever_asks(
    staff: Client, method: str, path: str, body: Any, sent: list[Any]
) -> None:
    core_symbols.add("okx", ["BTC/USDT"], added_by="me")
    status, answer = call(staff, method, LONG + path, body)
    assert (status, answer["error"]["code"]) == (404, "EXCHANGE_UNKNOWN")
    assert answer["error"]["message"].startswith("unknown exchange '")
    assert answer["error"]["details"] == {"field": "exchange_id"}
    assert sent == []


def test_status_may_be_asked_of_the_index_alone(staff: Client) -> None:
    core_symbols.add("okx", ["BTC/USDT"], added_by="me")
    answer = call(staff, "get", f"{LONG}{STATUS}?exchange_id=index")[1]
    assert (answer["core_symbols"], len(answer["index"])) == ([], 2)


@pytest.mark.parametrize(
    ("method", "path", "body", "there_are"),
    [
        ("get", f"{CORE}?odd=1", None, "exchange_id, include_disabled"),
        ("post", CORE, ADD | {"odd": None}, "added_by, exchange_id, symbols, timeframes"),
        ("post", f"{CORE}?odd=okx", ADD, "none"),
        ("patch", CORE, ADD | {"action": "enable", "odd": 1}, "action, exchange_id, symbols"),
        ("post", TRIGGER, {"odd": "kucoin"}, "exchange_id, which"),
        ("post", f"{TRIGGER}?odd=kucoin", None, "exchange_id, which"),
        ("get", f"{STATUS}?odd=okx", None, "exchange_id, limit, offset, symbol"),
        (
            "post",
            "/backfill",
            {"symbol": "BTC/USDT", "from": START, "to": START + 600, "odd": True},
            "from, overwrite, symbol, to",
        ),
        (
            "post",
            f"/backfill?symbol=BTC/USDT&from={START}&to={START + 600}&odd=true",
            None,
            "from, overwrite, symbol, to",
        ),
        ("get", "/backfills?odd=failed", None, "limit, offset, status, symbol"),
        ("get", "/backfills/1?odd=1", None, "none"),
        ("post", "/backfills/1/cancel", {"odd": 1}, "none"),
        ("post", "/backfills/1/retry?odd=1", None, "none"),
    ],
)
def test_field_that_nobody_would_read_is_refused(
    staff: Client, method: str, path: str, body: Any, there_are: str, sent: list[Any]
) -> None:
    core_symbols.add("okx", ["ETH/USDT"], added_by="me")
    status, answer = call(staff, method, LONG + path, body)
    assert (status, answer["error"]) == (
        400,
        {
            "code": "INVALID_PARAMETER",
            "message": f"odd: unknown; there are {there_are}",
            "details": {"field": "odd", "accepted": there_are},
        },
    )
    assert (sent, Backfill.objects.exists()) == ([], False)
    assert Listing.objects.exclude(timeframes=[]).count() == 1


@pytest.mark.parametrize("where", ["query", "body"])
def test_trigger_of_an_exchange_without_a_name_is_not_one_of_all(
    staff: Client, where: str, sent: list[Any]
) -> None:
    core_symbols.add("okx", ["BTC/USDT"], added_by="me")
    query, body = ("?exchange_id=", None) if where == "query" else ("", {"exchange_id": " "})
    status, code, message = problem(staff, "post", LONG + TRIGGER + query, body)
    assert (status, code) == (400, "INVALID_PARAMETER")
    assert message.startswith("exchange_id must be a text of 1 to 64 characters: got ")
    assert sent == []


@pytest.mark.parametrize("body", [{"\ud800": 1}, {"exchange_id": "\udfff"}])
@pytest.mark.parametrize("path", [CORE, TRIGGER])
def test_half_a_surrogate_pair_is_no_text(staff: Client, path: str, body: Any) -> None:
    assert problem(staff, "post", LONG + path, json.dumps(body)) == (
        400,
        "BAD_REQUEST",
        "the body has half a surrogate pair, which is no text",
    )


def test_name_of_an_unknown_field_is_shown_in_part(staff: Client) -> None:
    found = problem(staff, "post", LONG + TRIGGER, {"x" * 1_000: 1})
    assert found[2] == f"{'x' * asked.MAX_CHARS}: unknown; there are exchange_id, which"


def test_what_the_browser_adds_is_no_field(staff: Client) -> None:
    assert call(staff, "get", f"{LONG}{CORE}?format=json")[0] == 200
    form: Any = staff.post(LONG + TRIGGER, {"which": "daily", "csrfmiddlewaretoken": "x"})
    assert form.status_code == 202
    body = {"which": "daily", "csrfmiddlewaretoken": "x"}
    assert problem(staff, "post", LONG + TRIGGER, body)[0] == 400


def test_core_symbols_of_an_exchange_without_that_timeframe(staff: Client) -> None:
    body = {"exchange_id": "coinbase", "symbols": ["BTC/USD"], "timeframes": ["4h"]}
    assert problem(staff, "post", LONG + CORE, body)[2] == (
        "timeframes: coinbase has candles of 1m 5m 15m 1h 1d, not of 4h"
    )


def test_core_symbols_changed_in_vain(staff: Client) -> None:
    body = {**ADD, "action": "disable"}
    assert problem(staff, "patch", LONG + CORE, body) == (
        404,
        "CORE_SYMBOL_UNKNOWN",
        "no core symbols of okx: BTC/USDT. Add them with POST",
    )
    assert problem(staff, "patch", LONG + CORE, ADD | {"action": "burn"})[2] == (
        "action must be one of remove, enable, disable: got 'burn'"
    )


def test_body_that_is_too_large_is_not_read(staff: Client) -> None:
    body = {"exchange_id": "x" * asked.MAX_BODY_BYTES}
    assert problem(staff, "post", LONG + CORE, body)[:2] == (413, "TOO_LARGE")


def test_body_in_chunks_is_refused_and_not_taken_for_none(staff: Client) -> None:
    answer = staff.post(LONG + CORE, headers={"Transfer-Encoding": "chunked"}, CONTENT_LENGTH="")
    assert (answer.status_code, answer.json()["error"]["code"]) == (411, "LENGTH_REQUIRED")


# --- sync and status ---


def test_trigger_sends_for_each_schedule_that_has_something_due(
    staff: Client, sent: list[Any]
) -> None:
    core_symbols.add("okx", ["BTC/USDT"], timeframes=["1m", "1h", "1d"], added_by="me")
    assert call(staff, "post", SHORT + TRIGGER) == (
        202,
        {"which": "all", "tasks": 3, "exchanges": ["okx"]},
    )
    assert [(name, args) for name, args in sent] == [
        ("backtests.data_sync", ["hourly", None]),
        ("backtests.data_sync", ["daily", None]),
    ]
    assert call(staff, "post", LONG + TRIGGER, {"which": "hourly"})[1]["tasks"] == 1
    assert call(staff, "post", f"{LONG}{TRIGGER}?exchange_id=kraken")[1]["tasks"] == 0
    assert problem(staff, "post", f"{LONG}{TRIGGER}?which=now")[2] == (
        "which must be one of all, hourly, daily: got 'now'"
    )


def test_trigger_without_a_broker_is_503(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("away")

    core_symbols.add("okx", ["BTC/USDT"], added_by="me")
    monkeypatch.setattr("ingestion.data_sync.current_app.send_task", away)
    assert problem(staff, "post", LONG + TRIGGER) == (
        503,
        "REDIS_UNAVAILABLE",
        "the task queue (Redis) does not answer: not all was sent; to ask again does no harm",
    )


@pytest.mark.parametrize("prefix", [SHORT, LONG])
def test_status_shows_ranges_rows_gaps_and_errors(staff: Client, prefix: str) -> None:
    core_symbols.add("okx", ["BTC/USDT"], timeframes=["1h"], added_by="me")
    series = Series(exchange="okx", symbol="BTC/USDT", timeframe="1h")
    for start, end in ((0, 2), (3, 4)):
        part = TimeRange(start_ms=start * 3_600_000, end_ms=end * 3_600_000)
        coverage.mark(series, part)
    data_sync._note(series, "failed", error="no", now_ms=1_700_000_000_000)
    status, answer = call(staff, "get", prefix + STATUS)
    assert status == 200
    [row] = answer["core_symbols"]
    assert row["timeframes"] == [
        {
            "timeframe": "1h",
            "from": 0,
            "to": 4 * 3_600,
            "rows": 0,
            "rows_exact": True,
            "gap_count": 1,
            "gaps": [{"from": 2 * 3_600, "to": 3 * 3_600}],
            "last_sync": None,
            "last_fetch": {"time": "2023-11-14T22:13:20Z", "outcome": "failed"},
            "last_error": "no",
        }
    ]
    btc, eth = answer["index"]
    assert (btc["symbol"], eth["symbol"]) == ("BTC/USDT", "ETH/USDT")
    assert (btc["rows"], btc["from"], btc["gap_count"]) == (0, None, 1)
    assert btc["missing_minutes"] > 1_400
    assert answer["meta"] == {"count": 1, "limit": 100, "offset": 0, "next": None}


def test_status_of_one_symbol_and_in_pages(staff: Client) -> None:
    core_symbols.add("okx", ["BTC/USDT", "ETH/USDT"], added_by="me")
    answer = call(staff, "get", f"{LONG}{STATUS}?limit=1")[1]
    assert [row["symbol"] for row in answer["core_symbols"]] == ["BTC/USDT"]
    assert answer["meta"]["next"] == 1
    answer = call(staff, "get", f"{LONG}{STATUS}?limit=1&offset=1")[1]
    assert [row["symbol"] for row in answer["core_symbols"]] == ["ETH/USDT"]
    assert (answer["index"], answer["meta"]["next"]) == ([], None)
    answer = call(staff, "get", f"{LONG}{STATUS}?symbol=eth-usdt")[1]
    assert [row["symbol"] for row in answer["core_symbols"]] == ["ETH/USDT"]
    assert [row["symbol"] for row in answer["index"]] == ["ETH/USDT"]


# --- backfills ---


@pytest.mark.parametrize("prefix", [SHORT, LONG])
@pytest.mark.parametrize("where", ["query", "body", "form"])
def test_backfill_is_ordered(
    staff: Client,
    prefix: str,
    where: str,
    sent: list[Any],
    django_capture_on_commit_callbacks: Any,
) -> None:
    path = f"{prefix}/backfill"
    asking = {"symbol": "btc-usdt", "from": START, "to": START + 600, "overwrite": True}
    with django_capture_on_commit_callbacks(execute=True):
        if where == "query":
            text = "&".join(f"{name}={value}" for name, value in asking.items())
            status, answer = call(staff, "post", f"{path}?{text}")
        elif where == "form":
            made: Any = staff.post(path, asking)
            status, answer = made.status_code, decode(made.content)
        else:
            status, answer = call(staff, "post", path, asking)
    row = Backfill.objects.get()
    assert (status, answer) == (202, {"id": row.pk, "status": "pending"})
    assert (row.symbol, row.overwrite, row.created_by) == ("BTC/USDT", True, "clerk")
    assert (row.start, row.end) == (to_datetime(START * 1_000), to_datetime((START + 600) * 1_000))
    assert sent == [(backfill.RUN_TASK, [row.pk])]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"from": START}, 400, "symbol must be a symbol such as BTC/USDT: it is missing"),
        ({"symbol": "NO/NO", "from": START}, 404, "unknown symbol 'NO/NO'"),
        ({"symbol": "BTC/USDT"}, 400, "from must be unix seconds"),
        ({"symbol": "BTC/USDT", "from": "now"}, 400, "from must be a whole number of unix seconds"),
        (
            {"symbol": "BTC/USDT", "from": 1.5},
            400,
            "from must be a text or a whole number: got '1.5'",
        ),
        ({"symbol": "BTC/USDT", "from": 9_000_000_000}, 400, "from must be before now: got '9"),
        ({"symbol": "BTC/USDT", "from": START, "to": 9_000_000_000}, 400, "in the future"),
        ({"symbol": "BTC/USDT", "from": 0}, 400, "is before 2010"),
        ({"symbol": "ETH/USDT", "from": START}, 400, "ETH/USDT"),
        (
            {"symbol": "BTC/USDT", "from": START, "overwrite": "maybe"},
            400,
            "overwrite must be true or false: got 'maybe'",
        ),
        ({"symbol": ["BTC/USDT"], "from": START}, 400, "symbol must be a text or a whole number"),
        ([1], 400, "the body must be a JSON object"),
    ],
)
def test_backfill_that_cannot_be_ordered(
    staff: Client, body: Any, status: int, message: str
) -> None:
    found = problem(staff, "post", f"{LONG}/backfill", body)
    assert found[0] == status
    assert message in found[2]
    assert not Backfill.objects.exists()


def test_backfill_that_ends_before_it_begins_names_the_field(staff: Client) -> None:
    asking = {"symbol": "BTC/USDT", "from": START, "to": START}
    status, answer = call(staff, "post", f"{LONG}/backfill", asking)
    assert (status, answer["error"]["code"]) == (400, "INVALID_PARAMETER")
    assert answer["error"]["message"] == f"from must be before to ({START}): got '{START}'"
    assert answer["error"]["details"]["field"] == "from"
    assert not Backfill.objects.exists()


def ordered(**other: Any) -> Backfill:
    fields = {
        "symbol": "BTC/USDT",
        "start": to_datetime(START * 1_000),
        "end": to_datetime((START + 600) * 1_000),
        "minutes_total": 10,
        "created_by": "me",
    }
    return Backfill.objects.create(**fields | other)


def test_backfills_are_listed_newest_first_and_in_pages(staff: Client) -> None:
    rows = [ordered(status=status) for status in ("failed", "pending", "failed")]
    ids = [row.pk for row in rows]

    def listed(query: str) -> tuple[list[int], int | None]:
        status, answer = call(staff, "get", f"{LONG}/backfills?{query}")
        assert status == 200
        return [row["id"] for row in answer["backfills"]], answer["meta"]["next"]

    assert listed("") == (ids[::-1], None)
    assert listed("status=failed") == ([ids[2], ids[0]], None)
    assert listed("symbol=eth-usdt") == ([], None)
    assert listed("limit=2&symbol=btcusdt") == (ids[:0:-1], 2)
    assert listed("limit=2&offset=2") == ([ids[0]], None)
    assert (
        "status must be one of pending" in problem(staff, "get", f"{LONG}/backfills?status=odd")[2]
    )
    assert "limit must be a whole number" in problem(staff, "get", f"{LONG}/backfills?limit=0")[2]


def test_backfill_shows_how_it_goes(staff: Client) -> None:
    row = ordered(minutes_done=4, candles_written=3, errors=[{"error": "no"}])
    status, answer = call(staff, "get", f"{LONG}/backfills/{row.pk}")
    assert answer.pop("created_at").endswith("Z")
    assert (status, answer) == (
        200,
        {
            "id": row.pk,
            "symbol": "BTC/USDT",
            "from": START,
            "to": START + 600,
            "overwrite": False,
            "status": "pending",
            "progress": {
                "minutes_total": 10,
                "minutes_done": 4,
                "percent": 40,
                "candles_written": 3,
            },
            "errors": [{"error": "no"}],
            "attempt": 0,
            "created_by": "me",
            "started_at": None,
            "finished_at": None,
        },
    )


def test_backfill_is_canceled_and_retried_once(staff: Client) -> None:
    row = ordered()
    path = f"{LONG}/backfills/{row.pk}"
    assert problem(staff, "post", f"{path}/retry") == (
        409,
        "WRONG_STATUS",
        f"backfill {row.pk} is pending: only one that is failed or canceled can be retried",
    )
    canceled = {"id": row.pk, "status": "canceled"}
    assert call(staff, "post", f"{path}/cancel") == (200, canceled)
    assert problem(staff, "post", f"{path}/cancel")[:2] == (409, "WRONG_STATUS")
    assert call(staff, "post", f"{path}/retry") == (202, {"id": row.pk, "status": "pending"})


@pytest.mark.parametrize("path", ["", "/cancel", "/retry"])
def test_backfill_that_is_none_is_404(staff: Client, path: str) -> None:
    method = "post" if path else "get"
    assert problem(staff, method, f"{LONG}/backfills/4711{path}")[:2] == (404, "BACKFILL_UNKNOWN")


# --- what tells of it ---


def test_root_and_openapi_tell_of_every_route(client: Client) -> None:
    endpoints = call(client, "get", "/api/v1/")[1]["endpoints"]
    for name, path in (
        ("ingestion:backfill", "/backfill"),
        ("ingestion:backfills", "/backfills"),
        ("ingestion:core-symbols", CORE),
        ("ingestion:sync-trigger", TRIGGER),
        ("ingestion:data-status", STATUS),
    ):
        assert endpoints[name] == f"http://testserver{LONG}{path}"
    paths = call(client, "get", "/openapi.json")[1]["paths"]
    told = {(path, method) for path, methods in paths.items() for method in methods}
    assert {
        (f"{LONG}/backfill", "post"),
        (f"{LONG}/backfills", "get"),
        (f"{LONG}/backfills/{{backfill_id}}", "get"),
        (f"{LONG}/backfills/{{backfill_id}}/cancel", "post"),
        (f"{LONG}/backfills/{{backfill_id}}/retry", "post"),
        *((LONG + CORE, method) for method in ("get", "post", "patch")),
        (LONG + TRIGGER, "post"),
        (LONG + STATUS, "get"),
    } <= told


def test_openapi_says_which_gaps_and_rows_the_status_shows(client: Client) -> None:
    schemas = call(client, "get", "/openapi.json")[1]["components"]["schemas"]
    index, series = (
        schemas[name]["properties"] for name in ("IndexStatusAnswer", "SeriesStatusAnswer")
    )
    for name in ("gap_count", "gaps", "missing_minutes", "empty_minutes"):
        assert index[name]["description"].startswith("Of the last 24 hours only")
    for name in ("gap_count", "gaps"):
        assert series[name]["description"].startswith("Between `from` and `to`")
    for each in (index, series):
        assert each["rows"]["description"] == "Estimated above 10,000."


def test_short_names_are_not_taken_by_the_admin(client: Client) -> None:
    assert client.get("/admin/data/nothing").status_code == 302  # the admin's own
    answer = client.get(SHORT + STATUS)
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")
