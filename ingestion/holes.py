"""Asking an exchange over REST for the trades that did not come by the socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

import structlog

from ingestion import http
from ingestion.adapter import Adapter, Parsed, UnreadableError
from ingestion.ledger import Ledger, Wanted
from ingestion.rest import Refused, call
from oracle import metrics
from oracle.values import Trade

# The first pause lets a trade that is only late arrive by itself. An exchange's database may trail
# its sockets, so an answer that lacks what we ask for is not believed at once.
PAUSES_SECONDS = (0.25, 1.0, 3.0, 10.0)
MAX_PAUSE_SECONDS = 30.0
PATIENCE_SECONDS = 900.0  # with an exchange that does not answer at all
CALLS_AT_ONCE = 2

log = structlog.get_logger(__name__)


class Filler:
    """Completes the symbols that a ledger calls incomplete, one task each."""

    def __init__(self, adapter: Adapter, ledger: Ledger, *, check: Callable[[Trade], bool]) -> None:
        self._adapter = adapter
        self._ledger = ledger
        self._check = check
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._calls = asyncio.Semaphore(CALLS_AT_ONCE)

    def start_wanted(self) -> None:
        """Begin with each symbol that has become incomplete."""
        incomplete = self._ledger.incomplete
        while incomplete:
            symbol = incomplete.pop()
            if symbol not in self._tasks:
                self._tasks[symbol] = asyncio.create_task(self._complete(symbol))

    async def stop(self) -> None:
        """Leave the rest to whoever comes next: it is noted."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _complete(self, symbol: str) -> None:
        attempts, began = 0, monotonic()
        try:
            await asyncio.sleep(PAUSES_SECONDS[0])
            while (wanted := self._ledger.wanted(symbol)) is not None:
                if monotonic() - began > PATIENCE_SECONDS:
                    self._give_up(symbol, "it would take too long")
                    return
                failure, pause = await self._attempt(symbol, wanted)
                if failure is None:
                    attempts = 0
                    continue
                attempts += failure.counts
                if attempts >= len(PAUSES_SECONDS) or failure.is_final:
                    self._give_up(symbol, failure.detail)
                    return
                await asyncio.sleep(pause or PAUSES_SECONDS[attempts])
        except Exception:
            # An adapter's bug must cost a hole that is named, not one that stays open for ever.
            log.exception("collect.fill_failed", exchange=self._adapter.NAME, symbol=symbol)
            self._give_up(symbol, "a bug of the adapter")
        finally:
            del self._tasks[symbol]

    async def _attempt(self, symbol: str, wanted: Wanted) -> tuple[_Failure | None, float]:
        """One call. None: it brought us nearer. Also how long to wait, 0: not said."""
        try:
            parsed = await self._fetch(symbol, wanted)
        except Refused as error:
            pause = min(max(error.wait_ms / 1_000, 0.05), MAX_PAUSE_SECONDS)
            return _Failure(str(error), is_final=not error.retryable), pause
        except (http.FetchError, UnreadableError) as error:
            return _Failure(str(error)), PAUSES_SECONDS[-1] / 2
        # Those before the hole are there to be recognised, however old they are.
        trades = [t for t in parsed.values if t.event_ms <= wanted.after_ms or self._check(t)]
        for row in parsed.unresolved:
            metrics.TRADE_ERRORS.labels(self._adapter.NAME, row.code.value).inc()
        complete = len(trades) == len(parsed.values) and not parsed.unresolved
        if self._ledger.wanted(symbol) is None or self._ledger.settle(
            symbol, trades, complete=complete
        ):
            return None, 0.0
        if not complete:
            return _Failure("a trade that it lists cannot be read"), PAUSES_SECONDS[-1] / 2
        return _Failure("the exchange does not list them", counts=1), 0.0

    async def _fetch(self, symbol: str, wanted: Wanted) -> Parsed[Trade]:
        adapter = self._adapter
        request = adapter.trades_request(symbol, after_id=wanted.after_id, after_ms=wanted.after_ms)
        async with self._calls:
            return await asyncio.to_thread(
                call, adapter, request, lambda a: adapter.parse_trades(a, symbol), spare=True
            )

    def _give_up(self, symbol: str, why: str) -> None:
        if self._ledger.wanted(symbol) is None:
            return
        count = self._ledger.give_up(symbol, why=why)
        metrics.TRADE_HOLES.labels(self._adapter.NAME).inc(count)
        log.warning(
            "collect.hole", exchange=self._adapter.NAME, symbol=symbol, holes=count, why=why
        )


class _Failure:
    """Why an attempt brought nothing. ``counts`` 0: the exchange has not answered yet."""

    def __init__(self, detail: str, *, counts: int = 0, is_final: bool = False) -> None:
        self.detail = detail
        self.counts = counts
        self.is_final = is_final
