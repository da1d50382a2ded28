"""The engines of this process: made once each, so that what they compiled is compiled once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from django.conf import settings

from backtests.engine import registry
from backtests.engine.protocol import Engine, EngineError
from backtests.work import JobError


def engine(engine_id: str) -> Engine:
    """The engine of this id; the first call imports numba. Raises JobError."""
    cache_dir = Path(settings.ORACLE_HOME) / "compiled"
    try:
        return _engine(engine_id, cache_dir, settings.BACKTEST_THREADS)
    except EngineError as error:
        raise JobError(str(error)) from error


@cache
def _engine(engine_id: str, cache_dir: Path, threads: int) -> Engine:
    return registry.engine(engine_id, cache_dir=cache_dir, threads=threads)
