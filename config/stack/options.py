"""What a stack is to run, and where: from the environment, as strictly as the settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from django.core.exceptions import ImproperlyConfigured
from environs import Env, EnvError

from config import settings
from config.settings.environment import between

Mode = Literal["demo", "run"]

# The two never mix: prices of one world are lies in the other.
_HOMES: dict[Mode, str] = {"demo": "demo", "run": "live"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``database_url`` and ``redis_url`` are those given; empty ones mean embedded servers."""

    mode: Mode
    started_ms: int
    home: Path
    host: str
    port: int
    simulator_port: int
    simulator_seed: int
    database_url: str
    redis_url: str

    @property
    def simulated(self) -> bool:
        return self.mode == "demo"

    @property
    def ports(self) -> tuple[tuple[str, str, int], ...]:
        """Each port to listen on: the variable that sets it, the address, the number."""
        web = ("PORT", self.host, self.port)
        simulator = ("SIMULATOR_PORT", "127.0.0.1", self.simulator_port)
        return (web, simulator) if self.simulated else (web,)


def read(mode: Mode, *, now_ms: int) -> Options:
    """The options of this environment, for a stack that starts now. Raises ImproperlyConfigured."""
    env = Env(eager=False)
    host = env.str("HOST", "127.0.0.1")
    simulator_port = env.int("SIMULATOR_PORT", settings.PORT + 1, validate=between(1, 65_535))
    seed = env.int("SIMULATOR_SEED", 7)
    # The settings have put the embedded one where none is given.
    redis_url = env.str("REDIS_URL", "")
    try:
        env.seal()
    except EnvError as error:
        raise ImproperlyConfigured(f"environment: {error}") from None
    if mode == "demo" and simulator_port == settings.PORT:
        raise ImproperlyConfigured(f"environment: PORT and SIMULATOR_PORT are both {settings.PORT}")
    return Options(
        mode=mode,
        started_ms=now_ms,
        home=settings.ORACLE_HOME / _HOMES[mode],
        host=host,
        port=settings.PORT,
        simulator_port=simulator_port,
        simulator_seed=seed,
        database_url=settings.DATABASE_URL,
        redis_url=redis_url,
    )
