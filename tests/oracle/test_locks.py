import threading

import pytest

from oracle import keys, locks
from oracle.connection import redis_client, run_script


def test_acquire_is_for_one():
    held = locks.acquire("job", ttl_ms=10_000)
    assert held is not None
    assert locks.acquire("job", ttl_ms=10_000) is None
    assert locks.release(held)
    assert locks.acquire("job", ttl_ms=10_000) is not None


def test_a_lock_ends_by_itself():
    locks.acquire("job", ttl_ms=10_000)
    assert 0 < redis_client().pttl(keys.lock("job")) <= 10_000


def test_release_of_a_lock_that_is_no_longer_ours_leaves_the_new_one():
    first = locks.acquire("job", ttl_ms=10_000)
    redis_client().delete(keys.lock("job"))  # it expired
    second = locks.acquire("job", ttl_ms=10_000)
    assert first is not None and second is not None
    assert not locks.release(first)
    assert locks.acquire("job", ttl_ms=10_000) is None


def test_hold_releases_also_after_an_error():
    with pytest.raises(RuntimeError), locks.hold("job", ttl_ms=10_000) as lock:
        assert lock is not None
        with locks.hold("job", ttl_ms=10_000) as second:
            assert second is None
        raise RuntimeError
    assert locks.acquire("job", ttl_ms=10_000) is not None


def test_tokens_rise_with_each_acquisition():
    tokens = []
    for _ in range(20):
        lock = locks.acquire("job", ttl_ms=10_000)
        assert lock is not None
        tokens.append(lock.token)
        locks.release(lock)
    assert tokens == sorted(set(tokens))
    assert {len(token) for token in tokens} == {16}


def test_tokens_rise_even_when_redis_lost_its_data():
    before = locks.acquire("job", ttl_ms=10_000)
    redis_client().delete(keys.lock("job"), keys.tokens("job"))
    after = locks.acquire("job", ttl_ms=10_000)
    assert before is not None and after is not None
    assert after.token > before.token


def test_tokens_rise_when_the_clock_was_set_back():
    ahead = "9" * 15 + "0"
    redis_client().set(keys.tokens("job"), ahead)
    lock = locks.acquire("job", ttl_ms=10_000)
    assert lock is not None
    assert lock.token == "9" * 15 + "1"


def test_one_tick_is_done_once_and_the_next_again():
    now_ms = 1_800_000_000_250
    first = locks.claim_tick("index", now_ms=now_ms, every_ms=1_000)
    assert first is not None
    assert locks.claim_tick("index", now_ms=now_ms + 700, every_ms=1_000) is None
    second = locks.claim_tick("index", now_ms=now_ms + 800, every_ms=1_000)
    assert second is not None
    assert second.token > first.token


def test_of_many_threads_one_gets_the_tick():
    gate, got = threading.Barrier(8), []

    def claim():
        gate.wait()
        got.append(locks.claim_tick("index", now_ms=1_800_000_000_000, every_ms=1_000))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([lock for lock in got if lock is not None]) == 1


def test_a_paused_writer_is_refused_by_the_fence():
    """Renewing after the lock was lost must fail too: the lease is somebody else's."""
    old = locks.acquire("job", ttl_ms=10_000)
    assert old is not None
    redis_client().delete(keys.lock("job"))
    new = locks.acquire("job", ttl_ms=10_000)
    assert new is not None
    assert not run_script("lock_renew", [keys.lock("job")], [old.owner, 1_000])
    assert run_script("lock_renew", [keys.lock("job")], [new.owner, 1_000])


def test_acquire_sent_twice_by_one_owner_is_its_own():
    """The connection broke before the first answer came: the retry must not be refused."""
    first = locks.acquire("job", ttl_ms=10_000, owner="me")
    again = locks.acquire("job", ttl_ms=10_000, owner="me")
    assert first is not None and again is not None
    assert again.token > first.token
    assert locks.acquire("job", ttl_ms=10_000, owner="you") is None


def test_exclusive_skips_while_another_call_runs():
    ran = []

    @locks.exclusive("flush", ttl_ms=10_000)
    def flush(depth):
        ran.append(depth)
        if depth:
            flush(depth - 1)

    flush(1)
    flush(0)
    assert ran == [1, 0]
