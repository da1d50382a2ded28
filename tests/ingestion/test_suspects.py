"""Finding the symbols an exchange does not know, one call a tick."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingestion import suspects
from ingestion.suspects import RETEST_MS, Suspects

NOW_MS = 1_790_000_000_000
NAMES = [f"S{number}" for number in range(100)]


def run(
    wanted: list[str],
    known: set[str],
    ticks: int,
    state: Suspects | None = None,
    from_tick: int = 0,
) -> tuple[Suspects, list[set[str]]]:
    """Play an exchange that answers only calls whose every symbol it knows."""
    state, answered = state or Suspects(), []
    for tick in range(from_tick, from_tick + ticks):
        now_ms = NOW_MS + tick * 1_000
        plan = suspects.plan(wanted, state, now_ms=now_ms)
        fine = set(plan.symbols) <= known
        answered.append(set(plan.symbols) if fine else set())
        if not plan.symbols:
            continue
        state = suspects.passed(plan) if fine else suspects.failed(plan, now_ms=now_ms)
    return state, answered


def test_plan_without_suspects_asks_for_everything() -> None:
    plan = suspects.plan(NAMES, Suspects(), now_ms=NOW_MS)
    assert (plan.cleared, plan.trial) == (tuple(NAMES), ())


def test_run_one_unknown_symbol_is_found_and_the_others_go_on() -> None:
    known = set(NAMES) - {"S37"}
    state, answered = run(NAMES, known, ticks=25)
    assert state == Suspects((), {"S37": state.unknown["S37"]})
    assert answered[-1] == known
    # Even in the worst order the first answer comes before the last prices are stale.
    assert [bool(names) for names in answered].index(True) <= 7


def test_run_all_unknown_leaves_nothing_to_ask() -> None:
    state, _ = run(NAMES[:4], set(), ticks=12)
    assert suspects.plan(NAMES[:4], state, now_ms=NOW_MS + 12_000).symbols == ()


def test_run_unknown_symbol_is_tried_again_after_a_while_at_the_cost_of_one_tick() -> None:
    known = set(NAMES) - {"S37"}
    state, _ = run(NAMES, known, ticks=25)
    again = RETEST_MS // 1_000
    state, answered = run(NAMES, known, ticks=40, state=state, from_tick=again)
    assert sum(not names for names in answered) == 1
    assert state.unknown["S37"] > NOW_MS + RETEST_MS + again * 1_000


def test_run_unknown_symbol_that_was_listed_meanwhile_is_back() -> None:
    state, _ = run(NAMES, set(NAMES) - {"S37"}, ticks=25)
    state, answered = run(NAMES, set(NAMES), ticks=30, state=state, from_tick=RETEST_MS // 1_000)
    assert (state, answered[-1]) == (Suspects(), set(NAMES))


def test_plan_symbols_no_longer_wanted_are_forgotten() -> None:
    state = Suspects((("A", "B"), ("C",)), {"D": NOW_MS + 1})
    plan = suspects.plan(["B", "E"], state, now_ms=NOW_MS)
    assert (plan.cleared, plan.trial) == (("E",), ("B",))
    assert plan.suspects == Suspects((("B",),), {})


@given(
    wanted=st.sets(st.sampled_from(NAMES[:40]), min_size=1),
    unknown=st.sets(st.sampled_from(NAMES[:40]), max_size=4),
)
def test_run_any_unknown_symbols_all_the_others_are_answered(
    wanted: set[str], unknown: set[str]
) -> None:
    state, answered = run(sorted(wanted), wanted - unknown, ticks=150)
    assert state.unknown.keys() == wanted & unknown
    assert answered[-1] == wanted - unknown
    for number, names in enumerate(answered[1:-1], start=1):
        # Who was answered is answered again at least every other tick.
        assert answered[number - 1] <= names | answered[number + 1]


def test_run_cleared_symbol_that_is_delisted_meanwhile_is_found_too() -> None:
    state, _ = run(NAMES[:8], set(NAMES[:8]) - {"S1"}, ticks=4)
    known = set(NAMES[:8]) - {"S1", "S7"}
    state, answered = run(NAMES[:8], known, ticks=40, state=state, from_tick=4)
    assert (answered[-1], state.groups, state.unknown.keys()) == (
        known,
        (),
        {"S1": 0, "S7": 0}.keys(),
    )


def test_save_and_load_keep_it_apart_for_each_exchange() -> None:
    state = Suspects((("A", "B"),), {"C": NOW_MS})
    suspects.save("kraken", state)
    assert (suspects.load("kraken"), suspects.load("okx")) == (state, Suspects())
    suspects.save("kraken", Suspects())
    assert suspects.load("kraken") == Suspects()
