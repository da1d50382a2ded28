"""The engines there are, by id. Each is imported when it is asked for: numba takes its time."""

from __future__ import annotations

from pathlib import Path

from backtests.engine.protocol import Engine, EngineError

KERNEL = "kernel"
REFERENCE = "backtesting.py"
ENGINE_IDS = (KERNEL, REFERENCE)


def engine(engine_id: str = KERNEL, *, cache_dir: Path | None = None, threads: int = 1) -> Engine:
    """The engine of this id. EngineError if there is none, or if it is not installed.

    Compiled code is kept in ``cache_dir``, which is made if need be and must be writable and ours
    alone, for code is loaded from it; with None every process compiles for itself.
    """
    from backtests.engine.kernel import KernelEngine

    kernel = KernelEngine(cache_dir=cache_dir, threads=threads)
    if engine_id == KERNEL:
        return kernel
    if engine_id == REFERENCE:
        from backtests.engine.reference import ReferenceEngine

        return ReferenceEngine(kernel.signals)
    raise EngineError(f"no engine {engine_id!r}; there are {', '.join(ENGINE_IDS)}")
