"""How many requests an address may make: one limiter for every door, exact under concurrency.

A read API must not die of its limiter: while Redis is away, requests pass, and a log line and a
counter say so.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import structlog
from django.conf import settings
from prometheus_client import Counter
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from oracle import keys
from oracle.connection import RedisHangsError, note_timeout, quickly, run_script

WINDOW_MS = 60_000
IPV6_CLIENT_BITS = 64
# Proxies may add the port of the client: 203.0.113.9:4711, [2001:db8::9]:4711.
_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d+)?|([^:]+):\d+")

UNCHECKED = Counter(
    "oracle_ratelimit_unchecked", "Requests let through because Redis was away.", ("scope",)
)

log = structlog.get_logger(__name__)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """May the request be served? ``retry_after_ms``: when the next would be; 0 when this one is."""

    allowed: bool
    retry_after_ms: int = 0


def take(address: str, scope: str, *, window_ms: int = WINDOW_MS) -> Verdict:
    """Count one request of ``address`` in ``scope``; a refused one is not counted.

    Asks Redis for no longer than `quickly` allows; without an answer the request passes.
    """
    limit = settings.RATE_LIMIT_PER_MINUTE
    try:
        with quickly():
            passed, number = run_script(
                "ratelimit",
                [keys.ratelimit(address, scope)],
                [limit, window_ms, secrets.token_hex(8)],
            )
    except RedisError as error:
        # Not to have asked is no news: noted again, a hang would last as long as requests come.
        if isinstance(error, RedisTimeoutError) and not isinstance(error, RedisHangsError):
            note_timeout()
        UNCHECKED.labels(scope).inc()
        log.warning("ratelimit.unchecked", scope=scope, error=str(error))
        return Verdict(allowed=True)
    return Verdict(allowed=True) if passed else Verdict(allowed=False, retry_after_ms=int(number))


def client_address(peer: str, forwarded_for: str, trusted: Sequence[str]) -> str:
    """The address a request is counted under: the peer, or the client that trusted proxies name.

    ``forwarded_for`` (X-Forwarded-For) is believed only from a trusted peer, and only from its
    right end up to the first address that is not trusted: what stands left of it, anyone can write.
    An IPv6 client is its network: who has one address of a /64 has all of them.
    """
    nearest = _address(peer)
    if nearest is None:
        return peer or "unknown"
    for hop in reversed(forwarded_for.split(",")):
        if not _is_in(nearest, trusted):
            break
        further = _address(hop.strip())
        if further is None:
            break
        nearest = further
    if isinstance(nearest, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(nearest), IPV6_CLIENT_BITS), strict=False))
    return str(nearest)


def is_trusted(peer: str, trusted: Sequence[str]) -> bool:
    """Whether what ``peer`` says about its own clients is believed."""
    address = _address(peer)
    return address is not None and _is_in(address, trusted)


def _is_in(address: Address, networks: Sequence[str]) -> bool:
    return any(address in network for network in _networks(tuple(networks)))


@cache
def _networks(trusted: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text, strict=False) for text in trusted)


def _address(text: str) -> Address | None:
    with_port = _WITH_PORT.fullmatch(text)
    if with_port:
        text = with_port[1] or with_port[2]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address
