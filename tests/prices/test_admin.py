"""The price history and the currency rates in the admin: looked at, never counted or changed."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from ingestion.models import FxRate
from market import records
from market.models import Symbol
from market.periods import _periods
from prices.models import PriceHistory
from tests.factories import SymbolFactory

pytestmark = pytest.mark.django_db

START = datetime(2026, 1, 31, 23, 59, 50, tzinfo=UTC)
HISTORY, RATES = "admin:prices_pricerow_changelist", "admin:ingestion_fxrate_changelist"


@pytest.fixture(autouse=True)
def rows():
    for name in ("BTC/USDT", "ETH/USDT"):
        SymbolFactory(name=name)
        PriceHistory.objects.bulk_create(
            PriceHistory(
                symbol=name,
                time=START + timedelta(seconds=10 * number),
                price=Decimal("42150.5") + number,
                method="median" if number == 2 else "vwap",
                sources=["kraken", "okx"],
            )
            for number in range(4)
        )
    FxRate.objects.create(
        source="cbr",
        base="USD",
        quote="RUB",
        date=date(2026, 1, 31),
        rate=Decimal("80.9529"),
        nominal=1,
        fetched_at=START,
    )


def shown(client, name=HISTORY, **query):
    answer = client.get(reverse(name), query)
    assert answer.status_code == 200
    return answer


def prices(answer):
    return [int(row.price) for row in answer.context["cl"].result_list]


def test_history_is_of_one_symbol_newest_first_and_exact(admin_client):
    answer = shown(admin_client)

    assert prices(answer) == [42153, 42152, 42151, 42150]
    assert {row.symbol for row in answer.context["cl"].result_list} == {"BTC/USDT"}
    text = answer.content.decode()
    assert "42150.5<" in text
    assert "2026-01-31 23:59:50" in text
    assert "?symbol=ETH%2FUSDT" in text


def test_history_is_filtered_by_symbol_method_and_time(admin_client):
    query = {"symbol": "ETH/USDT", "method__exact": "vwap", "time__year": 2026, "time__month": 2}

    assert prices(shown(admin_client, **query)) == [42153, 42151]


def test_history_is_not_counted_nor_searched_for_its_days(admin_client, monkeypatch):
    monkeypatch.setattr(records, "MAX_ROWS", 3)
    with CaptureQueriesContext(connection) as queries:
        answer = shown(admin_client, time__year=2026)
    asked = [each["sql"] for each in queries if "price_history" in each["sql"]]

    assert answer.context["cl"].result_count == 3
    assert asked
    assert not [sql for sql in asked if "DISTINCT" in sql]
    assert not [sql for sql in asked if "COUNT(*)" in sql and "LIMIT 3" not in sql]
    assert not [sql for sql in asked if "'BTC/USDT'" not in sql]


def test_history_is_read_only(admin_client):
    assert admin_client.get(reverse("admin:prices_pricerow_add")).status_code == 403
    url = reverse("admin:prices_pricerow_change", args=["2026-01-31"])
    assert admin_client.get(url).status_code == 302  # to the list of the app
    assert admin_client.post(url, {}).status_code in (302, 403)
    assert "_selected_action" not in shown(admin_client).content.decode()


def test_history_without_symbols_opens(admin_client):
    Symbol.objects.all().delete()
    assert shown(admin_client).context["cl"].result_count == 8


def test_rates_are_shown_and_read_only(admin_client):
    answer = shown(admin_client, RATES, date__year=2026)

    assert "80.9529<" in answer.content.decode()
    assert admin_client.get(reverse("admin:ingestion_fxrate_add")).status_code == 403
    url = reverse("admin:ingestion_fxrate_change", args=[FxRate.objects.get().pk])
    assert admin_client.get(url).status_code == 200
    assert admin_client.post(url, {"rate": "1"}).status_code == 403


@pytest.mark.parametrize(
    ("first", "last", "kind", "expected"),
    [
        ((2025, 12, 31), (2026, 1, 1), "day", ["2025-12-31", "2026-01-01"]),
        (
            (2025, 11, 30),
            (2026, 2, 1),
            "month",
            ["2025-11-01", "2025-12-01", "2026-01-01", "2026-02-01"],
        ),
        ((2024, 12, 31), (2026, 12, 1), "year", ["2024-01-01", "2025-01-01", "2026-01-01"]),
        ((2026, 5, 5), (2026, 5, 5), "year", ["2026-01-01"]),
    ],
)
def test_periods_go_from_the_first_to_the_last(first, last, kind, expected):
    begin, end = (datetime.combine(date(*day), time(9), UTC) for day in (first, last))
    found = _periods(begin, end, kind)

    assert [f"{each:%Y-%m-%d}" for each in found] == expected
