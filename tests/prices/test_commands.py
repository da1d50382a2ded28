"""The prices' commands."""

from __future__ import annotations

import io
import re
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from rich.console import Group

from prices import changes
from prices.management.commands.prices import Board
from tests.prices.live.conftest import now_ms, publish_catalog, put, put_rate

pytestmark = pytest.mark.django_db

D = Decimal


@pytest.fixture(autouse=True)
def catalogue(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    publish_catalog()


def shown(*args):
    """The rows of the table: cells by symbol."""
    out = io.StringIO()
    call_command("prices", *args, stdout=out)
    rows = [
        [cell.strip() for cell in line.strip("│ \n").split("│")]
        for line in out.getvalue().splitlines()
        if "/USDT" in line
    ]
    return {row[0]: row[1:] for row in rows}


def test_prices_shows_every_symbol(monkeypatch):
    put("0.00000123", symbol="PEPE/USDT")
    put(age_ms=60_000)
    put_rate("77.50")
    at = now_ms()
    monkeypatch.setattr(
        changes,
        "change",
        lambda name, **_: (
            changes.Change(start_ms=at, start_price=D(4), end_ms=at, end_price=D(3))
            if name == "BTC/USDT"
            else None
        ),
    )

    rows = shown()

    assert list(rows) == ["BTC/USDT", "ETH/USDT", "PEPE/USDT", "XMR/USDT"]
    assert re.fullmatch(r"60\.\d s", rows["BTC/USDT"].pop(2))
    assert rows["BTC/USDT"] == ["42150.5", "stale", "2", "77.5", "-25.00 %"]
    assert rows["PEPE/USDT"][:2] == ["0.00000123", "fresh"]
    assert rows["XMR/USDT"] == ["—", "missing", "—", "0", "—", "—"]


def test_prices_of_some_symbols():
    assert list(shown("btc-usdt", "XMRUSDT")) == ["BTC/USDT", "XMR/USDT"]


def test_prices_unknown_symbol_says_so():
    with pytest.raises(CommandError, match="unknown symbol 'nope'"):
        shown("nope")


def test_prices_without_redis_says_so(settings):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    with pytest.raises(CommandError, match="nowhere"):
        shown()


def test_prices_without_database_are_there_all_the_same(monkeypatch):
    def away(*_, **__):
        raise OperationalError

    monkeypatch.setattr(changes, "change", away)
    put()

    assert shown("btc-usdt")["BTC/USDT"][0] == "42150.5"


def test_watch_survives_a_redis_that_is_away(settings):
    board = Board([])
    settings.REDIS_URL = "unix:///nowhere/redis.sock"

    shown_instead = board.watch(now_ms=now_ms())

    assert isinstance(shown_instead, Group)
    assert "Redis does not answer" in str(shown_instead.renderables[0])
