"""The HTML pages."""

from __future__ import annotations

import re
import time
from decimal import Decimal
from pathlib import Path

import pytest

import config
from config.pages import age_words
from oracle import catalog
from oracle.catalog import Catalog, CatalogSymbol
from oracle.jsontext import decode
from oracle.values import Source
from tests.oracle.test_price_board import price, publish

D = Decimal


@pytest.fixture(autouse=True)
def published(settings):
    settings.SIMULATED = False
    symbols = tuple(
        CatalogSymbol(name=name, base=name.split("/")[0], quote="USDT", min_sources=1)
        for name in ("BTC/USDT", "PEPE/USDT", "XMR/USDT")
    )
    catalog.publish(Catalog(exchanges=("okx",), symbols=symbols))
    at = time.time_ns() // 1_000_000
    publish(
        price("42150.5", now_ms=at, spread_bps=D("1.25"), outliers_removed=1),
        price("0.00000123", symbol="PEPE/USDT", now_ms=at),
        now_ms=at,
    )


def text_of(client, path, status=200):
    answer = client.get(path)
    assert answer.status_code == status
    assert answer["Content-Type"].startswith("text/html")
    return answer.content.decode()


def test_board_shows_every_symbol_with_exact_digits(client):
    page = text_of(client, "/")

    assert re.findall(r'class="price number">([^<]*)<', page) == ["42150.5", "0.00000123", "—"]
    assert re.findall(r'data-status="(\w+)"( data-age|>)', page)[-3:] == [
        ("fresh", " data-age"),
        ("fresh", " data-age"),
        ("missing", ">"),
    ]
    assert 'href="/prices/btc-usdt"' in page


def test_board_rows_keep_digits_as_text(client):
    rows = decode(client.get("/board.json").content)["rows"]

    assert rows[0].pop("age_ms") >= 40
    assert rows[0].pop("age").endswith(" s")
    assert rows[0] == {
        "symbol": "BTC/USDT",
        "slug": "btc-usdt",
        "price": "42150.5",
        "status": "fresh",
        "source_count": 2,
        "sources": ["binance", "okx"],
        "outliers": 1,
        "spread": "1.2",
        "derived_from": None,
    }
    assert rows[1]["price"] == "0.00000123"
    assert rows[2] == {
        "symbol": "XMR/USDT",
        "slug": "xmr-usdt",
        "status": "missing",
        "sources": [],
    }


@pytest.mark.parametrize("path", ["/", "/prices/btc-usdt", "/nothing"])
def test_pages_bear_no_script_or_style_of_their_own(client, path):
    page = client.get(path).content.decode()

    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|https?://", page)


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/", "/prices/btc-usdt", "/nothing", "/admin/login/"])
def test_pages_say_that_prices_are_simulated(client, settings, path):
    settings.SIMULATED = True

    assert "imulated prices" in client.get(path).content.decode()
    settings.SIMULATED = False
    assert "imulated prices" not in client.get(path).content.decode()


@pytest.mark.django_db
def test_board_redis_away_comes_and_says_so(client, settings):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"

    page = text_of(client, "/", 503)

    assert "Redis) does not answer" in page
    assert "board.js" in page


def test_receipt_shows_each_source_and_why_it_was_left_out(client):
    at = time.time_ns() // 1_000_000
    sources = (
        Source(
            exchange="upbit",
            exchange_symbol="KRW-BTC",
            price=D("42150.5"),
            native_price=D(58_589_195),
            weight=D("12.50"),
            volume=D(1),
            as_of_ms=at,
            path=("KRW→USDT",),
            kept=True,
        ),
        Source(
            exchange="okx",
            exchange_symbol="<b>",
            price=None,
            native_price=None,
            weight=None,
            volume=None,
            as_of_ms=None,
            reason="no ticker",
        ),
    )
    publish(price("42150.5", now_ms=at, sources=sources), now_ms=at)

    page = text_of(client, "/prices/BTC-USDT")
    cells = [cell.strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", page)]

    assert cells[:5] == ["KRW-BTC", "42150.5", "58589195", "KRW→USDT", "12.5"]
    assert cells[5] == "100.00 %"
    assert cells[7] == '<span class="status fresh">kept</span>'
    assert cells[8] == "&lt;b&gt;"
    assert cells[-1] == '<span class="status stale">no ticker</span>'


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/prices/nope", 404, "unknown symbol"),
        ("/prices/xmr-usdt", 503, "XMR/USDT has no price"),
        ("/prices/%3Cscript%3E", 404, "&lt;script&gt;"),
        ("/nothing", 404, "There is no such page"),
    ],
)
def test_pages_that_are_not_there_say_why(client, path, status, words):
    page = text_of(client, path, status)

    assert words in page
    assert "<script>" not in page


def test_pages_over_the_limit_say_when_to_try_again(client, settings):
    settings.RATE_LIMIT_PER_MINUTE = 1
    client.get("/")

    answer = client.get("/prices/btc-usdt")

    assert answer.status_code == 429
    assert f"Try again in {answer['Retry-After']} s" in answer.content.decode()


@pytest.mark.parametrize(
    ("age_ms", "words"),
    [
        (0, "0.0 s"),
        (9_949, "9.9 s"),
        (10_000, "10 s"),
        (119_000, "119 s"),
        (120_000, "2 min"),
        (7_200_000, "2 h"),
    ],
)
def test_age_words(age_ms, words):
    assert age_words(age_ms) == words


def test_static_files_are_our_own(client):
    pages = [client.get(path).content.decode() for path in ("/", "/api/docs/")]
    wanted = {
        path for page in pages for path in re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    }

    assert len(wanted) >= 6
    for path in wanted:
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert b"".join(answer), path  # read to its end, the file is closed


def test_our_scripts_ask_no_other_site():
    static = Path(config.__path__[0], "static")
    scripts = [path for path in static.rglob("*.*") if path.suffix in {".js", ".css"}]

    assert {"board.js", "style.css"} <= {script.name for script in scripts}
    for script in scripts:
        assert not re.search(r"https?://|eval\(|innerHTML", script.read_text()), script
