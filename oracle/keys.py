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


def trades_stream(exchange: str) -> str:
    """Stream of trade batches: see `oracle.trade_log`."""
    return _key("stream", "trades", exchange)


def trade_positions(exchange: str) -> str:
    """Hash exchange_symbol → ``trade_id|event_ms`` of its newest logged trade."""
    return _key("trades", "positions", exchange)


def trade_batch(exchange: str) -> str:
    """Digest of the batch logged last: sent again, it is not logged again."""
    return _key("trades", "batch", exchange)


def trade_holes(exchange: str) -> str:
    """Sorted set of holes in the trade log, JSON, by the end of each."""
    return _key("trades", "holes", exchange)


def trades_poison() -> str:
    """Stream: entries of the trade log that nobody could read."""
    return _key("stream", "trades", "poison")


def trades_second(second: int) -> str:
    """Hash ``exchange|symbol`` → the sums of the trades of one second."""
    return _key("trades", "seconds", second)


def trades_minute(symbol: str, minute_ms: int) -> str:
    """Hash exchange → the sums of one symbol's trades of one minute; ``version`` of their changes.

    Exchanges' names are lower case and none is called version.
    """
    return _key("trades", "minutes", symbol, minute_ms)


def trades_dirty() -> str:
    """Sorted set ``symbol|minute_ms`` by minute: the totals that a flush has still to take."""
    return _key("trades", "dirty")


def trades_flushed() -> str:
    """Sorted set ``symbol|minute_ms`` by the time of their flush: totals kept for late trades."""
    return _key("trades", "flushed")


def trades_horizon() -> str:
    """The newest minute whose totals were flushed and forgotten."""
    return _key("trades", "horizon")


def trades_listening(minute_ms: int) -> str:
    """Set of the exchanges whose trades somebody was listening to during a minute."""
    return _key("trades", "listening", minute_ms)


def rate(symbol: str) -> str:
    """The trade rate of a symbol, JSON."""
    return _key("rate", symbol)


def rates_unsaved() -> str:
    """Sorted set of ticks by time, JSON: rates that are not in the price history yet."""
    return _key("rates", "unsaved")


def data_fetches(exchange: str) -> str:
    """Hash ``exchange|symbol|timeframe`` → how the last fetch of its candles went, JSON."""
    return _key("data", "fetches", exchange)


def fx() -> str:
    """Hash ``source|BASE/QUOTE`` → the currency rate that an authority published, JSON."""
    return _key("fx")
