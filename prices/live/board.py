"""The price board and the rate board, copied into this process and kept so by Redis pub/sub.

While the subscription is lost, reads go to Redis; while Redis is away too, the last known prices
are answered: `Board.away` says that nobody knows whether they are current.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import structlog
from django.conf import settings
from redis.asyncio import Redis
from redis.exceptions import RedisError

from market import query
from market.query import ApiError
from market.symbols import UnknownSymbolError, resolve, slug
from oracle import keys
from oracle.catalog import Catalog
from prices.live.entry import Entry, Kind

# A Redis that did not answer is not asked again for each request.
PAUSE_SECONDS = 0.5
MAX_TEXT = 64  # as long as `market.query` reads a symbol
# In one request or message: looking up each costs a little, and everybody else's turn.
MAX_SYMBOLS = 1_000

Listener = Callable[[Entry], None]

_decode_catalog = msgspec.json.Decoder(Catalog).decode

log = structlog.get_logger(__name__)


class Board:
    """Every price and rate of the catalogue's symbols. Belongs to one event loop."""

    def __init__(self, redis: Redis, on_update: Listener) -> None:
        self._redis = redis
        self._on_update = on_update
        self._version: bytes | None = None
        self._asked_at = 0.0
        self._held: dict[Kind, dict[str, Entry]] = {"price": {}, "rate": {}}
        self._spelled: dict[str, str] = {}
        self.catalog = Catalog()
        self.names: tuple[str, ...] = ()
        # True while the subscription delivers.
        self.is_subscribed = False
        # True when neither the subscription nor Redis says what is current.
        self.away = False

    # --- reading ---

    def symbol(self, text: str) -> str | None:
        """The symbol that ``text`` means; None when none is known here or more than one."""
        name = self._spelled.get(text)
        if name is not None or len(text) > MAX_TEXT:
            return name
        try:
            return resolve(text, self.catalog.names)
        except UnknownSymbolError:
            return None

    def symbols(self, texts: Iterable[str]) -> frozenset[str]:
        """The symbols that ``texts`` mean, MAX_SYMBOLS at most.

        Raises ApiError: 400, 404 for the first that is unknown, 503 while none is known.
        """
        if not self.names:
            message = "no symbols are known yet: try again in a moment"
            raise ApiError(503, "REDIS_UNAVAILABLE", message)
        wanted = set(texts)
        if len(wanted) > MAX_SYMBOLS:
            message = f"at most {MAX_SYMBOLS} symbols at once, got {len(wanted)}"
            raise ApiError(400, "BAD_REQUEST", message)
        return frozenset(self.symbol(text) or query.symbol(text, self.catalog) for text in wanted)

    def price(self, name: str, now_ms: int) -> Entry | None:
        """The spot index of a symbol; None when there is none."""
        return self._current("price", name, now_ms)

    def rate(self, name: str, now_ms: int) -> Entry | None:
        """The trade rate of a symbol; None when there is none."""
        return self._current("rate", name, now_ms)

    def published(self, name: str, now_ms: int) -> Entry | None:
        """What REST and the streams answer for a symbol: see `prices.published`."""
        kind: Kind = "price" if name in self.catalog.spot_names else "rate"
        return self._current(kind, name, now_ms)

    def _current(self, kind: Kind, name: str, now_ms: int) -> Entry | None:
        entry = self._held[kind].get(name)
        return entry if entry is not None and entry.is_kept(now_ms) else None

    async def ensure(self, names: Iterable[str] | None = None) -> None:
        """Before a read: ask Redis for these symbols (None: all) if the subscription is lost."""
        if self.is_subscribed:
            return
        now = time.monotonic()
        if self.away and now - self._asked_at < PAUSE_SECONDS:
            return
        self._asked_at = now
        try:
            await self._read(self.names if names is None else names)
            self.away = False
        except (RedisError, OSError) as error:
            if not self.away:
                log.warning("board.away", error=str(error))
            self.away = True

    # --- keeping it current ---

    async def load(self) -> None:
        """Read the catalogue and all prices. Raises RedisError, OSError."""
        await self.follow_catalog()
        await self._read(self.names)

    async def follow_catalog(self) -> None:
        """Read the catalogue again if it changed, and the prices of new symbols.

        Without one in Redis, or with one of the other world, the last is kept.
        """
        version: Any = await self._redis.get(keys.catalog_version())
        if version is None or version == self._version:
            return
        text = await self._redis.get(keys.catalog())
        catalog = _decode_catalog(text) if text is not None else Catalog()
        if not catalog.symbols or catalog.simulated != settings.SIMULATED:
            return
        known = set(self.names)
        self.catalog, self.names = catalog, tuple(sorted(catalog.names))
        self._spelled = _spellings(self.names)
        for entries in self._held.values():
            for gone in entries.keys() - catalog.names:
                del entries[gone]
        await self._read(name for name in self.names if name not in known)
        self._version = version

    def take(self, kind: Kind, text: bytes) -> None:
        """A published price or rate. Raises msgspec.MsgspecError for what is none."""
        entry = Entry(kind, text)
        if self._is_news(entry):
            self._held[kind][entry.head.symbol] = entry
            self._on_update(entry)

    def _is_news(self, entry: Entry) -> bool:
        """A message may be older than what was read after it was sent, or of the other world."""
        head = entry.head
        if head.simulated != settings.SIMULATED:
            return False
        known = self._held[entry.kind].get(head.symbol)
        if known is not None:
            return head.timestamp_ms >= known.head.timestamp_ms and entry.text != known.text
        return head.symbol in self.catalog.names

    async def _read(self, names: Iterable[str]) -> None:
        wanted = list(names)
        if not wanted:
            return
        texts: list[Any] = await self._redis.mget(
            [*(keys.price(name) for name in wanted), *(keys.rate(name) for name in wanted)]
        )
        for position, text in enumerate(texts):
            if text:
                self.take("price" if position < len(wanted) else "rate", text)


def _spellings(names: Iterable[str]) -> dict[str, str]:
    """The usual spellings of each symbol; `resolve` knows the others."""
    found: dict[str, str] = {}
    for name in names:
        for text in (slug(name), slug(name).upper(), name):
            found[text] = name
    return found
