"""The circuit breaker of each exchange, in Redis: what one worker learns, all workers know.

Closed, it opens after BREAKER_FAILURES failures within the last BREAKER_WINDOW_MS. Open, nothing is
sent for BREAKER_OPEN_MS; then one probe is, by one of the workers: its success closes the circuit,
its failure opens it again. A probe that never reports back, because its worker died, is replaced
after PROBE_LOST_MS, so the breaker cannot stop an exchange for good.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from django.conf import settings

from oracle import keys
from oracle.connection import redis_client, run_script
from oracle.values import ErrorCode

PROBE_LOST_MS = 5_000  # longer than any fetch lasts
KEEP_MS = 86_400_000  # the last error is shown for a day


class State(StrEnum):
    """The state of a circuit: flowing, cut, or being tried."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """What health and admin show. ``failure_count`` is that of the window; times in epoch ms."""

    state: State = State.CLOSED
    failure_count: int = 0
    opened_ms: int | None = None
    failed_ms: int | None = None
    error: str | None = None


def allow(exchange: str, *, now_ms: int) -> bool:
    """May a request be sent now? After the open time, yes for exactly one probe of all workers.

    Who was told yes must report `record_success` or `record_failure`.
    """
    answer = run_script(
        "breaker_allow",
        [keys.circuit(exchange)],
        [now_ms, settings.BREAKER_OPEN_MS, PROBE_LOST_MS],
    )
    return answer in (b"closed", b"probe")


def record_success(exchange: str) -> bool:
    """Record that the exchange answered; True when this closed the circuit."""
    return bool(run_script("breaker_success", [keys.circuit(exchange)], []))


def record_failure(exchange: str, *, code: ErrorCode, now_ms: int) -> bool:
    """Record a failure; True when this opened the circuit."""
    opened = run_script(
        "breaker_failure",
        [keys.circuit(exchange)],
        [
            now_ms,
            settings.BREAKER_FAILURES,
            settings.BREAKER_WINDOW_MS,
            code.value,
            max(KEEP_MS, settings.BREAKER_OPEN_MS + settings.BREAKER_WINDOW_MS),
        ],
    )
    return bool(opened)


def reset(exchange: str) -> None:
    """Close the circuit and forget its failures."""
    redis_client().delete(keys.circuit(exchange))


def states(exchanges: Iterable[str], *, now_ms: int) -> dict[str, Circuit]:
    """The circuits of the exchanges, in one round trip."""
    names = list(exchanges)
    pipe = redis_client().pipeline(transaction=False)
    for name in names:
        pipe.hgetall(keys.circuit(name))
    circuits = (_circuit(fields, now_ms) for fields in pipe.execute())
    return dict(zip(names, circuits, strict=True))


def _circuit(fields: Mapping[bytes, bytes], now_ms: int) -> Circuit:
    texts = {name.decode(): value.decode() for name, value in fields.items()}
    failed = [int(at) for at in texts.get("failures", "").split(",") if at]
    return Circuit(
        state=State(texts.get("state", "closed")),
        failure_count=sum(abs(now_ms - at) < settings.BREAKER_WINDOW_MS for at in failed),
        opened_ms=int(texts["opened_ms"]) if "opened_ms" in texts else None,
        failed_ms=int(texts["failed_ms"]) if "failed_ms" in texts else None,
        error=texts.get("error"),
    )
