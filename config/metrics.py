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
    _forget_the_dead(folder, host)
    values.ValueClass = values.MultiProcessValue(  # type: ignore[no-untyped-call]
        lambda: f"{host}-{os.getpid()}"
    )


def _forget_the_dead(folder: Path, host: str) -> None:
    """Remove what processes of this host that are gone said of themselves for as long as they live.

    A web server that was killed would have its streams for ever; and the first process of a
    container has the number of the one before it, which would begin with them.
    """
    for file in folder.glob(f"gauge_live*_{host}-*.db"):
        process = int(file.stem.rpartition("-")[2])
        if process == os.getpid() or not _is_alive(process):
            file.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it is somebody else's
    return True
