"""The exchanges in the admin, with a real database and a real Redis."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import path, reverse

from ingestion import breaker
from ingestion.breaker import State
from market.models import Exchange, Listing
from oracle import catalog, ticker_book
from oracle.values import ErrorCode
from tests.factories import ExchangeFactory, ListingFactory, SymbolFactory

admin.autodiscover()
urlpatterns = [path("admin/", admin.site.urls)]
pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

NOBODY = "unix:///nowhere/redis.sock"
LIST = "admin:market_exchange_changelist"


@pytest.fixture(autouse=True)
def _only_djangos_middleware(settings: Any) -> None:
    # The pages are what is tested, not what stands before all pages.
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if name.startswith("django.")]


@pytest.fixture
def exchange() -> Exchange:
    exchange: Any = ExchangeFactory(name="okx", title="OKX")
    assert isinstance(exchange, Exchange)
    return exchange


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def open_breaker(name: str) -> None:
    while not breaker.record_failure(name, code=ErrorCode.TIMEOUT, now_ms=now_ms()):
        pass


def state(name: str) -> State:
    return breaker.states([name], now_ms=now_ms())[name].state


def cells(page: str) -> dict[str, str]:
    """The read-only cells of a list's only row, or of a change page."""
    rows = re.findall(r'class="field-(\w+)[^"]*">(.*?)</t[dh]>', page, re.DOTALL)
    rows += re.findall(r'field-(\w+)">.*?class="readonly">(.*?)</div>', page, re.DOTALL)
    return {name: unescape(re.sub(r"<[^>]+>", "", text)).strip() for name, text in rows}


def change_page(exchange: Exchange) -> str:
    return reverse("admin:market_exchange_change", args=[exchange.pk])


def button(exchange: Exchange) -> str:
    return reverse("admin:market_exchange_reset_breaker", args=[exchange.pk])


def said(response: Any) -> list[str]:
    return [str(message) for message in get_messages(response.wsgi_request)]


def staff(*permissions: str) -> Client:
    user = User.objects.create_user("clerk", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def test_list_shows_breaker_feed_and_listings(admin_client: Client, exchange: Exchange) -> None:
    ListingFactory(exchange=exchange, symbol=SymbolFactory(name="BTC/USDT"))
    ListingFactory(exchange=exchange, symbol=SymbolFactory(name="ETH/USDT"))
    open_breaker("okx")
    ticker_book.store("okx", [], digest="a", received_ms=now_ms() - 4_000, token="1" * 16)
    ticker_book.record_failure(
        "okx", code=ErrorCode.TIMEOUT, detail="<too> slow", now_ms=1_790_000_000_000
    )
    shown = cells(admin_client.get(reverse(LIST)).content.decode())
    assert shown.pop("ticker_age") in {f"4.{tenth} s ago" for tenth in range(10)}
    assert shown.pop("enabled") == ""
    assert shown == {
        "name": "okx",
        "title": "OKX",
        "listing_count": "2",
        "breaker_state": "open, 5 recent failures",
        "last_error": "2026-09-21 14:13:20 TIMEOUT: <too> slow",
    }


def test_list_of_an_exchange_never_fetched(admin_client: Client, exchange: Exchange) -> None:
    shown = cells(admin_client.get(reverse(LIST)).content.decode())
    assert [shown[name] for name in ("breaker_state", "ticker_age", "last_error")] == [
        "closed",
        "never",
        "none",
    ]


def test_list_search_and_filter(admin_client: Client, exchange: Exchange) -> None:
    ExchangeFactory(name="kraken", title="Kraken", enabled=False)
    for query, name in (("?q=krak", "kraken"), ("?enabled__exact=1", "okx")):
        page = admin_client.get(reverse(LIST) + query).content.decode()
        assert cells(page)["name"] == name
        assert page.count('class="field-name"') == 1


@pytest.mark.parametrize("where", ["list", "change"])
def test_pages_without_redis_show_unknown(
    admin_client: Client, exchange: Exchange, settings: Any, where: str
) -> None:
    settings.REDIS_URL = NOBODY
    url = reverse(LIST) if where == "list" else change_page(exchange)
    response = admin_client.get(url)
    shown = cells(response.content.decode())
    assert [shown[name] for name in ("breaker_state", "ticker_age", "last_error")] == [
        "unknown"
    ] * 3


def test_list_enabled_is_edited_and_in_force_at_once(
    admin_client: Client,
    exchange: Exchange,
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    form = {
        "form-TOTAL_FORMS": "1",
        "form-INITIAL_FORMS": "1",
        "form-0-id": str(exchange.pk),
        "_save": "Save",
    }
    catalog.publish(catalog.Catalog(exchanges=("okx",)))
    with django_capture_on_commit_callbacks(execute=True):
        assert admin_client.post(reverse(LIST), form).status_code == 302
    assert not Exchange.objects.get(name="okx").enabled
    assert catalog.CatalogReader().current().exchanges == ()


def test_change_page_saves_the_title_and_keeps_the_name(
    admin_client: Client,
    exchange: Exchange,
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    form = {"name": "kraken", "title": "OKX Global", "enabled": "on"}
    with django_capture_on_commit_callbacks(execute=True):
        admin_client.post(change_page(exchange), form)
    exchange.refresh_from_db()
    assert (exchange.name, exchange.title) == ("okx", "OKX Global")
    assert catalog.CatalogReader().current().exchanges == ("okx",)


def test_change_page_saves_without_redis_and_says_so(
    admin_client: Client,
    exchange: Exchange,
    settings: Any,
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    settings.REDIS_URL = NOBODY
    with django_capture_on_commit_callbacks(execute=True):
        response = admin_client.post(change_page(exchange), {"title": "New"})
    exchange.refresh_from_db()
    assert (exchange.title, exchange.enabled) == ("New", False)
    assert any(text.startswith("Saved, but Redis is away") for text in said(response))


def test_add_page_takes_only_names_of_adapters(admin_client: Client) -> None:
    url = reverse("admin:market_exchange_add")
    refused = admin_client.post(url, {"name": "mtgox", "title": "Mt. Gox"})
    assert "No adapter of that name" in refused.content.decode()
    admin_client.post(url, {"name": "kraken", "title": "Kraken"})
    assert list(Exchange.objects.values_list("name", flat=True)) == ["kraken"]


@pytest.mark.parametrize("where", ["list", "page"])
def test_exchange_without_an_adapter_cannot_be_enabled(admin_client: Client, where: str) -> None:
    row: Any = ExchangeFactory(name="bitstamp", title="Bitstamp", enabled=False)
    url, form = change_page(row), {"title": "Bitstamp", "enabled": "on"}
    if where == "list":
        form = {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "_save": "Save"}
        url, form = reverse(LIST), {**form, "form-0-id": str(row.pk), "form-0-enabled": "on"}
    answer = admin_client.post(url, form)
    assert "Bitstamp has no adapter, and so no tickers" in answer.content.decode()
    assert not Exchange.objects.get().enabled


@pytest.mark.parametrize("where", ["page", "action"])
def test_delete_takes_the_exchange_out_of_force(
    admin_client: Client,
    exchange: Exchange,
    django_capture_on_commit_callbacks: Callable[..., Any],
    where: str,
) -> None:
    ListingFactory(exchange=exchange)
    catalog.publish(catalog.Catalog(exchanges=("okx",)))
    form = {"post": "yes"}
    url = reverse("admin:market_exchange_delete", args=[exchange.pk])
    if where == "action":
        url, form = (
            reverse(LIST),
            {
                **form,
                "action": "delete_selected",
                "_selected_action": str(exchange.pk),
            },
        )
    with django_capture_on_commit_callbacks(execute=True):
        admin_client.post(url, form)
    assert not Listing.objects.exists()
    assert catalog.CatalogReader().current().exchanges == ()


def test_button_resets_the_breaker_and_says_so(admin_client: Client, exchange: Exchange) -> None:
    open_breaker("okx")
    page = admin_client.get(change_page(exchange)).content.decode()
    assert f'action="{button(exchange)}"' in page
    assert cells(page)["breaker_state"] == "open, 5 recent failures"
    response = admin_client.post(button(exchange))
    assert (response.status_code, response["Location"]) == (302, change_page(exchange))
    assert said(response) == ["Breaker reset: OKX."]
    assert state("okx") == State.CLOSED


def test_button_needs_a_csrf_token(
    admin_client: Client, admin_user: User, exchange: Exchange
) -> None:
    open_breaker("okx")
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    assert client.post(button(exchange)).status_code == 403
    token = re.search(
        r'name="csrfmiddlewaretoken" value="(\w+)"',
        client.get(change_page(exchange)).content.decode(),
    )
    assert token is not None
    assert state("okx") == State.OPEN
    client.post(button(exchange), {"csrfmiddlewaretoken": token[1]})
    assert state("okx") == State.CLOSED


def test_button_by_get_or_of_no_exchange_is_refused(
    admin_client: Client, exchange: Exchange
) -> None:
    open_breaker("okx")
    assert admin_client.get(button(exchange)).status_code == 405
    nobody = reverse("admin:market_exchange_reset_breaker", args=[0])
    assert admin_client.post(nobody).status_code == 404
    assert state("okx") == State.OPEN


def test_reset_needs_the_permission_to_change(exchange: Exchange) -> None:
    open_breaker("okx")
    client = staff("view_exchange")
    assert "Reset breaker" not in client.get(change_page(exchange)).content.decode()
    assert "Reset breaker" not in client.get(reverse(LIST)).content.decode()
    assert client.post(button(exchange)).status_code == 403
    client.post(reverse(LIST), {"action": "reset_breakers", "_selected_action": str(exchange.pk)})
    assert Client().post(button(exchange)).status_code == 302  # to the login page
    assert state("okx") == State.OPEN


def test_action_resets_the_chosen_breakers(admin_client: Client, exchange: Exchange) -> None:
    ExchangeFactory(name="kraken", title="Kraken")
    for name in ("okx", "kraken"):
        open_breaker(name)
    form = {"action": "reset_breakers", "_selected_action": str(exchange.pk)}
    response = admin_client.post(reverse(LIST), form)
    assert said(response) == ["Breaker reset: OKX."]
    assert (state("okx"), state("kraken")) == (State.CLOSED, State.OPEN)


def test_button_without_redis_says_that_nothing_was_reset(
    admin_client: Client, exchange: Exchange, settings: Any
) -> None:
    settings.REDIS_URL = NOBODY
    [message] = said(admin_client.post(button(exchange)))
    assert message.startswith("Nothing was reset, Redis does not answer")
