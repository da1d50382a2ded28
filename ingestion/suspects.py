"""Symbols that an exchange may not know, found without giving up those that it does.

Some exchanges fail a whole call for one unknown symbol and do not say which it is. The symbols then
become suspects, in two halves. Each tick asks for all cleared symbols and the first group of
suspects: answered, the group is cleared too; refused, it is halved, until a group of one is known
to be unknown and is left out for RETEST_MS. After a refusal the next tick asks for the cleared ones
alone, so none of them is ever without an answer for two ticks. That costs one request a tick, as
ever, and of a hundred symbols the last good one is back after about twenty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from oracle import keys
from oracle.connection import redis_client

RETEST_MS = 600_000  # an unknown symbol may be listed by now
KEEP_SECONDS = 86_400


class Suspects(msgspec.Struct, frozen=True):
    """What is remembered of an exchange: suspect groups, and symbol → end of its exclusion.

    ``resting``: the last trial failed, so the next tick makes none.
    """

    groups: tuple[tuple[str, ...], ...] = ()
    unknown: dict[str, int] = {}  # each instance gets its own: msgspec copies it
    resting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one tick asks for: ``cleared`` symbols and a ``trial`` group that may be at fault."""

    cleared: tuple[str, ...]
    trial: tuple[str, ...]
    suspects: Suspects

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.cleared + self.trial


_NOBODY = Suspects()
_decode = msgspec.json.Decoder(Suspects).decode


def load(exchange: str) -> Suspects:
    """What is remembered of the exchange."""
    text = redis_client().get(keys.suspects(exchange))
    return _decode(text) if isinstance(text, bytes) else _NOBODY


def save(exchange: str, suspects: Suspects) -> None:
    """Remember it for the next tick."""
    key = keys.suspects(exchange)
    if suspects == _NOBODY:
        redis_client().delete(key)
    else:
        redis_client().set(key, msgspec.json.encode(suspects), ex=KEEP_SECONDS)


def plan(wanted: Sequence[str], suspects: Suspects, *, now_ms: int) -> Plan:
    """Choose what to ask for of the symbols ``wanted``."""
    if suspects == _NOBODY:
        return Plan(cleared=tuple(wanted), trial=(), suspects=suspects)
    names = frozenset(wanted)
    known = {name: until for name, until in suspects.unknown.items() if name in names}
    unknown = {name: until for name, until in known.items() if until > now_ms}
    kept = (tuple(n for n in group if n in names) for group in suspects.groups)
    again = ((name,) for name in known if name not in unknown)
    groups = tuple(group for group in (*kept, *again) if group)
    apart = frozenset(name for group in groups for name in group) | unknown.keys()
    cleared = tuple(name for name in wanted if name not in apart)
    resting = suspects.resting and bool(cleared)
    return Plan(
        cleared=cleared,
        trial=() if resting or not groups else groups[0],
        suspects=Suspects(groups, unknown, resting),
    )


def passed(plan: Plan) -> Suspects:
    """The exchange knew all of them: the trial group is cleared."""
    groups = plan.suspects.groups
    return Suspects(groups[1:] if plan.trial else groups, plan.suspects.unknown)


def failed(plan: Plan, *, now_ms: int) -> Suspects:
    """It did not: halve what is to blame, or exclude it when it is a single symbol."""
    blamed, others, unknown = plan.trial, plan.suspects.groups[1:], plan.suspects.unknown
    if not blamed:  # a symbol that was cleared is gone: it may be any of them
        blamed, others = plan.cleared, plan.suspects.groups
    resting = bool(plan.trial)
    if len(blamed) > 1:
        half = (len(blamed) + 1) // 2
        return Suspects((blamed[:half], blamed[half:], *others), unknown, resting)
    return Suspects(others, unknown | dict.fromkeys(blamed, now_ms + RETEST_MS), resting)
