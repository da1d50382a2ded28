"""Every Redis key, built here and nowhere else, under the one prefix of the settings."""

from __future__ import annotations

from django.conf import settings


def _key(*parts: object) -> str:
    return ":".join((settings.REDIS_PREFIX, *map(str, parts)))


def catalog() -> str:
    """Symbols and listings as JSON: the hot path reads them here, never in the database."""
    return _key("catalog")


def catalog_version() -> str:
    """Digest of the catalogue: asked each tick, so that the whole is read only when it changed."""
    return _key("catalog", "version")


def tickers(exchange: str) -> str:
    """Hash exchange_symbol → ticker."""
    return _key("tickers", exchange)


def feed(exchange: str) -> str:
    """Hash: what the exchange's ticker feed did last (digest, times, last error)."""
    return _key("feed", exchange)


def price(symbol: str) -> str:
    """The spot index of a symbol, JSON."""
    return _key("price", symbol)


def candle(symbol: str, minute_ms: int) -> str:
    """Hash: the 1m candle of one symbol that opens at ``minute_ms``."""
    return _key("candle", symbol, minute_ms)


def open_candles() -> str:
    """Sorted set ``symbol|minute_ms`` by minute: the candles that a flush has still to take."""
    return _key("candles", "open")


def flush_last(symbol: str | None = None) -> str:
    """When and what was flushed last, in all or of one symbol."""
    return _key("flush", "last") if symbol is None else _key("flush", "last", symbol)


def circuit(exchange: str) -> str:
    """Hash: the circuit breaker of an exchange."""
    return _key("circuit", exchange)


def budget(exchange: str, name: str) -> str:
    """Hash: what is spent of an exchange's request budget."""
    return _key("budget", exchange, name)


def blocked(exchange: str, name: str | None = None) -> str:
    """Hash: until when an exchange, or one of its budgets, asked not to be called."""
    return _key("blocked", exchange) if name is None else _key("blocked", exchange, name)


def suspects(exchange: str) -> str:
    """Which symbols an exchange may not know, JSON: see `ingestion.suspects`."""
    return _key("suspects", exchange)


def leader(role: str) -> str:
    """Who holds a long-lived role."""
    return _key("leader", role)


def fence(resource: str) -> str:
    """The highest fencing token that has written to a resource."""
    return _key("fence", resource)


def tokens(name: str) -> str:
    """The last fencing token drawn for a lock or role."""
    return _key("fence", name, "drawn")


def lock(name: str) -> str:
    """A lock."""
    return _key("lock", name)


def heartbeat(role: str) -> str:
    """When a role last did its work, JSON."""
    return _key("heartbeat", role)


def ratelimit(address: str, scope: str) -> str:
    """Sorted set: the requests of one address in one scope during the last minute."""
    return _key("ratelimit", address, scope)


def channel(name: str) -> str:
    """Pub/sub channel: prices, rates, candles."""
    return _key(name)
