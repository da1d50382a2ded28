"""``python -m bench [name…]``: run benchmarks, print each figure, write bench.json.

``bench`` (the default) and ``load`` are names too, each of a group.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.figures import Figure, save

ROOT = Path(__file__).resolve().parents[1]


Benchmarks = dict[str, Callable[[], list[Figure]]]


def benchmarks() -> Benchmarks:
    """What `make bench` runs, by name. Imported late: they need settings, and those a home."""
    from bench import backfill, demo, flush, index_tick, live, ohlcv_read, rollups, sweep, trades

    return {
        "index_tick_500": lambda: index_tick.measure(100, ticks=300),
        "index_tick_10000": lambda: index_tick.measure(2_000, ticks=200),
        "flush_2000": lambda: flush.measure(2_000, rounds=15),
        "price_read": lambda: live.measure_reads(seconds=6),
        "rpc_get_price": lambda: live.measure_calls(seconds=6),
        "sse_1000": lambda: live.measure_streams(1_000, seconds=8),
        "trades_parse_binance": lambda: trades.measure_parse(messages=100_000),
        "trades_fold": lambda: trades.measure_fold(trades=200_000),
        "backfill_1m": lambda: backfill.measure(1_000_000, fewer=250_000),
        "rollup_year": rollups.measure_year,
        "rollup_minute": lambda: rollups.measure_minute(rounds=100),
        "ohlcv_read": lambda: ohlcv_read.measure(
            minutes=2_100_000, requests=1_200, users=100, seconds=20
        ),
        "sweep_1000x100k": lambda: sweep.measure(),
        "demo": lambda: demo.measure(seconds=60),
    }


def loads() -> Benchmarks:
    """What `make load` runs: the processes of the trade pipeline together, pressed or killed."""
    from bench import failover, socket_to_minutes, trade_to_price

    return {
        "trades_socket_to_minutes": lambda: socket_to_minutes.measure(trades=1_000_000),
        "trade_to_price": lambda: trade_to_price.measure(per_second=5_000, seconds=65),
        "failover": lambda: failover.measure(terms=5, kills=2, short_kills=3),
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # every `with` block ends, as by Ctrl-C
    report = Path(os.environ.get("ORACLE_HOME") or ROOT / ".local") / "bench.json"
    figures: list[Figure] = []
    with own_servers():
        groups = {"bench": benchmarks(), "load": loads()}
        known = groups["bench"] | groups["load"]
        unknown = [name for name in wanted if name not in known | groups]
        if unknown:
            parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
        from oracle.connection import redis_client

        for name in (each for one in wanted or ["bench"] for each in groups.get(one, (one,))):
            redis_client().flushdb()  # the run's own Redis: fences of the one before, for one
            for figure in known[name]():
                figures.append(figure)
                print(figure.line(), flush=True)
    save(figures, report)
    print(f"written to {report}")
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
