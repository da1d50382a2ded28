import threading
import time

import pytest
from redis.exceptions import RedisError

from oracle import keys, leader, metrics
from oracle.connection import redis_client
from oracle.leader import Leader, leader_only


def until(condition, seconds=5.0):
    """Wait for a condition; fail loudly when it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "condition not met in time"
        time.sleep(0.005)


@pytest.fixture
def candidates():
    made = []

    def make(role="collector", **options):
        made.append(Leader(role, **{"ttl_ms": 2_000, "heartbeat_ms": 20, **options}))
        return made[-1]

    yield make
    for each in made:
        each.resign()


def changes(role):
    return metrics.LEADER_CHANGES.labels(role)._value.get()


def test_one_leads_and_a_standby_takes_over_when_it_resigns(candidates):
    first, second = candidates(), candidates()
    before = changes("collector")
    assert first.campaign()
    assert not second.campaign()
    assert second.token is None
    first_token = first.token
    first.resign()
    assert second.campaign()
    assert second.token > first_token
    assert changes("collector") == before + 2


def test_campaign_again_keeps_the_lease_and_counts_no_change(candidates):
    one = candidates()
    one.campaign()
    before, token = changes("collector"), one.token
    assert one.campaign()
    assert (changes("collector"), one.token) == (before, token)


def test_the_heartbeat_prolongs_the_lease(candidates):
    one = candidates()
    one.campaign()
    redis_client().pexpire(keys.leader("collector"), 500)
    until(lambda: redis_client().pttl(keys.leader("collector")) > 1_000)


def test_a_lease_that_was_lost_is_noticed(candidates):
    one, other = candidates(), candidates()
    one.campaign()
    redis_client().delete(keys.leader("collector"))  # it was paused for longer than the lease
    assert other.campaign()
    until(lambda: one.token is None)
    assert not one.renew()
    assert leader.holder("collector") is not None


def test_resign_of_a_lost_lease_leaves_the_new_holder(candidates):
    one, other = candidates(heartbeat_ms=10_000, ttl_ms=20_000), candidates()
    one.campaign()
    redis_client().delete(keys.leader("collector"))
    other.campaign()
    holder = leader.holder("collector")
    one.resign()
    assert leader.holder("collector") == holder


def test_without_redis_for_longer_than_the_lease_nobody_leads(candidates, monkeypatch):
    one = candidates(ttl_ms=100, heartbeat_ms=20)
    one.campaign()

    def away(*args):
        raise RedisError("away")

    monkeypatch.setattr(leader, "run_script", away)
    until(lambda: one.token is None)
    monkeypatch.undo()


def test_holder_is_none_for_a_free_role():
    assert leader.holder("nobody") is None


def test_leader_only_runs_in_the_leading_process_only(candidates):
    ran = []
    guarded = leader_only("reports")(lambda what: ran.append(what))
    other = candidates("reports")
    other.campaign()
    assert not guarded("a")
    other.resign()
    assert guarded("b")
    assert guarded("c")
    assert ran == ["b", "c"]
    leader.candidate("reports").resign()


def test_campaigns_of_many_threads_make_one_leader(candidates):
    many = [candidates() for _ in range(8)]
    gate, won = threading.Barrier(8), []

    def run(each):
        gate.wait()
        won.append(each.campaign())

    threads = [threading.Thread(target=run, args=(each,)) for each in many]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]
