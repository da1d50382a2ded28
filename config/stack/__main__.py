"""``python -m config.stack demo`` (simulated exchanges) or ``run`` (the real ones)."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from config.stack import StackError

UNUSABLE = 2


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m config.stack", description=__doc__)
    parser.add_argument("mode", choices=("demo", "run"))
    mode = parser.parse_args().mode
    try:
        arguments, environment = _prepare(mode)
    except (ImproperlyConfigured, StackError) as error:
        print(f"make {mode}: {error}", file=sys.stderr)
        sys.exit(UNUSABLE)
    os.execve(arguments[0], arguments, environment)


def _prepare(mode: str) -> tuple[list[str], dict[str, str]]:
    given = dict(os.environ)
    # Not at the top: importing settings reads the environment, and may refuse it.
    from config.settings.environment import ROOT
    from config.stack import home, options, programs

    now_ms = time.time_ns() // 1_000_000
    chosen = options.read("demo" if mode == "demo" else "run", now_ms=now_ms)
    home.lock(chosen.home)
    home.check_ports(chosen)
    home.prepare(chosen)
    configuration = programs.write_configuration(chosen)
    environment = home.environment(chosen, given)
    os.chdir(ROOT)
    # By path, and without the project on its path: supervisord needs nothing of ours in memory.
    supervise = Path(__file__).with_name("supervise.py")
    return [sys.executable, "-P", str(supervise), "-c", str(configuration)], environment


if __name__ == "__main__":
    main()
