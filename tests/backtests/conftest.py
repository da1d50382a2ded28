"""One kernel for all of them: what numba compiles is kept for the session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backtests.engine.kernel import KernelEngine


@pytest.fixture(scope="session")
def compiled_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="session")
def kernel(compiled_dir: Path) -> Iterator[KernelEngine]:
    yield KernelEngine(cache_dir=compiled_dir, threads=1)
