"""HealthService@1.0.0: the answers of /health, for those who speak JSON-RPC only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from prices.rpc.registry import Answer, Context, MethodEntry, Service

# Health is read from two stores: not for each of many who ask at once.
FRESH_SECONDS = 1.0


async def check(context: Context, given: Mapping[str, Any], now_ms: int) -> Answer:
    """Everything that /api/v1/health says."""

    async def work() -> msgspec.Raw:
        return msgspec.Raw(context.render(await context.memo.in_thread(context.health)))

    return await context.memo.get("health", FRESH_SECONDS, work)


async def live(context: Context, given: Mapping[str, Any], now_ms: int) -> Answer:
    """This process answers."""
    return msgspec.Raw(b'{"status":"ok"}')


async def ready(context: Context, given: Mapping[str, Any], now_ms: int) -> Answer:
    """Can it be sent requests?"""

    async def work() -> msgspec.Raw:
        return msgspec.Raw(context.render(await context.memo.in_thread(context.ready)))

    return await context.memo.get("ready", FRESH_SECONDS, work)


SERVICE = Service(
    name="HealthService",
    version="1.0.0",
    methods=(
        MethodEntry(name="check", call=check),
        MethodEntry(name="live", call=live),
        MethodEntry(name="ready", call=ready),
    ),
)
