from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from kombu import Connection
from kombu.transport.redis import Channel
from redis.connection import parse_url

from config import embedded
from config.embedded import EmbeddedError
from config.settings.environment import broker_url, check_redis, database


def test_the_sockets_of_a_plain_short_home_lie_in_it():
    assert embedded.socket_folder(Path("/srv/oracle")) == Path("/srv/oracle/run")


@pytest.mark.parametrize("name", ["x" * 80, "with a space", "per%20cent", "a,b", "a#b", "ü"])
def test_the_sockets_of_any_other_home_lie_in_a_short_plain_folder(name, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/tmp")
    folder = embedded.socket_folder(Path("/srv") / name)
    assert folder.parent == Path("/tmp")
    assert folder != embedded.socket_folder(Path("/srv") / f"{name}2")
    assert len(str(folder / ".s.PGSQL.5432.lock")) < 104


def test_settings_and_celery_find_the_same_sockets():
    home = Path("/srv/oracle")
    config = database(embedded.database_url(home))
    assert (config["HOST"], config["NAME"], config["USER"]) == (
        "/srv/oracle/run",
        "oracle",
        "postgres",
    )
    assert check_redis(embedded.redis_url(home)) == "unix:///srv/oracle/run/redis.sock?db=0"
    assert (
        broker_url(embedded.redis_url(home))
        == "redis+socket:///srv/oracle/run/redis.sock?virtual_host=0"
    )


@pytest.mark.parametrize(
    ("url", "user", "password", "db"),
    [
        ("unix:///srv/redis.sock", None, None, 0),
        ("unix:///srv/redis.sock?db=3", None, None, 3),
        ("unix://:p%40w%2F@/srv/redis.sock?db=3", None, "p@w/", 3),
        ("unix://oracle:secret@/srv/redis.sock", "oracle", "secret", 0),
    ],
)
def test_celery_reads_a_socket_as_redis_py_does(url, user, password, db):
    expected = {"path": "/srv/redis.sock", "username": user, "password": password, "db": db}
    ours = {"username": None, "password": None, "db": 0} | parse_url(check_redis(url))
    assert {name: ours[name] for name in expected} == expected
    channel: Any = Channel.__new__(Channel)  # its __init__ would connect
    channel.connection = SimpleNamespace(client=Connection(broker_url(url)), default_port=6379)
    theirs = channel._connparams()
    assert {name: theirs[name] for name in expected} == expected


@pytest.mark.parametrize("query", ["db=1&socket_timeout=3", "timeout=3", "db=", "db=x", "db=1&"])
def test_a_socket_of_redis_with_options_of_its_own_is_refused(query):
    with pytest.raises(ImproperlyConfigured, match=r"REDIS_URL: .*\?db=NUMBER"):
        check_redis(f"unix://:secret@/srv/redis.sock?{query}")


@pytest.mark.parametrize("url", ["mysql://localhost/oracle", "sqlite:///db.sqlite3"])
def test_a_database_that_is_no_postgresql_is_refused(url):
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL must start with postgresql://"):
        database(url)


def test_the_socket_folder_is_for_its_owner_alone(tmp_path):
    folder = embedded.make_socket_folder(tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_socket_folder_that_leads_elsewhere_is_refused(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    trap = tmp_path / "trap"
    trap.symlink_to(elsewhere)
    monkeypatch.setattr(embedded, "socket_folder", lambda home: trap)
    with pytest.raises(EmbeddedError, match="is a link"):
        embedded.make_socket_folder(tmp_path)


def test_a_socket_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    embedded.make_socket_folder(tmp_path)
    monkeypatch.setattr("os.geteuid", lambda: 4_242)
    with pytest.raises(EmbeddedError, match=r"/run belongs to user \d+: run as that user"):
        embedded.make_socket_folder(tmp_path)


def test_data_of_another_postgresql_are_not_touched(tmp_path):
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("15\n")
    with pytest.raises(EmbeddedError, match="was made by PostgreSQL 15"):
        embedded.make_database_folder(tmp_path)


def test_a_folder_that_holds_no_database_is_not_touched(tmp_path):
    (tmp_path / "postgres").mkdir()
    with pytest.raises(EmbeddedError, match="no PostgreSQL data folder"):
        embedded.make_database_folder(tmp_path)


def test_what_an_interrupted_creation_left_is_made_anew(tmp_path):
    (tmp_path / "postgres.new").mkdir()
    (tmp_path / "postgres.new" / "half").touch()
    data = embedded.make_database_folder(tmp_path)
    assert (data / "PG_VERSION").read_text().strip() == str(embedded.POSTGRES_MAJOR)
    assert not (data / "half").exists()
    assert not (tmp_path / "postgres.new").exists()


def test_without_the_packages_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("os.geteuid", lambda: 1_000)
    with pytest.raises(EmbeddedError, match=r"requirements/embedded\.txt, or set DATABASE_URL"):
        embedded.postgres_command(tmp_path)
    with pytest.raises(EmbeddedError, match=r"requirements/embedded\.txt, or set REDIS_URL"):
        embedded.redis_command(tmp_path)


@pytest.mark.parametrize(
    ("version", "is_used"),
    [("v=7.4.1", True), ("v=6.2.0", True), ("v=6.0.16", False), ("?", False)],
)
def test_an_installed_redis_is_used_when_it_is_new_enough(version, is_used, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: "/opt/redis-server")
    said = SimpleNamespace(stdout=f"Redis server {version} sha=0")
    monkeypatch.setattr("subprocess.run", lambda *args, **options: said)
    assert (embedded.redis_command(tmp_path)[0] == "/opt/redis-server") is is_used


def test_root_steps_down_to_the_owner_of_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    (tmp_path / "postgres").mkdir()
    owner = (tmp_path / "postgres").stat().st_uid
    assert embedded.postgres_command(tmp_path)[:2] == ["/usr/bin/setpriv", f"--reuid={owner}"]


def test_root_without_setpriv_is_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(EmbeddedError, match="run as another user, or set DATABASE_URL"):
        embedded.postgres_command(tmp_path)


def test_anybody_else_runs_postgresql_as_themselves(tmp_path, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1_000)
    assert embedded.postgres_command(tmp_path)[0].endswith("/bin/postgres")
