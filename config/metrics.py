"""Metrics of many processes in one folder, also when the processes live in different containers."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def share(folder: Path) -> None:
    """Let this process write its metrics to files of its own in ``folder``.

    To be called before any metric is made, so from the settings. The files are named after host
    and process: alone, the process id is 1 in every container, and they share one volume. A
    restarted container goes on counting in its own file, which is what a counter is for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # prometheus_client reads it when it is first imported.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    from prometheus_client import values

    # The files' names are split at "_".
    host = socket.gethostname().replace("_", "-")
    values.ValueClass = values.MultiProcessValue(  # type: ignore[no-untyped-call]
        lambda: f"{host}-{os.getpid()}"
    )
