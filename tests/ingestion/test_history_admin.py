"""Backfills and what is stored, in the admin."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse

from ingestion import core_symbols
from ingestion.models import Backfill, SymbolRequest
from market import coverage, revisions
from market.candles import to_datetime
from market.coverage import Series
from market.models import ExchangeCandle, Listing
from market.ranges import TimeRange
from tests.factories import ExchangeFactory, ListingFactory, SymbolFactory

admin.autodiscover()
urlpatterns = [path("admin/", admin.site.urls)]
pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

LIST, ADD = "admin:ingestion_backfill_changelist", "admin:ingestion_backfill_add"
START_MS = 1_700_000_040_000
FORM = {
    "symbol": "BTC/USDT",
    "start_0": "2023-11-14",
    "start_1": "22:14:00",
    "end_0": "2023-11-14",
    "end_1": "23:00:00",
}


@pytest.fixture(autouse=True)
def _kept_for_ever(settings: Any) -> None:
    settings.RETENTION_DAYS = 0


@pytest.fixture(autouse=True)
def _only_djangos_middleware(settings: Any) -> None:
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if name.startswith("django.")]


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    messages: list[int] = []
    monkeypatch.setattr(
        "ingestion.backfill.current_app.send_task",
        lambda name, args, **_: messages.append(args[0]),
    )
    return messages


@pytest.fixture(autouse=True)
def listing() -> Listing:
    made: Any = ListingFactory(
        exchange=ExchangeFactory(name="okx"),
        symbol=SymbolFactory(name="BTC/USDT"),
        exchange_symbol="BTC-USDT",
    )
    assert isinstance(made, Listing)
    return made


def ordered(**other: Any) -> Backfill:
    fields = {
        "symbol": "BTC/USDT",
        "start": to_datetime(START_MS),
        "end": to_datetime(START_MS + 600_000),
        "minutes_total": 10,
    }
    return Backfill.objects.create(**fields | other)


def page(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return unescape(answer.content.decode())


def said(response: Any) -> list[str]:
    return [str(message) for message in get_messages(response.wsgi_request)]


def act(client: Client, action: str, *rows: Backfill) -> list[str]:
    form = {"action": action, "_selected_action": [row.pk for row in rows]}
    messages = said(client.post(reverse(LIST), form))
    client.get(reverse(LIST))  # shows them, and so forgets them
    return messages


def test_adding_a_backfill_runs_it(
    admin_client: Client, sent: list[int], django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        answer = admin_client.post(reverse(ADD), FORM)
    row = Backfill.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, reverse(LIST))
    assert said(answer) == [f"Backfill {row.pk} of {row} was ordered."]
    assert (row.symbol, row.start, row.minutes_total) == ("BTC/USDT", to_datetime(START_MS), 46)
    assert (row.created_by, row.status, sent) == ("admin", "pending", [row.pk])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"end_0": "2023-11-13"}, "must be before to"),
        ({"end_0": "2100-01-01"}, "lies in the future"),
        ({"start_0": "1999-01-01"}, "is before 2010-01-01"),
        ({"symbol": "NO/NO"}, "Select a valid choice"),
        ({"start_1": ""}, "This field is required"),
        ({"symbol": "ETH/USDT"}, "ETH/USDT"),
    ],
)
def test_add_form_says_what_is_wrong(
    admin_client: Client, sent: list[int], change: dict[str, str], message: str
) -> None:
    SymbolFactory(name="ETH/USDT")
    answer = admin_client.post(reverse(ADD), FORM | change)
    assert answer.status_code == 200
    assert message in re.sub(r"<select.*?</select>", "", answer.content.decode(), flags=re.DOTALL)
    assert (Backfill.objects.count(), sent) == (0, [])


def test_list_shows_status_progress_and_errors(admin_client: Client) -> None:
    ordered(
        status="running",
        minutes_done=4,
        errors=[
            {"error": "<no>", "start_ms": START_MS, "end_ms": START_MS + 60_000},
            {"exchange": "upbit", "note": "minutes left out for want of a rate", "minutes": 7},
        ],
    )
    text = page(admin_client, reverse(LIST))
    assert '<progress value="4" max="10"></progress> 40\xa0%' in text
    assert "[2023-11-14 22:14, 2023-11-14 22:15) <no> (and 1 more)" in text


def test_page_of_a_backfill_lists_every_error_and_edits_nothing(admin_client: Client) -> None:
    row = ordered(
        status="failed",
        errors=[
            {"error": "one"},
            {"exchange": "upbit", "note": "minutes left out for want of a rate", "minutes": 7},
        ],
    )
    url = reverse("admin:ingestion_backfill_change", args=[row.pk])
    text = page(admin_client, url)
    assert "one<br>upbit: 7 minutes left out for want of a rate<br>" in text
    assert 'name="_save"' not in text
    assert admin_client.post(url, FORM).status_code == 403
    delete = reverse("admin:ingestion_backfill_delete", args=[row.pk])
    assert admin_client.post(delete, {"post": "yes"}).status_code == 403
    assert Backfill.objects.get().status == "failed"


def test_actions_retry_and_cancel_what_can_be(admin_client: Client) -> None:
    pending, failed = ordered(), ordered(status="failed")
    assert act(admin_client, "retry", pending, failed) == [
        f"Retried: {failed}.",
        f"Not retried, for it is pending: {pending}.",
    ]
    done = ordered(status="succeeded")
    assert act(admin_client, "cancel", pending, done) == [
        f"Not canceled, for it is succeeded: {done}.",
        f"Canceled: {pending}.",
    ]
    assert dict(Backfill.objects.values_list("pk", "status")) == {
        pending.pk: "canceled",
        failed.pk: "pending",
        done.pk: "succeeded",
    }


def test_who_may_only_look_orders_and_cancels_nothing(sent: list[int]) -> None:
    user = User.objects.create_user("clerk", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_backfill"))
    client = Client()
    client.force_login(user)
    row = ordered()
    assert str(row.pk) in page(client, reverse(LIST))
    act(client, "cancel", row)
    assert client.post(reverse(ADD), FORM).status_code == 403
    assert list(Backfill.objects.values_list("status", flat=True)) == ["pending"]


def test_candles_are_shown_one_series_at_a_time_and_never_counted_whole(
    admin_client: Client,
) -> None:
    for exchange, price in (("okx", "1.25"), ("kraken", "9.75")):
        series = Series(exchange=exchange, symbol="BTC/USDT", timeframe="1h")
        part = TimeRange(start_ms=0, end_ms=3_600_000)
        coverage.mark(series, part)
        ExchangeCandle.objects.create(
            exchange=exchange,
            symbol="BTC/USDT",
            timeframe="1h",
            time=to_datetime(0),
            **dict.fromkeys(("open", "high", "low", "close", "volume"), Decimal(price)),
        )
    url = reverse("admin:market_exchangecandlerow_changelist")
    with CaptureQueriesContext(connection) as queries:
        text = page(admin_client, url)
    assert "9.75" in text and "1.25" not in text
    assert "9.75" in page(admin_client, f"{url}?series=none%00")
    assert "1.25" in page(admin_client, f"{url}?series=okx|BTC/USDT|1h")
    counts = [each["sql"] for each in queries if "COUNT" in each["sql"] and "ohlcv" in each["sql"]]
    assert all("LIMIT" in sql for sql in counts)


def test_candles_of_an_empty_store(admin_client: Client) -> None:
    assert "0 exchange candles" in page(
        admin_client, reverse("admin:market_exchangecandlerow_changelist")
    )


def test_what_is_stored_is_only_looked_at(admin_client: Client) -> None:
    series = Series(exchange="okx", symbol="BTC/USDT", timeframe="1h")
    whole = TimeRange(start_ms=0, end_ms=3_600_000)
    coverage.mark(series, whole)
    revision = revisions.pin(series, whole, now_ms=START_MS)
    SymbolRequest.objects.create(
        exchange="okx", symbol="BTC/USDT", timeframe="1h", requested_by="run 7",
        requested_at=to_datetime(START_MS),
    )  # fmt: skip
    for model, shown in (
        ("market_coverage", "1970"),
        ("market_datarevision", str(revision)),
        ("ingestion_symbolrequest", "run 7"),
    ):
        assert shown in page(admin_client, reverse(f"admin:{model}_changelist"))
        assert admin_client.get(reverse(f"admin:{model}_add")).status_code == 403


def test_listing_takes_only_timeframes_there_are(admin_client: Client, listing: Listing) -> None:
    url = reverse("admin:market_listing_change", args=[listing.pk])
    form = {
        "exchange": listing.exchange_id,
        "symbol": listing.symbol_id,
        "exchange_symbol": "BTC-USDT",
        "quote": "USDT",
        "enabled": "on",
        "synced": "on",
        "added_by": "admin",
    }
    refused = admin_client.post(url, form | {"timeframes": ["1m", "2m"]})
    assert "2m is not one of the available choices" in refused.content.decode()
    assert admin_client.post(url, form | {"timeframes": ["1h", "1m"]}).status_code == 302
    listing.refresh_from_db()
    assert listing.timeframes == ["1m", "1h"]
    assert [row.pk for row in core_symbols.listed()] == [listing.pk]
    admin_client.post(url, form)
    listing.refresh_from_db()
    assert (listing.timeframes, listing.enabled) == ([], True)
