"""The market's Celery tasks: thin doors."""

from __future__ import annotations

import time

import structlog
from celery import shared_task
from django.conf import settings
from django.db import DatabaseError, InterfaceError

from market import catalog, coverage, flush, policies, retention, rollups, storage, timescale
from market.candles import FencedOutError
from oracle import locks, metrics
from oracle.leader import leader_only

FLUSH_EVERY_MS = 60_000
MAX_RUN_MS = 300_000
PRUNE_RUN_MS = 3_600_000
# Together less than the broker's visibility timeout: no policy is begun after the first.
POLICIES_SECONDS, POLICY_SECONDS = 900, 1_800
# What is left is the next task's: neither may keep the next flush from its minute.
FLUSH_ROLL_UP_SECONDS = 10
ROLL_UP_SECONDS = 40

log = structlog.get_logger(__name__)


@shared_task(name="market.flush_candles", ignore_result=True)
@locks.exclusive("flush_candles", ttl_ms=MAX_RUN_MS)
def flush_candles() -> None:
    """Write the candles of past minutes to the database; once a minute for all workers."""
    now_ms = time.time_ns() // 1_000_000
    lock = locks.claim_tick("flush_candles", now_ms=now_ms, every_ms=FLUSH_EVERY_MS)
    if lock is None:
        return
    try:
        with metrics.FLUSH_DURATION.time():
            done = flush.flush_candles(now_ms=now_ms, token=lock.token)
    except (DatabaseError, InterfaceError, FencedOutError) as error:
        metrics.FLUSH_ERRORS.inc()
        log.error("flush.failed", error=str(error), lag_ms=flush.lag_ms(now_ms=now_ms))
        return
    log.info("flush.done", created=done.created, revised=done.revised, waiting=done.waiting)
    _roll_up(now_ms=now_ms, seconds=FLUSH_ROLL_UP_SECONDS)


@shared_task(name="market.refresh_rollups", ignore_result=True)
@locks.exclusive("refresh_rollups", ttl_ms=MAX_RUN_MS)
def refresh_rollups() -> None:
    """Roll up what a writer left behind that died, or that left too much to be done at once."""
    _roll_up(now_ms=time.time_ns() // 1_000_000, seconds=ROLL_UP_SECONDS)


@shared_task(name="market.prune_history", ignore_result=True)
@locks.exclusive("prune_history", ttl_ms=PRUNE_RUN_MS)
def prune_history() -> None:
    """Remove what is past its time, where TimescaleDB has no policy that does."""
    now_ms = time.time_ns() // 1_000_000
    for index, keep_days in (
        (True, settings.RETENTION_DAYS),
        (False, settings.EXCHANGE_RETENTION_DAYS),
    ):
        kept_ms = retention.boundary_ms(keep_days=keep_days, now_ms=now_ms)
        coverage.forget_before(index=index, before_ms=kept_ms)
    for rows in storage.time_tables():
        removed = timescale.prune(rows, now_ms=now_ms)
        log.info("history.pruned", table=rows.table, removed=removed)


@shared_task(name="market.run_policies", ignore_result=True)
@locks.exclusive("run_policies", ttl_ms=PRUNE_RUN_MS)
def run_policies() -> None:
    """Run the policies of TimescaleDB that its own scheduler does not, and say so."""
    started = time.monotonic()
    for policy in policies.overdue():
        metrics.POLICY_ERRORS.labels(policy.kind).inc()
        facts = {"policy": policy.kind, "table": policy.table}
        log.warning("policy.failed", **facts, error=policy.error)
        if time.monotonic() - started > POLICIES_SECONDS:
            continue  # the next task's
        try:
            policies.run(policy, seconds=POLICY_SECONDS)
        except (DatabaseError, InterfaceError) as error:
            log.error("policy.not_run", **facts, error=str(error))
            continue
        log.info("policy.run", **facts)


@shared_task(name="market.publish_catalog", ignore_result=True)
@locks.exclusive("publish_catalog", ttl_ms=MAX_RUN_MS)
@leader_only("catalog")
def publish_catalog() -> None:
    """Bring the catalogue in Redis up to the database; the one in force stays when that is away."""
    try:
        changed = catalog.publish()
    except (DatabaseError, InterfaceError) as error:
        log.warning("catalog.kept", error=str(error))  # the one in Redis stays in force
        return
    if changed:
        log.info("catalog.published")


def _roll_up(*, now_ms: int, seconds: float) -> None:
    try:
        rollups.refresh_due(now_ms=now_ms, seconds=seconds)
    except (DatabaseError, InterfaceError) as error:
        metrics.ROLLUP_ERRORS.inc()
        log.error("rollups.failed", error=str(error))  # what is due stays noted
