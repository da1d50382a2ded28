"""Symbols and listings in the admin."""

from __future__ import annotations

import pytest
from django.contrib.messages import get_messages
from django.urls import reverse

from market.models import Listing, Symbol
from oracle import fx_board
from oracle.catalog import CatalogReader
from tests.factories import ExchangeFactory, ListingFactory, SymbolFactory
from tests.oracle.test_fx_board import quote

pytestmark = pytest.mark.django_db(transaction=True)

NO_LISTINGS = {
    "listings-TOTAL_FORMS": "0",
    "listings-INITIAL_FORMS": "0",
    "listings-MIN_NUM_FORMS": "0",
    "listings-MAX_NUM_FORMS": "1000",
}


def add_symbol(client, **fields):
    data = {"name": "BTC/USDT", "min_sources": "2", "enabled": "on", **NO_LISTINGS, **fields}
    return client.post(reverse("admin:market_symbol_add"), data)


def add_listing(client, symbol, **fields):
    data = {
        "exchange": ExchangeFactory.create(name="upbit").pk,
        "symbol": symbol.pk,
        "exchange_symbol": "KRW-BTC",
        "quote": "KRW",
        "enabled": "on",
        "added_by": "me",
    }
    return client.post(reverse("admin:market_listing_add"), {**data, **fields})


def errors(answer):
    assert answer.status_code == 200, "it was accepted"
    return [str(text) for texts in answer.context["errors"] for text in texts]


def messages(answer):
    return [str(message) for message in get_messages(answer.wsgi_request)]


def in_force():
    return CatalogReader().current()


# --- symbols ---


def test_symbol_saved_is_in_force_at_once(admin_client):
    answer = add_symbol(admin_client)

    assert answer.status_code == 302
    symbol = Symbol.objects.get()
    assert (symbol.name, symbol.base, symbol.quote) == ("BTC/USDT", "BTC", "USDT")
    assert in_force().names == {"BTC/USDT"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("btc/usdt", "upper case"),
        ("BTCUSDT", "is not BASE/QUOTE"),
        ("BTC-USDT", "is not BASE/QUOTE"),
        ("BTC/USDT/X", "is not BASE/QUOTE"),
        ("BTC /USDT", "is not BASE/QUOTE"),
        ("/USDT", "is not BASE/QUOTE"),
        ("A" * 17 + "/USDT", "up to 16"),
        ("BTC/BTC", "in itself"),
        ("", "required"),
    ],
)
def test_symbol_bad_name_says_what_is_wrong(admin_client, name, words):
    [error] = errors(add_symbol(admin_client, name=name))

    assert words in error
    assert not Symbol.objects.exists()


@pytest.mark.parametrize(("count", "words"), [("0", "at least 1"), ("-1", "equal to 0")])
def test_symbol_needs_at_least_one_source(admin_client, count, words):
    assert words in " ".join(errors(add_symbol(admin_client, min_sources=count)))


def test_symbol_there_already_is_refused(admin_client):
    SymbolFactory(name="BTC/USDT")

    assert "already exists" in " ".join(errors(add_symbol(admin_client)))


def test_symbol_keeps_its_name(admin_client):
    symbol = SymbolFactory.create(name="BTC/USDT")

    admin_client.post(
        reverse("admin:market_symbol_change", args=[symbol.pk]),
        {"name": "ETH/USDT", "min_sources": "3", "enabled": "on", **NO_LISTINGS},
    )

    symbol.refresh_from_db()
    assert (symbol.name, symbol.base, symbol.min_sources) == ("BTC/USDT", "BTC", 3)


def edit_list(client, symbol, **fields):
    data = {
        "form-TOTAL_FORMS": "1",
        "form-INITIAL_FORMS": "1",
        "form-0-id": symbol.pk,
        "form-0-min_sources": "2",
        "_save": "Save",
    }
    data |= {f"form-0-{name}": value for name, value in fields.items()}
    return client.post(reverse("admin:market_symbol_changelist"), data)


def test_symbol_switched_off_in_the_list_is_out_at_once(admin_client):
    add_symbol(admin_client)

    edit_list(admin_client, Symbol.objects.get())

    assert not Symbol.objects.get().enabled
    assert in_force().names == frozenset()


def test_symbol_edited_in_the_list_needs_a_source_too(admin_client):
    symbol = SymbolFactory.create(name="BTC/USDT")

    answer = edit_list(admin_client, symbol, min_sources="0")

    assert "at least 1 exchange" in answer.content.decode()
    symbol.refresh_from_db()
    assert symbol.min_sources == 2


@pytest.mark.parametrize("bulk", [True, False])
def test_symbol_deleted_is_out_at_once(admin_client, bulk):
    add_symbol(admin_client)
    symbol = Symbol.objects.get()
    if bulk:
        admin_client.post(
            reverse("admin:market_symbol_changelist"),
            {"action": "delete_selected", "_selected_action": symbol.pk, "post": "yes"},
        )
    else:
        admin_client.post(reverse("admin:market_symbol_delete", args=[symbol.pk]), {"post": "yes"})

    assert not Symbol.objects.exists()
    assert in_force().names == frozenset()


def test_symbol_redis_away_is_saved_with_a_warning(admin_client, settings):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"

    answer = add_symbol(admin_client)

    assert answer.status_code == 302
    assert Symbol.objects.exists()
    assert any("Redis is away" in text for text in messages(answer))


# --- derived symbols ---


def derive(client, origin, name="BTC/RUB", **fields):
    return add_symbol(client, name=name, derived_from=str(origin.pk), **fields)


def test_symbol_derived_is_in_force_and_says_that_no_rate_leads_there(admin_client):
    answer = derive(admin_client, SymbolFactory.create(name="BTC/USD"))

    assert answer.status_code == 302
    assert any("from USD to RUB" in text for text in messages(answer))
    assert {each.name: each.derived_from for each in in_force().symbols} == {
        "BTC/USD": None,
        "BTC/RUB": "BTC/USD",
    }
    assert "BTC/USD" in admin_client.get(reverse("admin:market_symbol_changelist")).content.decode()


def test_symbol_derived_with_a_rate_is_saved_without_a_warning(admin_client):
    fx_board.publish("cbr", [quote()])

    answer = derive(admin_client, SymbolFactory.create(name="BTC/USD"))

    assert not any("No currency rate" in text for text in messages(answer))


@pytest.mark.parametrize(
    ("origin", "fields", "words"),
    [
        ("ETH/USD", {}, "prices ETH, not BTC"),
        ("BTC/KRW", {}, "derived itself: choose BTC/USD"),
        ("BTC/USD", {"is_rate": "on"}, "conversion rate"),
    ],
)
def test_symbol_that_cannot_be_derived_says_why(admin_client, origin, fields, words):
    dollars = SymbolFactory.create(name="BTC/USD")
    SymbolFactory.create(name="ETH/USD")
    SymbolFactory.create(name="BTC/KRW", derived_from=dollars)

    answer = derive(admin_client, Symbol.objects.get(name=origin), **fields)

    assert words in " ".join(errors(answer))


def change_symbol(client, symbol, **fields):
    data = {"min_sources": "1", "enabled": "on", **NO_LISTINGS, **fields}
    return client.post(reverse("admin:market_symbol_change", args=[symbol.pk]), data)


def test_symbol_with_listings_or_derived_ones_cannot_be_derived(admin_client):
    dollars, tether = (SymbolFactory.create(name=name) for name in ("BTC/USD", "BTC/USDT"))
    roubles = SymbolFactory.create(name="BTC/RUB", derived_from=dollars)
    ListingFactory.create(symbol=tether)

    for symbol, origin, words in (
        (dollars, dollars, "from itself"),
        (dollars, tether, "BTC/RUB would be derived"),
        (tether, dollars, "has listings"),
    ):
        answer = change_symbol(admin_client, symbol, derived_from=str(origin.pk))
        assert words in " ".join(errors(answer))
    assert change_symbol(admin_client, roubles, derived_from=str(tether.pk)).status_code == 302
    roubles.refresh_from_db()
    assert roubles.derived_from == tether


def test_symbol_derived_is_listed_nowhere(admin_client):
    dollars = SymbolFactory.create(name="BTC/USD")
    roubles = SymbolFactory.create(name="BTC/RUB", derived_from=dollars)

    answer = add_listing(admin_client, roubles)

    assert "listed nowhere" in " ".join(errors(answer))
    inline = {
        "listings-TOTAL_FORMS": "1",
        "listings-0-exchange": str(ExchangeFactory.create(name="upbit").pk),
        "listings-0-exchange_symbol": "RUB-BTC",
        "listings-0-quote": "RUB",
        "listings-0-enabled": "on",
    }
    answer = change_symbol(admin_client, roubles, derived_from=str(dollars.pk), **inline)
    assert "listed nowhere" in answer.content.decode()
    assert not Listing.objects.exists()


# --- listings ---


def test_listing_that_converts_is_in_force_without_a_warning(admin_client):
    SymbolFactory(name="USDT/KRW", is_rate=True)

    answer = add_listing(admin_client, SymbolFactory(name="BTC/USDT"))

    assert answer.status_code == 302
    assert [listing.exchange_symbol for listing in in_force().listings] == ["KRW-BTC"]
    assert not any("conversion" in text for text in messages(answer))


def test_listing_that_does_not_convert_is_saved_with_a_warning(admin_client):
    answer = add_listing(admin_client, SymbolFactory(name="BTC/USDT"))

    assert Listing.objects.exists()
    assert any("no enabled conversion rate leads to USDT" in text for text in messages(answer))


def test_listing_of_a_rate_never_converts(admin_client):
    SymbolFactory(name="USDT/USD", is_rate=True)
    rate = SymbolFactory(name="USDT/KRW", is_rate=True)

    answer = add_listing(admin_client, rate, quote="USD")

    assert any("conversion" in text for text in messages(answer))


def test_listing_added_on_the_symbols_page_is_checked_too(admin_client):
    answer = add_symbol(
        admin_client,
        **{
            "listings-TOTAL_FORMS": "1",
            "listings-0-exchange": ExchangeFactory.create(name="upbit").pk,
            "listings-0-exchange_symbol": "KRW-BTC",
            "listings-0-quote": "KRW",
            "listings-0-enabled": "on",
        },
    )

    assert answer.status_code == 302, errors(answer)
    assert any("no enabled conversion rate leads to USDT" in text for text in messages(answer))
    assert len(in_force().listings) == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"quote": "krw"}, "upper case"),
        ({"quote": "K W"}, "no currency"),
        ({"exchange_symbol": "KRW BTC"}, "one word"),
        ({"exchange_symbol": ""}, "required"),
        ({"exchange": ""}, "required"),
    ],
)
def test_listing_bad_field_says_what_is_wrong(admin_client, fields, words):
    answer = add_listing(admin_client, SymbolFactory(name="BTC/USDT"), **fields)

    assert words in " ".join(errors(answer))
    assert not Listing.objects.exists()


# --- lists ---


@pytest.mark.parametrize("model", ["symbol", "listing"])
@pytest.mark.parametrize("query", ["", "?q=btc", "?enabled__exact=1", "?quote=USDT", "?q=no'\"%00"])
def test_lists_can_be_searched_and_filtered(admin_client, model, query):
    ListingFactory(symbol=SymbolFactory(name="BTC/USDT"))
    answer = admin_client.get(reverse(f"admin:market_{model}_changelist") + query)

    assert answer.status_code in (200, 302)


@pytest.mark.parametrize("model", ["symbol", "listing"])
def test_pages_of_a_row_open(admin_client, model):
    row = ListingFactory.create(symbol=SymbolFactory(name="BTC/USDT"))
    pk = row.symbol_id if model == "symbol" else row.pk

    for name, args in (("add", []), ("change", [pk]), ("delete", [pk]), ("history", [pk])):
        assert (
            admin_client.get(reverse(f"admin:market_{model}_{name}", args=args)).status_code == 200
        )


def test_index_has_our_name(admin_client):
    assert "Token Price Oracle" in admin_client.get(reverse("admin:index")).content.decode()
