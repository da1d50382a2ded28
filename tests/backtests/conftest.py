"""One kernel for all of them: what numba compiles is kept for the session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from backtests import tune, work
from backtests.engine.kernel import KernelEngine

LeftAtFirstRow = Callable[[ModuleType], list[Any]]


@pytest.fixture(scope="session")
def compiled_dir(home: Path) -> Path:
    """Where runs keep theirs, too: numba settles on a folder once in a process."""
    return home / "compiled"


@pytest.fixture(scope="session")
def kernel(compiled_dir: Path) -> Iterator[KernelEngine]:
    yield KernelEngine(cache_dir=compiled_dir, threads=1)


@pytest.fixture
def nudges(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The messages sent to workers."""
    sent: list[str] = []
    monkeypatch.setattr(
        "backtests.job_orders.current_app.send_task", lambda name, **_: sent.append(name)
    )
    return sent


@pytest.fixture
def artifacts_dir(nudges: list[str], tmp_path: Path, settings: Any) -> Path:
    """A folder for the artifacts of this test, whose jobs are told to nobody."""
    settings.ARTIFACTS_DIR = tmp_path / "artifacts"
    return tmp_path / "artifacts"


@pytest.fixture
def left_at_first_row(monkeypatch: pytest.MonkeyPatch) -> Iterator[LeftAtFirstRow]:
    """Have the worker told to leave once a module writes a run's equity; the rows it came to."""

    def patched(module: ModuleType) -> list[Any]:
        written: list[Any] = []
        equity_rows = module.equity_rows

        def leaving(*args: Any) -> Iterator[Any]:
            for row in equity_rows(*args):
                written.append(row)
                work.leave()
                yield row

        monkeypatch.setattr(module, "equity_rows", leaving)
        return written

    yield patched
    work._leaving.clear()


@pytest.fixture
def left_at_first_run(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Have the worker told to leave once a combination is tested; an item for each that was."""
    tested: list[bool] = []
    run_on = tune.run_on

    def leaving(*args: Any, **options: Any) -> tune.Tested:
        tested.append(True)
        work.leave()
        return run_on(*args, **options)

    monkeypatch.setattr(tune, "run_on", leaving)
    yield tested
    work._leaving.clear()
