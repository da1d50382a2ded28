"""The limiter of the event loop counts as the other one does."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from oracle import keys, ratelimit
from oracle.connection import redis_client, run_script
from prices.live import limiter as limiters
from prices.live.feed import connect
from prices.live.limiter import Limiter


def run(scenario):
    """Run ``scenario(limiter)`` with a limiter of an event loop of its own."""

    async def within():
        client = connect()
        try:
            return await scenario(Limiter(client))
        finally:
            await client.aclose()

    return asyncio.run(within())


async def take_many(limiter, count, *, address="a", limit=100):
    return await asyncio.gather(*(limiter.take(address, "s", limit) for _ in range(count)))


def test_requests_at_once_are_granted_up_to_the_limit():
    verdicts = run(lambda limiter: take_many(limiter, 101))

    assert [each.allowed for each in verdicts] == [True] * 100 + [False]
    assert 59_000 < verdicts[100].retry_after_ms <= 60_000


def test_addresses_of_one_call_are_apart():
    async def scenario(limiter):
        return await asyncio.gather(
            *(take_many(limiter, 3, address=f"a{n}", limit=2) for n in range(50))
        )

    found = run(scenario)

    assert [[each.allowed for each in verdicts] for verdicts in found] == [[True, True, False]] * 50


def test_two_loops_and_the_other_limiter_share_their_counts(settings):
    settings.RATE_LIMIT_PER_MINUTE = 10
    first = run(lambda limiter: take_many(limiter, 4, limit=10))
    others = [ratelimit.take("a", "s") for _ in range(4)]
    second = run(lambda limiter: take_many(limiter, 4, limit=10))

    allowed = [each.allowed for each in (*first, *others, *second)]
    assert allowed == [True] * 10 + [False] * 2
    assert not ratelimit.take("a", "s").allowed


def test_refusal_lasts_until_the_window_moves_and_no_longer(monkeypatch):
    monkeypatch.setattr(limiters, "WINDOW_MS", 200)

    async def scenario(limiter):
        assert (await limiter.take("a", "s", 1)).allowed
        refused = await limiter.take("a", "s", 1)
        assert not refused.allowed
        deadline = time.monotonic() + 5
        while not (await limiter.take("a", "s", 1)).allowed:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        return refused.retry_after_ms

    assert 0 < run(scenario) <= 200


def test_refused_addresses_are_not_remembered_without_bound(monkeypatch):
    monkeypatch.setattr(limiters, "MAX_REFUSED", 10)

    async def scenario(limiter):
        for number in range(30):
            await take_many(limiter, 2, address=f"a{number}", limit=1)
        return len(limiter._refused)

    assert run(scenario) <= 10


def test_call_sent_twice_counts_once():
    args = [60_000, "id", 100, 5]
    key = keys.ratelimit("a", "s")

    assert run_script("ratelimit_many", [key], args) == [[5, 0]]
    assert run_script("ratelimit_many", [key], args) == [[5, 0]]
    assert redis_client().zcard(key) == 5


def test_script_is_loaded_again_after_redis_forgot_it():
    redis_client().script_flush()

    assert all(each.allowed for each in run(lambda limiter: take_many(limiter, 2)))


def test_request_that_is_cancelled_takes_no_other_along():
    async def scenario(limiter):
        waiting = [asyncio.create_task(limiter.take("a", "s", 2)) for _ in range(4)]
        await asyncio.sleep(0)  # all of them wait for one call
        waiting[1].cancel()
        first = await asyncio.gather(*waiting, return_exceptions=True)
        return first, await asyncio.wait_for(limiter.take("b", "s", 2), 5)

    (one, gone, three, four), other = run(scenario)

    assert [one.allowed, three.allowed, four.allowed] == [True, False, False]
    assert isinstance(gone, asyncio.CancelledError)
    assert other.allowed


def test_call_that_breaks_leaves_nobody_waiting(monkeypatch):
    async def broken(*_):
        await asyncio.sleep(0.01)  # others come meanwhile
        raise KeyError("a bug")

    async def scenario(limiter):
        with monkeypatch.context() as patch:
            patch.setattr(limiter, "_evaluate", broken)
            first = asyncio.create_task(limiter.take("a", "s", 2))
            await asyncio.sleep(0.001)
            task = limiter._task
            second = asyncio.create_task(limiter.take("b", "s", 2))
            ended = await asyncio.wait_for(
                asyncio.gather(first, second, task, return_exceptions=True), 5
            )
        return ended, await asyncio.wait_for(limiter.take("a", "s", 2), 5)

    (one, two, bug), later = run(scenario)

    assert isinstance(one, asyncio.CancelledError)
    assert isinstance(two, asyncio.CancelledError)
    assert isinstance(bug, KeyError)
    assert later.allowed


@pytest.mark.parametrize("error", [RedisConnectionError("away"), ResponseError("OOM")])
def test_without_redis_requests_pass_and_it_is_left_alone_for_a_while(monkeypatch, error):
    asked = []

    async def away(*_):
        asked.append(1)
        raise error

    async def scenario(limiter):
        monkeypatch.setattr(limiter, "_evaluate", away)
        first = await take_many(limiter, 20, limit=1)
        return first + await take_many(limiter, 20, limit=1)

    verdicts = run(scenario)

    assert all(each.allowed for each in verdicts)
    assert len(asked) == 1
