"""What the server's scheduler does not do, whatever the reason, is done by our task."""

import time

import pytest
from django.db import DatabaseError, connection

from market import aggregates, policies, storage, tasks, timescale
from market.rollup_levels import LEVELS
from market.storage_report import report
from oracle import metrics
from tests.market.rollup_rows import MINUTE, expected, random_rows, store, stored

pytestmark = pytest.mark.django_db(transaction=True)

DAY = 1_440 * MINUTE
BTC = "BTC/USDT"
WHOLE = {
    *(("refresh", level.table) for level in LEVELS),
    *(("compression", table) for table in ("ohlcv_1m", "ohlcv_exchange", "price_history")),
    *(("retention", table) for table in ("ohlcv_1m", "price_history")),
}


def ask(statement, *values):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def unscheduled():
    """A TimescaleDB whose scheduler runs nothing; with the policies of the settings."""
    if not (aggregates.in_use() and timescale.offer().aggregates):
        pytest.skip("the test database is none of TimescaleDB (DATABASE_URL)")
    ask("SELECT _timescaledb_functions.stop_background_workers()")
    timescale.apply(storage.time_tables())
    yield
    for kind, table in WHOLE:
        name = "continuous_aggregate" if kind == "refresh" else kind
        ask(f"SELECT remove_{name}_policy('{table}', if_exists => true)")
    ask("SELECT _timescaledb_functions.start_background_workers()")


def counted(kind):
    return metrics.POLICY_ERRORS.labels(kind)._value.get()


def old_minutes(*, days):
    today = time.time_ns() // 1_000_000 // DAY * DAY
    rows = random_rows(1, symbols=(BTC,), start_ms=today - days * DAY, minutes=300)
    store(rows)
    return rows


def test_no_policy_is_overdue_where_there_is_none():
    if timescale.offer().aggregates:
        pytest.skip("the test database is one of TimescaleDB")
    assert policies.overdue() == []
    tasks.run_policies()


@pytest.mark.timescale
def test_what_was_never_run_is_overdue_refreshes_first(unscheduled):
    found = policies.overdue()
    assert {(each.kind, each.table) for each in found} == {
        ("continuous_aggregate" if kind == "refresh" else kind, table) for kind, table in WHOLE
    }
    assert [each.table for each in found[:5]] == [level.table for level in LEVELS]
    assert {each.error for each in found} == {"not run when it was due"}


@pytest.mark.timescale
def test_a_policy_that_went_well_is_not_overdue_and_one_that_failed_is(unscheduled):
    for policy in policies.overdue():
        ask(
            "SELECT alter_job(%s, next_start => now() + interval '%s minutes')",
            policy.job_id,
            -20 if policy.table == "ohlcv_15m" else 20,
        )
    late = [policy.table for policy in policies.overdue()]
    ask(
        "UPDATE _timescaledb_internal.bgw_job_stat SET last_finish = now(), "
        "last_run_success = job_id NOT IN (SELECT job_id FROM timescaledb_information.jobs "
        "WHERE hypertable_name = 'ohlcv_1m')"
    )
    failed = {(policy.kind, policy.table, policy.error) for policy in policies.overdue()}
    assert late == ["ohlcv_15m"]
    assert failed == {
        ("continuous_aggregate", "ohlcv_15m", "not run when it was due"),
        ("compression", "ohlcv_1m", "no reason given"),
        ("retention", "ohlcv_1m", "no reason given"),
    }


@pytest.mark.timescale
def test_the_task_compresses_removes_refreshes_and_counts_it(unscheduled):
    old_minutes(days=800)
    kept = old_minutes(days=20)
    before = counted("compression")
    tasks.run_policies()
    assert counted("compression") == before + 3
    assert report(storage.time_tables())["tables"]["ohlcv_1m"]["compressed_chunks"] == 1
    assert ask("SELECT count(*) FROM ohlcv_1m") == [(len(kept),)]
    assert {until_ms > 0 for _, _, until_ms in aggregates.stored()} == {True}
    assert {key: row for key, row in stored()["1h"].items() if key in expected(kept)["1h"]} == (
        expected(kept)["1h"]
    )


@pytest.mark.timescale
def test_a_policy_that_fails_here_too_keeps_no_other_from_its_run(unscheduled, monkeypatch):
    ran, run = [], policies.run

    def fail_some(policy, *, seconds):
        if policy.kind == "compression":
            raise DatabaseError("no room left")
        ran.append(policy.kind)
        run(policy, seconds=seconds)

    monkeypatch.setattr(policies, "run", fail_some)
    tasks.run_policies()
    assert ran == ["continuous_aggregate"] * 5 + ["retention"] * 2


@pytest.mark.timescale
def test_a_policy_has_longer_than_a_workers_statements(unscheduled):
    old_minutes(days=20)
    [compression] = [
        policy
        for policy in policies.overdue()
        if (policy.kind, policy.table) == ("compression", "ohlcv_1m")
    ]
    ask("SET statement_timeout = '1ms'")
    try:
        policies.run(compression, seconds=60)
        assert ask("SHOW statement_timeout") == [("1ms",)]
    finally:
        ask("RESET statement_timeout")
