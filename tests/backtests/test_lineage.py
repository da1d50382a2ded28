"""What a run says of its candles when they cannot be read again."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import InterfaceError, OperationalError, connection
from structlog.testing import capture_logs

from backtests import lineage
from backtests.models import Job
from market import revisions
from tests.backtests.series import HOUR_MS, START_MS

pytestmark = pytest.mark.django_db

DATA = {
    "exchange": "okx",
    "symbol": "BTC/USDT",
    "timeframe": "1h",
    "start_ms": START_MS,
    "end_ms": START_MS + HOUR_MS,
    "revision": "0" * 16,
    "row_count": 1,
    "checksum": "0" * 64,
}


def drift() -> Any:
    found = lineage.of(Job(type="tune", result={"data": DATA}), now_ms=START_MS + 2 * HOUR_MS)
    assert found is not None
    return found["drift"]


def test_drift_that_takes_too_long_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(revisions, "_query", lambda *_: ("SELECT pg_sleep(5)", []))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '10ms'")
    with capture_logs() as logs:
        found = drift()
    connection.needs_rollback = True
    assert found == {
        "changed": None,
        "message": "unknown: reading the candles again took too long",
    }
    assert logs == []


@pytest.mark.parametrize("kind", [OperationalError, InterfaceError])
def test_drift_of_a_database_that_fails_is_logged(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
):
    def away(*_: Any, **__: Any) -> None:
        raise kind("the disk is full")

    monkeypatch.setattr(revisions, "compute", away)
    with capture_logs() as logs:
        found = drift()
    assert found == {"changed": None, "message": "unknown: the candles could not be read again"}
    assert [(each["event"], each["error"]) for each in logs] == [
        ("run.drift_unknown", "the disk is full")
    ]
