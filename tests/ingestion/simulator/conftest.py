"""A simulated world with a stopped clock, asked over real sockets."""

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from ingestion.simulator.markets import default_markets
from ingestion.simulator.server import make_app
from ingestion.simulator.venue import Universe

# Between two minutes and between two seconds, on 21 November 2026.
NOW_MS = 1_795_251_645_678
REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body with its numbers as they were written."""
        return json.loads(self.body, parse_float=Decimal)


@pytest.fixture
def now_ms() -> int:
    return NOW_MS


@pytest.fixture(scope="session")
def session_universe() -> Universe:
    return Universe(markets=default_markets(), seed=7, rate_per_minute=12, clock=lambda: NOW_MS)


@pytest.fixture
def universe(session_universe: Universe) -> Iterator[Universe]:
    session_universe.faults.clear()
    yield session_universe
    session_universe.faults.clear()


@pytest.fixture(scope="session")
def running(session_universe: Universe) -> Iterator[tuple[asyncio.Runner, TestClient]]:
    """One server for all questions that do not mind what was asked before."""
    with asyncio.Runner() as runner:
        client = runner.run(started(session_universe))
        yield runner, client
        runner.run(client.close())


@pytest.fixture
def ask(universe: Universe, running: tuple[asyncio.Runner, TestClient]) -> Callable[..., Answer]:
    """Ask the server one question: ask("binance/api/v3/klines", symbol="BTCUSDT")."""
    runner, client = running

    def one(path: str, *, method: str = "GET", body: Any = None, **query: object) -> Answer:
        return runner.run(exchange(client, path, method=method, body=body, query=query))

    return one


@pytest.fixture
def ask_anew(universe: Universe) -> Callable[..., Answer]:
    """Ask a server that was never asked anything before."""

    async def once(path: str, query: dict[str, object]) -> Answer:
        client = await started(universe)
        try:
            return await exchange(client, path, method="GET", body=None, query=query)
        finally:
            await client.close()

    return lambda path, **query: asyncio.run(once(path, query))


async def started(universe: Universe) -> TestClient:
    client: TestClient = TestClient(TestServer(make_app(universe)))
    await client.start_server()
    return client


async def exchange(
    client: TestClient, path: str, *, method: str, body: Any, query: dict[str, object]
) -> Answer:
    params = {name: str(value) for name, value in query.items()}
    data = None if body is None else json.dumps(body)
    async with client.request(method, f"/{path}", params=params, data=data) as response:
        return Answer(
            status=response.status,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=await response.read(),
        )


@pytest.fixture(scope="session")
def recorded() -> Callable[[str], Any]:
    """Return a recorded payload by name: recorded("okx/tickers_1.json")."""
    root = Path(os.environ.get("ORACLE_FIXTURES", REPOSITORY.parent / "shared" / "fixtures"))

    def load(name: str) -> Any:
        path = root / name
        if not path.exists():
            pytest.skip(f"no recorded payload {path}: set ORACLE_FIXTURES")
        text = path.read_text(encoding="utf-8")
        if name.endswith(".jsonl"):
            return [json.loads(line, parse_float=Decimal) for line in text.splitlines() if line]
        return json.loads(text, parse_float=Decimal)

    return load
