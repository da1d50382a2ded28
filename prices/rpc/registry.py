"""Services, their versions and methods, and the context that a method answers in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from django.conf import settings

from prices.live.board import Board
from prices.live.entry import Render
from prices.rpc.errors import RpcError
from prices.rpc.memo import Memo

# The limits of the contract are those of the default setting; another setting scales them.
DEFAULT_PER_MINUTE = 100

Health = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What methods answer from. ``health`` and ``ready`` block: they are called in a thread."""

    board: Board
    render: Render
    memo: Memo
    health: Health
    ready: Health


Answer = msgspec.Raw | RpcError
Method = Callable[[Context, Mapping[str, Any], int], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodEntry:
    """A method: what answers it, how long an answer is good for, how often it may be called."""

    name: str
    call: Method
    cache_ms: int = 0
    per_minute: int = DEFAULT_PER_MINUTE
    scope: str = field(init=False)  # for the limiter and the metrics

    def __post_init__(self) -> None:
        object.__setattr__(self, "scope", f"rpc:{self.name}")

    @property
    def limit(self) -> int:
        """Its requests a minute and address."""
        return max(1, settings.RATE_LIMIT_PER_MINUTE * self.per_minute // DEFAULT_PER_MINUTE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Methods under a name and a version."""

    name: str
    version: str
    methods: tuple[MethodEntry, ...]
    streams: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """``Name@x.y.z``."""
        return f"{self.name}@{self.version}"


class Registry:
    """Every service."""

    def __init__(self, services: Iterable[Service]) -> None:
        self.services = tuple(services)
        self._methods = {
            (name, method.name): method
            for service in self.services
            for name in (service.full_name, service.name)
            for method in service.methods
        }

    def find(self, service: str, method: str) -> MethodEntry:
        """The method. Raises RpcError, 404, that lists what there is."""
        found = self._methods.get((service, method))
        if found is not None:
            return found
        known = {name: entry for entry in self.services for name in (entry.full_name, entry.name)}
        if service not in known:
            names = [entry.full_name for entry in self.services]
            raise RpcError.not_found(f"there is no service {service[:64]!r}", services=names)
        if method in known[service].streams:
            raise RpcError.not_found(f"{method} is a stream: ask for it over a WebSocket")
        raise RpcError.not_found(
            f"{known[service].full_name} has no method {method[:64]!r}",
            methods=[entry.name for entry in known[service].methods],
        )

    def description(self) -> list[dict[str, Any]]:
        """Services and methods, for discovery."""
        return [
            {
                "name": service.name,
                "version": service.version,
                "service": service.full_name,
                "methods": [
                    {"name": each.name, "maxAge": each.cache_ms, "perMinute": each.limit}
                    for each in service.methods
                ],
                "streams": list(service.streams),
            }
            for service in self.services
        ]
