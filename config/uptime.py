"""How long this process runs: config.apps imports this as the process starts."""

from __future__ import annotations

import time

_STARTED = time.monotonic()


def uptime_seconds() -> int:
    """Whole seconds since this process started."""
    return int(time.monotonic() - _STARTED)
