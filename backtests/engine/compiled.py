"""Where numba keeps what it compiled."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numba

from backtests.engine.protocol import EngineError


def keep(functions: Iterable[Any], cache_dir: Path) -> None:
    """Have numba load ``functions`` (its dispatchers) from ``cache_dir`` and save them there.

    Numba reads its setting when a function is first cached, so it is set for that moment and no
    longer: other users of numba in this process keep theirs. Without a folder of our own it would
    write beside the source, which is read-only in an image.
    """
    try:
        cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(f"cannot make the folder for compiled code: {error}") from error
    if not os.access(cache_dir, os.W_OK | os.X_OK):
        raise EngineError(f"the folder for compiled code, {cache_dir}, is not writable")
    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = str(cache_dir)
    try:
        for function in functions:
            function.enable_caching()
    finally:
        config.CACHE_DIR = before
