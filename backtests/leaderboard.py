"""The best that finished runs recommend: written with a run's end, read by score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from backtests.jobs import Claim
from backtests.models import LeaderboardEntry
from backtests.strategies.strategy import Params
from backtests.tune_order import TuneOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """A candidate; ``score`` is of candles that did not choose it, higher is better."""

    params: Params
    metrics: Mapping[str, Any]
    score: float


def poster(claim: Claim, order: TuneOrder, leaders: Sequence[Leader]) -> Callable[[], None]:
    """What enters them, best first: to be called in the transaction that ends the job."""
    return lambda: _post(claim, order, leaders)


def _post(claim: Claim, order: TuneOrder, leaders: Sequence[Leader]) -> None:
    LeaderboardEntry.objects.filter(job_id=claim.job_id).delete()  # of a run that is done again
    LeaderboardEntry.objects.bulk_create(
        LeaderboardEntry(
            workspace_id=claim.workspace_id,
            job_id=claim.job_id,
            rank=rank,
            strategy_id=order.strategy_id,
            objective=order.objective,
            exchange=order.series.exchange,
            symbol=order.series.symbol,
            timeframe=order.series.timeframe,
            params=dict(leader.params),
            metrics=dict(leader.metrics),
            score=leader.score,
        )
        for rank, leader in enumerate(leaders, 1)
    )


def read(
    workspace_id: str | None = None, *, objective: str | None = None, limit: int = 50
) -> QuerySet[LeaderboardEntry]:
    """Entries, the best first; of one workspace and one objective where they are named.

    Scores of different objectives do not compare, nor does a tune's, of one out-of-sample part,
    with a walk-forward's, of many: the job's type says which it is.
    """
    found = LeaderboardEntry.objects.select_related("job").only(
        *(each.attname for each in LeaderboardEntry._meta.concrete_fields), "job__type"
    )
    if workspace_id is not None:
        found = found.filter(workspace_id=workspace_id)
    if objective is not None:
        found = found.filter(objective=objective)
    return found.order_by("-score", "created_at", "id")[:limit]
