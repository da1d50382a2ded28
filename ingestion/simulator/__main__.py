"""``python -m ingestion.simulator --port 8001 --seed 7``."""

import argparse
import asyncio
import sys
from pathlib import Path

from ingestion.simulator.markets import default_markets
from ingestion.simulator.markets_file import load_markets
from ingestion.simulator.server import run
from ingestion.simulator.venue import Universe

MAX_RATE_PER_MINUTE = 60_000


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop; return the exit status."""
    parser = argument_parser()
    options = parser.parse_args(arguments)
    try:
        markets = load_markets(options.markets) if options.markets else default_markets()
    except ValueError as problem:
        parser.error(f"--markets: {problem}")
    universe = Universe(markets=markets, seed=options.seed, rate_per_minute=options.rate_per_minute)
    try:
        asyncio.run(run(universe, host=options.host, port=options.port, announce=say))
    except OSError as problem:
        print(
            f"error: cannot listen on {options.host}:{options.port}: {problem.strerror}",
            file=sys.stderr,
        )
        return 1
    return 0


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ingestion.simulator",
        description="Simulated exchanges: REST and WebSocket of seven, with faults on request.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=port_number, required=True, help="0 picks a free one")
    parser.add_argument("--seed", type=int, default=7, help="same seed, same markets")
    parser.add_argument(
        "--rate-per-minute",
        type=rate_number,
        default=12,
        help="average trades a minute of an ordinary listing",
    )
    parser.add_argument("--markets", type=Path, help="JSON file that adds or replaces markets")
    return parser


def port_number(text: str) -> int:
    if not text.isdigit() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"must be a port within 0..65535, not {text!r}")
    return int(text)


def rate_number(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= MAX_RATE_PER_MINUTE:
        raise argparse.ArgumentTypeError(
            f"must be a whole number within 1..{MAX_RATE_PER_MINUTE}, not {text!r}"
        )
    return int(text)


def say(url: str) -> None:
    print(f"simulated exchanges at {url}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
