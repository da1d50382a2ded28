"""One kernel for all of them: what numba compiles is kept for the session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backtests.engine.kernel import KernelEngine


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
