"""What keeps the board current: one subscription to Redis, made again whenever it is lost."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import structlog
from django.conf import settings
from prometheus_client import Counter
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from oracle import keys
from prices.live.board import Board
from prices.live.entry import Kind

EVERY_SECONDS = 1.0  # the catalogue is looked at, and the subscription pinged
SILENT_SECONDS = 3.0  # a subscription that does not even answer a ping is lost
FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS = 0.1, 2.0
TIMEOUT_SECONDS = 0.5

LOST = Counter("oracle_live_subscription_lost", "Times the edge lost its subscription.")
UNREADABLE = Counter("oracle_live_unreadable", "Messages that were no price.", ("channel",))

log = structlog.get_logger(__name__)


def connect(*, retries: int = 1) -> Redis:
    """A client of this event loop's own. A Redis that hangs costs a request TIMEOUT_SECONDS.

    One retry is for a connection that a restart of Redis left half dead. A subscription has none:
    renewed behind our back, it would have missed what was published meanwhile.
    """
    return Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), retries, supported_errors=(RedisConnectionError,)),
    )


class Feed:
    """The subscription of one process."""

    def __init__(self, board: Board) -> None:
        self._redis = connect(retries=0)
        self._board = board
        self._channels: dict[bytes, Kind] = {
            keys.channel("prices").encode(): "price",
            keys.channel("rates").encode(): "rate",
        }
        self._heard_at = 0.0
        # Set once everything was loaded for the first time.
        self.subscribed = asyncio.Event()

    async def run(self) -> None:
        """Keep the board current, for ever."""
        delay = FIRST_RETRY_SECONDS
        while True:
            started = time.monotonic()
            try:
                await self._follow()
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("live.subscription_lost", error=str(error) or type(error).__name__)
            except Exception:
                log.exception("live.subscription_failed")
            finally:
                self._board.is_subscribed = False
            LOST.inc()
            if time.monotonic() - started > MAX_RETRY_SECONDS:
                delay = FIRST_RETRY_SECONDS
            await asyncio.sleep(delay)
            delay = min(2 * delay, MAX_RETRY_SECONDS)

    async def close(self) -> None:
        """Give the connection back."""
        await self._redis.aclose()

    async def _follow(self) -> None:
        """Subscribe, load everything, then take what comes until the connection is lost."""
        async with self._redis.pubsub() as subscription:
            await subscription.subscribe(*self._channels)
            await self._board.load()
            self._board.is_subscribed, self._board.away = True, False
            self._heard_at = time.monotonic()
            self.subscribed.set()
            tasks = [
                asyncio.create_task(self._listen(subscription)),
                asyncio.create_task(self._watch(subscription)),
            ]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, subscription: PubSub) -> None:
        while True:
            message = await subscription.get_message(timeout=None)
            self._heard_at = time.monotonic()
            if message is not None and message["type"] == "message":
                self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        kind = self._channels[message["channel"]]
        try:
            self._board.take(kind, message["data"])
        except msgspec.MsgspecError as error:
            UNREADABLE.labels(kind).inc()
            log.error("live.unreadable", channel=kind, error=str(error))

    async def _watch(self, subscription: PubSub) -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            if time.monotonic() - self._heard_at > SILENT_SECONDS:
                raise TimeoutError("the subscription has fallen silent")
            await subscription.ping()
            await self._board.follow_catalog()
