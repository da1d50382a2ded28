"""What needs a TimescaleDB server is marked so; what decides whether to use one runs anywhere."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from market import aggregates, rollups, series, storage, timescale
from market.candles import to_datetime
from market.management.commands.timescale import Command
from market.models import Candle1m
from market.ranges import TimeRange
from market.rollup_levels import LEVELS
from market.storage_report import INTERVALS, report
from market.timescale import Offer, TimescaleError
from oracle.values import RESOLUTIONS
from tests.market.rollup_rows import MINUTE, expected, random_rows, store, stored

pytestmark = pytest.mark.django_db(transaction=True)

DAY = 1_440 * MINUTE
START = 1_735_689_600_000  # 2025-01-01
NOW = START + 40 * DAY
BTC, PEPE = "BTC/USDT", "PEPE/USDT"


@pytest.fixture
def timescaledb():
    """A test database with everything that TimescaleDB has."""
    if not (aggregates.in_use() and timescale.offer().aggregates):
        pytest.skip("the test database is none of TimescaleDB (DATABASE_URL)")
    yield
    for rows in storage.time_tables():
        ask(f"SELECT remove_retention_policy('{rows.table}', if_exists => true)")
        ask(f"SELECT remove_compression_policy('{rows.table}', if_exists => true)")
    for level in LEVELS:
        ask(f"SELECT remove_continuous_aggregate_policy('{level.table}', if_exists => true)")


def ask(statement, *values):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def settle():
    for level in LEVELS:
        ask("CALL refresh_continuous_aggregate(%s, NULL, NULL)", level.table)


def change(rows, *, symbol, start_ms, minutes):
    store(rows)
    rollups.note_touched(
        [(symbol, TimeRange(start_ms=start_ms, end_ms=start_ms + minutes * MINUTE))]
    )
    rollups.refresh_due(now_ms=NOW)


def jobs(table):
    return {
        policy.pop("policy"): {
            key: text for key, text in policy.items() if key == "every" or key in INTERVALS
        }
        for policy in (report(storage.time_tables())["tables"] | report(())["aggregates"])[table][
            "policies"
        ]
    }


@pytest.mark.parametrize(
    ("offer", "lacks"),
    [
        (
            Offer(available=None, installed=None, loaded=False, edition=None),
            "the server does not have the extension timescaledb",
        ),
        (
            Offer(available="2.19.3", installed=None, loaded=False, edition=None),
            "timescaledb is not among the server's shared_preload_libraries",
        ),
        (
            Offer(available="2.9.1", installed=None, loaded=True, edition=None),
            "TimescaleDB 2.9.1 is too old: 2.13 or newer is needed",
        ),
        (Offer(available="2.19.3", installed="2.19.3-dev", loaded=True, edition="apache"), None),
    ],
)
def test_what_a_server_lacks_is_said(offer, lacks):
    assert offer.lacks == lacks
    assert not offer.aggregates


def test_the_apache_edition_has_no_aggregates_and_the_other_has():
    whole = Offer(available="2.19.3", installed="2.19.3", loaded=True, edition="timescale")
    assert whole.aggregates
    assert not replace(whole, edition="apache").aggregates


def test_off_uses_nothing_whatever_there_is(settings, monkeypatch):
    settings.TIMESCALEDB = "off"
    monkeypatch.setattr(timescale, "offer", None)
    assert timescale.prepare() is None


@pytest.mark.parametrize(
    "lacking", [Offer(available=None, installed=None, loaded=False, edition=None)]
)
def test_on_refuses_a_server_without_it_and_auto_does_without(settings, monkeypatch, lacking):
    monkeypatch.setattr(timescale, "offer", lambda: lacking)
    settings.TIMESCALEDB = "auto"
    assert timescale.prepare() is None
    settings.TIMESCALEDB = "on"
    with pytest.raises(TimescaleError, match="TIMESCALEDB=on, but the server does not have"):
        timescale.prepare()


def test_on_refuses_a_database_that_was_made_without_it(settings, monkeypatch):
    monkeypatch.setattr(timescale, "is_hypertable", lambda table: False)
    monkeypatch.setattr(timescale, "prepare", lambda: None)
    settings.TIMESCALEDB = "on"
    with pytest.raises(TimescaleError, match=r"manage\.py timescale --convert"):
        timescale.apply(storage.time_tables())


def test_off_refuses_a_database_that_was_made_with_it(settings, monkeypatch):
    monkeypatch.setattr(timescale, "is_hypertable", lambda table: True)
    settings.TIMESCALEDB = "off"
    with pytest.raises(TimescaleError, match="ohlcv_1m is a hypertable"):
        timescale.apply(storage.time_tables())


def test_the_apache_edition_gets_hypertables_and_rollups_in_tables(monkeypatch):
    made: list[str] = []
    apache = Offer(available="2.19.3", installed="2.19.3", loaded=True, edition="apache")
    monkeypatch.setattr(timescale, "prepare", lambda: apache)
    monkeypatch.setattr(timescale, "make_hypertable", made.append)
    monkeypatch.setattr(aggregates, "create", None)
    storage.convert()
    assert made == ["ohlcv_1m", "ohlcv_exchange", "price_history"]


def test_plain_postgresql_is_said_to_be_that(capsys):
    if timescale.offer().lacks is None:
        pytest.skip("the test database is one of TimescaleDB")
    timescale.apply(storage.time_tables())
    assert not aggregates.in_use()
    Command().run_from_argv(["manage.py", "timescale"])
    said = capsys.readouterr().out
    assert "no TimescaleDB: the server does not have the extension timescaledb" in said
    assert "tables, refreshed for what was touched" in said
    found = report(storage.time_tables())
    assert (found["offer"]["installed"], found["tables"]["ohlcv_1m"]["kind"]) == (None, "table")


@pytest.mark.timescale
def test_history_is_in_hypertables_with_their_primary_keys(timescaledb):
    for table in ("ohlcv_1m", "ohlcv_exchange", "price_history"):
        assert timescale.is_hypertable(table)
    assert ask(
        "SELECT conname FROM pg_constraint WHERE contype = 'p' AND conrelid = ANY("
        "ARRAY['ohlcv_1m', 'ohlcv_exchange', 'price_history']::regclass[]) ORDER BY 1"
    ) == [("ohlcv_1m_pkey",), ("ohlcv_exchange_pkey",), ("price_history_pkey",)]


@pytest.mark.timescale
def test_aggregates_answer_live_what_is_above_their_watermark(timescaledb):
    rows = random_rows(1, symbols=(BTC, PEPE), start_ms=START, minutes=700)
    store(rows)
    assert stored() == expected(rows)


@pytest.mark.timescale
def test_policies_follow_the_settings(timescaledb, settings):
    timescale.apply(storage.time_tables())
    assert jobs("ohlcv_1m") == {
        "compression": {"every": "12:00:00", "compress_after": "7 days"},
        "retention": {"every": "1 day", "drop_after": "730 days"},
    }
    assert set(jobs("ohlcv_exchange")) == {"compression"}
    assert jobs("ohlcv_5m") == {
        "refresh_continuous_aggregate": {
            "every": "00:15:00",
            "start_offset": "729 days",
            "end_offset": "01:00:00",
        }
    }
    settings.RETENTION_DAYS, settings.COMPRESS_AFTER_DAYS, settings.CHUNK_DAYS = 0, 3, 2
    settings.EXCHANGE_RETENTION_DAYS = 9
    timescale.apply(storage.time_tables())
    assert set(jobs("ohlcv_1m")) == {"compression"}
    assert jobs("ohlcv_1m")["compression"]["compress_after"] == "3 days"
    assert jobs("ohlcv_exchange")["retention"]["drop_after"] == "9 days"
    assert jobs("ohlcv_5m")["refresh_continuous_aggregate"].get("start_offset") is None
    assert ask(
        "SELECT time_interval FROM timescaledb_information.dimensions "
        "WHERE hypertable_name = 'ohlcv_1m'"
    ) == [(timedelta(days=2),)]
    settings.COMPRESS_AFTER_DAYS = 0
    timescale.apply(storage.time_tables())
    assert jobs("ohlcv_1m") == {}


@pytest.mark.timescale
def test_policies_that_are_as_wanted_are_left_alone(timescaledb):
    def ids():
        return ask(
            "SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_name IS NOT NULL "
            "ORDER BY job_id"
        )

    timescale.apply(storage.time_tables())
    before = ids()
    timescale.apply(storage.time_tables())
    assert ids() == before
    assert len(before) == 10


@pytest.mark.timescale
def test_a_backfill_into_a_compressed_chunk_is_stored_and_rolled_up(timescaledb):
    timescale.apply(storage.time_tables())
    rows = random_rows(2, symbols=(BTC, PEPE), start_ms=START, minutes=900)
    store(rows)
    settle()
    ask("SELECT compress_chunk(each) FROM show_chunks('ohlcv_1m') AS each")
    assert report(storage.time_tables())["tables"]["ohlcv_1m"]["compressed_chunks"] == 1
    later = random_rows(3, symbols=(BTC,), start_ms=START, minutes=900)
    change(later, symbol=BTC, start_ms=START, minutes=900)
    assert Candle1m.objects.count() == len(rows | later)
    assert stored() == expected(rows | later)


@pytest.mark.timescale
def test_a_refresh_of_what_was_dropped_leaves_its_rollups(timescaledb, settings):
    """The region is marked as changed when its chunks are dropped: refreshed, it would be empty."""
    rows = random_rows(4, symbols=(BTC,), start_ms=START, minutes=2_000)
    kept = random_rows(5, symbols=(BTC,), start_ms=START + 30 * DAY, minutes=600)
    store(rows | kept)
    settle()
    before = stored()
    ask("SELECT drop_chunks('ohlcv_1m', older_than => %s)", to_datetime(START + 20 * DAY))
    assert Candle1m.objects.count() == len(kept)
    settings.RETENTION_DAYS = 20
    changed = random_rows(6, symbols=(BTC,), start_ms=START + 30 * DAY, minutes=600)
    store(changed)
    rollups.note_touched([(None, TimeRange(start_ms=START, end_ms=START + 31 * DAY))])
    assert rollups.refresh_due(now_ms=NOW) == 1
    after = stored()
    old = {key: row for key, row in before["1h"].items() if key[1] < START + 10 * DAY}
    assert {key: after["1h"][key] for key in old} == old
    new = expected(kept | changed)["1h"]
    assert {key: after["1h"][key] for key in new} == new


@pytest.mark.timescale
def test_the_apache_edition_has_its_chunks_dropped_by_our_task(timescaledb, monkeypatch):
    rows = storage.time_tables()[0]
    store(random_rows(4, symbols=(BTC,), start_ms=START, minutes=100))
    assert timescale.prune(rows, now_ms=START + 800 * DAY) == 0  # there a policy does
    apache = Offer(available="2.19.3", installed="2.19.3", loaded=True, edition="apache")
    monkeypatch.setattr(timescale, "offer", lambda: apache)
    assert timescale.prune(rows, now_ms=START + 729 * DAY) == 0
    assert timescale.prune(rows, now_ms=START + 800 * DAY) == 1
    assert not Candle1m.objects.exists()


@pytest.mark.timescale
def test_a_policy_does_not_refresh_what_was_dropped(timescaledb):
    """On the server's own clock: its policies know no other."""
    today = int(datetime.now(tz=UTC).timestamp() * 1_000) // DAY * DAY
    old, new = today - 760 * DAY, today - 5 * DAY
    rows = random_rows(7, symbols=(BTC,), start_ms=old, minutes=300)
    store(rows | random_rows(8, symbols=(BTC,), start_ms=new, minutes=300))
    settle()
    before = stored()
    timescale.apply(storage.time_tables())
    for kind in ("retention", "refresh_continuous_aggregate"):
        for (job,) in ask(
            "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = %s ORDER BY job_id",
            f"policy_{kind}",
        ):
            ask("CALL run_job(%s)", job)
    assert not Candle1m.objects.filter(time__lt=to_datetime(old + 10 * DAY)).exists()
    assert stored() == before


@pytest.mark.timescale
def test_the_command_shows_chunks_and_policies(timescaledb, capsys):
    timescale.apply(storage.time_tables())
    store(random_rows(9, symbols=(BTC,), start_ms=START, minutes=100))
    ask("SELECT compress_chunk(each) FROM show_chunks('ohlcv_1m') AS each")
    Command().run_from_argv(["manage.py", "timescale"])
    said = capsys.readouterr().out
    assert "timescale edition" in said
    assert "1 chunks, 1 compressed" in said
    assert "retention: every 1 day, " in said
    Command().run_from_argv(["manage.py", "timescale", "--json"])
    assert '"continuous aggregate"' in capsys.readouterr().out


@pytest.fixture
def begun_without(timescaledb):
    """A schema of its own beside the converted one, with a history begun without TimescaleDB."""
    ask("CREATE SCHEMA begun")
    ask("SET search_path TO begun, public")
    for rows in storage.time_tables():
        ask(f"CREATE TABLE {rows.table} (LIKE public.{rows.table} INCLUDING ALL)")
    for level in LEVELS:
        ask(f"CREATE TABLE {level.table} ({storage.COLUMNS})")
    yield
    ask("RESET search_path")
    ask("DROP SCHEMA begun CASCADE")


def pages():
    """What readers are told, at every resolution."""
    return {
        resolution: series.read_rows(
            BTC, resolution=resolution, from_ms=START, to_ms=NOW, limit=100_000, now_ms=NOW
        ).rows
        for resolution in RESOLUTIONS
    }


@pytest.mark.timescale
def test_a_history_begun_without_it_is_moved_over_unchanged(begun_without, settings):
    settings.RETENTION_DAYS = 0  # or the server would remove these, by its own clock
    rows = random_rows(5, symbols=(BTC, PEPE), start_ms=START + 100 * MINUTE, minutes=2_500)
    change(rows, symbol=None, start_ms=START, minutes=3 * 1_440)
    late = random_rows(6, symbols=(BTC,), start_ms=START + DAY, minutes=30)
    store(late)  # a note that waits is moved too
    rollups.note_touched([(BTC, TimeRange(start_ms=START + DAY, end_ms=START + DAY + 30 * MINUTE))])
    assert not aggregates.in_use()
    before = pages()

    call_command("timescale", convert=True)

    assert aggregates.in_use() and timescale.is_hypertable("ohlcv_1m")
    assert pages() == before
    rollups.refresh_due(now_ms=NOW)
    settle()
    assert pages() == before
    assert stored() == expected(rows | late)
    call_command("timescale", convert=True)
    assert pages() == before


def test_convert_where_nothing_can_be_converted_says_so(settings):
    settings.TIMESCALEDB = "off"
    with pytest.raises(CommandError, match=r"Nothing was converted: TIMESCALEDB=off"):
        call_command("timescale", convert=True)


def test_convert_without_the_extension_says_so():
    lacks = timescale.offer().lacks
    if lacks is None:
        pytest.skip("this server has TimescaleDB")
    with pytest.raises(CommandError, match=lacks):
        call_command("timescale", convert=True)


def test_the_command_says_in_a_line_that_the_database_is_away():
    def away(*_):
        raise OperationalError("server closed the connection\nunexpectedly")

    with connection.execute_wrapper(away), pytest.raises(CommandError) as caught:
        call_command("timescale")
    assert str(caught.value) == "The database: server closed the connection"
