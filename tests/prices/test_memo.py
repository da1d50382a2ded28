"""Answers that are kept: as long as they say, in so much room, and no errors."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext

import msgspec
import pytest

from prices.rpc import memo as memos
from prices.rpc.memo import Memo


def run(scenario):
    async def within():
        memo = Memo(nullcontext)
        try:
            async with asyncio.timeout(10):
                return await scenario(memo)
        finally:
            memo.close()

    return asyncio.run(within())


class Work:
    """Counts how often it was done; ``held`` until it is told to go on."""

    def __init__(self, size=1, *, error=None):
        self.done = 0
        self.error = error
        self.held = asyncio.Event()
        self.held.set()
        self._answer = msgspec.Raw(b"x" * size)

    async def __call__(self):
        self.done += 1
        await self.held.wait()
        if self.error:
            raise self.error
        return self._answer


def test_question_asked_twice_at_once_is_answered_once():
    async def scenario(memo):
        work = Work()
        work.held.clear()
        asked = [asyncio.create_task(memo.get("k", 0, work)) for _ in range(3)]
        await asyncio.sleep(0.01)
        work.held.set()
        answers = await asyncio.gather(*asked)
        return answers, work.done

    assert run(scenario) == ([msgspec.Raw(b"x")] * 3, 1)


def test_answer_is_kept_as_long_as_it_is_good():
    async def scenario(memo):
        work = Work()
        for _ in range(3):
            await memo.get("good", 60, work)
        kept = work.done
        for _ in range(3):
            await memo.get("old", 0, work)
        return kept, work.done

    assert run(scenario) == (1, 4)


def test_error_is_not_kept():
    async def scenario(memo):
        bad, good = Work(error=KeyError("away")), Work()
        with pytest.raises(KeyError):
            await memo.get("k", 60, bad)
        await memo.get("k", 60, good)
        return good.done

    assert run(scenario) == 1


def test_error_is_not_kept_though_who_asked_has_left():
    async def scenario(memo):
        bad, good = Work(error=KeyError("away")), Work()
        bad.held.clear()
        asked = asyncio.create_task(memo.get("k", 60, bad))
        await asyncio.sleep(0.01)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        bad.held.set()
        await asyncio.sleep(0.01)
        await memo.get("k", 60, good)
        return good.done

    assert run(scenario) == 1


@pytest.mark.parametrize(("limit", "most"), [("MAX_ANSWERS", 10), ("MAX_BYTES", 10_000)])
def test_answers_are_not_kept_without_bound(monkeypatch, limit, most):
    monkeypatch.setattr(memos, limit, most)

    async def scenario(memo):
        for number in range(35):
            await memo.get(number, 60, Work(1_000))
        return len(memo._answers)

    assert run(scenario) <= 11


def test_old_answers_make_room_for_new_ones_and_good_ones_stay(monkeypatch):
    monkeypatch.setattr(memos, "SWEEP_SECONDS", 0)

    async def scenario(memo):
        good = Work()
        await memo.get("good", 60, good)
        for number in range(30):
            await memo.get(number, 0, Work(1_000))
        await memo.get("good", 60, good)
        return good.done, len(memo._answers), memo._bytes

    done, kept, size = run(scenario)

    assert (done, kept) == (1, 2)
    assert size <= 2_001
