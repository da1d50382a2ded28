"""``manage.py health``."""

from __future__ import annotations

import io
import time

import pytest
from django.core.management import CommandError, call_command

from config.management.commands.health import MAX_SILENCE_MS
from oracle import heartbeat
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


# --- one role, as the health checks of docker-compose.yml ask ---


def beat(role, *, age_ms):
    heartbeat.beat(role, now_ms=time.time_ns() // 1_000_000 - age_ms)


@pytest.mark.parametrize("role", MAX_SILENCE_MS)
def test_health_role_that_did_its_work_lately_ends_well(role):
    beat("collect:okx" if role == "collect" else role, age_ms=MAX_SILENCE_MS[role] - 2_000)

    assert health("--role", role).startswith(f"{role} did its work ")


@pytest.mark.parametrize("role", MAX_SILENCE_MS)
def test_health_role_that_was_silent_for_too_long_exits_with_1(role):
    beat("collect:okx" if role == "collect" else role, age_ms=MAX_SILENCE_MS[role] + 1)

    with pytest.raises(CommandError, match=rf"{role} last did its work \d+ ms ago") as raised:
        health("--role", role)

    assert raised.value.returncode == 1


def test_health_role_that_has_done_nothing_yet_exits_with_1():
    with pytest.raises(CommandError, match="aggregate has not done its work yet") as raised:
        health("--role", "aggregate")

    assert raised.value.returncode == 1


def test_health_role_is_not_known_without_redis(settings):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"

    with pytest.raises(CommandError, match="not known of collect: Redis is away") as raised:
        health("--role", "collect")

    assert raised.value.returncode == 1
