"""``manage.py health``."""

from __future__ import annotations

import io

import pytest
from django.core.management import call_command

from oracle.jsontext import decode
from tests.prices.live.conftest import publish_catalog, put

pytestmark = pytest.mark.django_db


def health(*args):
    out = io.StringIO()
    call_command("health", *args, stdout=out)
    return out.getvalue()


def test_health_degraded_ends_well():
    publish_catalog()
    put()

    lines = health().splitlines()

    assert lines[0].startswith("degraded (live, version ")
    assert any(line.split()[:2] == ["database", "up"] for line in lines)


def test_health_json_is_the_endpoints_answer(client):
    publish_catalog()
    put()

    told, served = decode(health("--json")), decode(client.get("/api/v1/health").content)

    assert told.keys() == served.keys() - {"uptime"}
    assert told["status"] == served["status"]


def test_health_down_exits_with_1():
    with pytest.raises(SystemExit) as ended:
        health()

    assert ended.value.code == 1
