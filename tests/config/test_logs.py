import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
import uvicorn

from config import logs
from oracle import catalog
from oracle.catalog import Catalog, CatalogSymbol

ROOT = Path(__file__).parents[2]
SYMBOL = CatalogSymbol(name="BTC/USDT", base="BTC", quote="USDT", min_sources=1)


@pytest.fixture
def _configured_again(settings):
    yield
    settings.LOG_FORMAT, settings.LOG_LEVEL = "text", "info"
    logs.configure()


@pytest.fixture
def written(_configured_again, capsys, settings):
    """Configure with these settings, call, and return the lines on stderr."""

    def write(call, *, log_format="json", level="info"):
        settings.LOG_FORMAT, settings.LOG_LEVEL = log_format, level
        logs.configure()
        call()
        return capsys.readouterr().err.splitlines()

    return write


def test_a_line_of_ours_is_json_with_its_facts(written):
    (line,) = written(lambda: structlog.get_logger("market.flush").info("flush.done", created=61))
    facts = json.loads(line)
    assert facts.pop("timestamp").endswith("Z")
    assert facts == {
        "event": "flush.done",
        "created": 61,
        "level": "info",
        "logger": "market.flush",
    }


@pytest.mark.parametrize(
    "name", ["django.request", "celery.worker", "uvicorn.error", "some.library"]
)
def test_a_line_of_others_has_the_same_shape_and_comes_once(name, written):
    other = logging.getLogger(name)
    other.handlers = [] if name == "some.library" else [logging.StreamHandler()]
    (line,) = written(lambda: logging.getLogger(name).warning("slow: %s", "GET /"))
    facts = json.loads(line)
    assert (facts["event"], facts["level"], facts["logger"]) == ("slow: GET /", "warning", name)


@pytest.fixture
def ask(client, written):
    """Ask and return the lines logged, as (level, event, has a traceback)."""
    client.raise_request_exception = False

    def lines(path):
        told = [json.loads(line) for line in written(lambda: client.get(path))]
        return [(line["level"], line["event"], "exception" in line) for line in told]

    return lines


def test_a_503_that_is_meant_is_no_error(ask):
    catalog.publish(Catalog(symbols=(SYMBOL,)))

    assert ask("/api/v1/prices/btc-usdt") == []  # has no price
    assert ask("/api/v1/health/live") == []


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/api/v1/prices", "/prices/btc-usdt"])
def test_a_store_that_is_away_is_a_warning(path, ask, settings):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"

    assert ask(path) == [
        ("warning", "ratelimit.unchecked", False),
        ("warning", "api.unavailable", False),
    ]


@pytest.mark.parametrize("path", ["/api/v1/prices", "/"])
def test_a_bug_is_an_error_with_its_traceback(path, ask, monkeypatch):
    def broken():
        raise ValueError("no such minute")

    monkeypatch.setattr("market.query.current_catalog", broken)

    lines = ask(path)

    assert {level for level, _, _ in lines} == {"error"}
    assert ("error", "api.failed", True) in lines


@pytest.mark.parametrize("access_log", [True, False])
def test_the_access_log_is_on_or_off_as_uvicorn_was_told(access_log, written, monkeypatch):
    access = logging.getLogger("uvicorn.access")
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        monkeypatch.setattr(logger, "handlers", logger.handlers)
        monkeypatch.setattr(logger, "propagate", logger.propagate)
        monkeypatch.setattr(logger, "level", logger.level)
    uvicorn.Config("config.asgi:application", access_log=access_log)

    def ask():
        if access.hasHandlers():  # as uvicorn's protocols do
            access.info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", "/health", "1.1", 200)

    assert len(written(ask)) == access_log


def test_an_exception_is_told_in_json(written):
    def fail():
        try:
            raise ValueError("no such minute")
        except ValueError:
            structlog.get_logger("x").exception("flush.failed")

    (line,) = written(fail)
    assert json.loads(line)["exception"][0]["exc_value"] == "no such minute"


def test_text_is_for_people(written):
    (line,) = written(
        lambda: structlog.get_logger("x").warning("flush.late", lag_ms=70_000), log_format="text"
    )
    assert "flush.late" in line
    assert "lag_ms=70000" in line
    assert "{" not in line


def test_the_level_is_that_of_the_setting(written):
    def call():
        structlog.get_logger("x").info("ours")
        logging.getLogger("y").info("theirs")
        logging.getLogger("y").error("kept")

    (line,) = written(call, level="error")
    assert json.loads(line)["event"] == "kept"


def test_structlog_comes_without_rich_which_others_can_still_import():
    script = (
        "import sys; from config import logs; logs.configure();"
        "assert 'rich' not in sys.modules; from rich.console import Console"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_each_task_of_each_second_is_not_worth_a_line(written):
    assert written(lambda: logging.getLogger("celery.app.trace").info("Task succeeded")) == []
