import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import psycopg
import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection
from psycopg import sql
from rest_framework.authtoken.models import Token

from config import installation
from market.models import Origin, Symbol

ROOT = Path(__file__).parents[2]


def set_up(**options):
    out = StringIO()
    call_command("setup", stdout=out, **options)
    return out.getvalue()


@pytest.fixture
def server():
    """A connection beside Django's, to the server's own database."""
    parameters = connection.get_connection_params()
    with psycopg.connect(**{**parameters, "dbname": "postgres", "autocommit": True}) as other:
        yield other


@pytest.fixture
def new_database(server, django_db_setup):
    name = "oracle_new"
    yield name
    server.execute(sql.SQL("DROP DATABASE IF EXISTS {} (FORCE)").format(sql.Identifier(name)))


@pytest.mark.django_db
def test_setup_seeds_and_creates_an_admin_whose_password_is_shown_once(settings):
    settings.ADMIN_PASSWORD = ""
    first, second = set_up(), set_up()
    password = first.split("admin / ")[1].split()[0]
    assert get_user_model().objects.get(username="admin").check_password(password)
    assert "admin /" not in second
    assert Symbol.objects.filter(enabled=True).exists()
    assert Origin.objects.get().simulated is False


@pytest.mark.django_db
def test_setup_refuses_a_database_of_the_other_world(settings):
    set_up()
    settings.SIMULATED = True
    with pytest.raises(CommandError, match="live prices"):
        set_up()


@pytest.mark.django_db
def test_setup_says_so_when_redis_does_not_answer(settings):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    with pytest.raises(CommandError, match=r"Redis did not answer within 0\.1 s"):
        set_up(wait=0.1)


@pytest.mark.django_db
def test_a_given_password_is_set_and_set_again(settings):
    for password in ("first password", "second password"):
        settings.ADMIN_PASSWORD = password
        assert installation.ensure_admin() is None
        admin = get_user_model().objects.get(username="admin")
        assert admin.is_superuser
        assert admin.check_password(password)


@pytest.mark.django_db
def test_a_password_that_the_admin_chose_is_left_alone(settings):
    settings.ADMIN_PASSWORD = ""
    get_user_model().objects.create_superuser("admin", password="their own")
    assert installation.ensure_admin() is None
    assert get_user_model().objects.get(username="admin").check_password("their own")


@pytest.mark.django_db
def test_production_makes_up_no_password(settings):
    settings.ADMIN_PASSWORD, settings.ENVIRONMENT = "", "production"
    assert installation.ensure_admin() is None
    assert not get_user_model().objects.exists()


@pytest.mark.django_db
def test_a_given_token_takes_the_place_of_the_one_before(settings):
    settings.ADMIN_PASSWORD = "first password"
    for token in ("first-token", "second-token"):
        settings.ADMIN_TOKEN = token
        installation.ensure_admin()
    assert list(Token.objects.values_list("key", "user__username")) == [("second-token", "admin")]


@pytest.mark.django_db
def test_a_missing_database_is_created(new_database, server, monkeypatch):
    wanted = connection.copy()
    wanted.settings_dict["NAME"] = new_database
    monkeypatch.setattr(installation, "connection", wanted)
    assert installation._try_database() is None
    wanted.close()
    found = server.execute("SELECT FROM pg_database WHERE datname = %s", [new_database])
    assert found.rowcount == 1


def test_two_may_set_up_a_new_database_at_once(new_database, settings, home, redis_prefix):
    params = connection.get_connection_params()
    query = "&".join(f"{name}={params[name]}" for name in ("host", "port") if params.get(name))
    environment = {
        **os.environ,
        "DATABASE_URL": f"postgresql://{params.get('user', '')}@/{new_database}?{query}",
        "REDIS_URL": settings.REDIS_URL,
        "REDIS_PREFIX": redis_prefix,
    }
    if params.get("password"):
        environment["PGPASSWORD"] = params["password"]
    command = [sys.executable, "manage.py", "setup", "--wait", "30"]
    both = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=-1, stderr=-2, text=True)
        for _ in range(2)
    ]
    said = [one.communicate(timeout=120)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], "\n".join(said)
    # One of the two made the admin, and it alone shows a password.
    assert sum("admin /" in text for text in said) == 1
