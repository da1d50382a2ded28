"""``python -m bench [name…]``: run the benchmarks, print each figure, write bench.json."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.figures import Figure, save

ROOT = Path(__file__).resolve().parents[1]


def benchmarks() -> dict[str, Callable[[], list[Figure]]]:
    """The benchmarks by name. Imported late: they need settings, and those a home."""
    from bench import demo, flush, index_tick, live, trades

    return {
        "index_tick_500": lambda: index_tick.measure(100, ticks=300),
        "index_tick_10000": lambda: index_tick.measure(2_000, ticks=200),
        "flush_2000": lambda: flush.measure(2_000, rounds=15),
        "price_read": lambda: live.measure_reads(seconds=6),
        "rpc_get_price": lambda: live.measure_calls(seconds=6),
        "sse_1000": lambda: live.measure_streams(1_000, seconds=8),
        "trades_parse_binance": lambda: trades.measure_parse(messages=100_000),
        "trades_fold": lambda: trades.measure_fold(trades=200_000),
        "demo": lambda: demo.measure(seconds=60),
    }


@contextmanager
def own_servers() -> Iterator[None]:
    """A PostgreSQL and a Redis of this run's own, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="oracle-bench-") as folder:
        os.environ |= {
            "ORACLE_HOME": folder,
            "PROMETHEUS_MULTIPROC_DIR": f"{folder}/metrics",
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "LOG_LEVEL": "warning",
            "MAX_CLOCK_OFF_MS": str(10**15),  # benchmarks run faster than the clock
        }
        for name in ("DATABASE_URL", "REDIS_URL", "SIMULATOR_URL", "SYMBOLS"):
            os.environ.pop(name, None)
        Path(folder, "metrics").mkdir()
        from config import servers

        with servers.postgres(Path(folder)), servers.redis_server(Path(folder)):
            import django

            django.setup()
            from django.core.management import call_command

            call_command("migrate", verbosity=0)
            yield


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", help="which to run (default: all)")
    wanted = parser.parse_args().names
    report = Path(os.environ.get("ORACLE_HOME") or ROOT / ".local") / "bench.json"
    figures: list[Figure] = []
    with own_servers():
        known = benchmarks()
        unknown = [name for name in wanted if name not in known]
        if unknown:
            parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
        from oracle.connection import redis_client

        for name in wanted or known:
            redis_client().flushdb()  # the run's own Redis: fences of the one before, for one
            for figure in known[name]():
                figures.append(figure)
                print(figure.line(), flush=True)
    save(figures, report)
    print(f"written to {report}")
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
