"""An exchange's own candles of a range, page by page, whatever its order, limits and habits.

An exchange may leave out minutes without trades, so a page with fewer candles than it has minutes
is right: rows are trusted, never counts. But an exchange that lowers its limit says nothing of it:
an answer that may have been cut there is a page only as far as its rows reach, and the rest is
asked for by itself. What is not right is told apart: a page that could not be had has an ``error``,
one that the exchange does not keep is ``unavailable``. Nothing is skipped without a word.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from threading import Event
from time import monotonic

from django.conf import settings

from ingestion import breaker, http
from ingestion.adapter import Adapter, Parsed, UnreadableError
from ingestion.registry import ADAPTERS
from ingestion.rest import Refused, call
from market.ranges import TimeRange, cut, subtract
from oracle.catalog import CatalogListing
from oracle.values import RESOLUTIONS, Candle

ATTEMPTS = 5  # of one page, each after a longer pause
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.5, 20.0
MAX_LATE_SECONDS = 0.1  # after our own budget is free again
# So long a page waits for budgets, for the breaker, and for as long as an exchange asks us to.
PATIENCE_SECONDS = 120.0
# And so long after one that failed: for budgets, but not again for a breaker that has just opened.
# A dead exchange would have each of a hundred pages wait, and all others with it.
SHORT_PATIENCE_SECONDS = 10.0
MAX_NAMED = 3  # bad rows named in an error
LIMIT_STEP = 50  # each exchange's limit of rows is a multiple of it, but for Kraken's 720


@dataclass(frozen=True, slots=True, kw_only=True)
class CandlePage:
    """What came of asking for the candles that open in ``whole``.

    ``candles``: closed, inside, each time once, oldest first. With an ``error`` they are those that
    could be read all the same, mostly none; ``retryable`` False: a later try has the same one.
    ``unavailable``: the exchange keeps none so old.
    """

    whole: TimeRange
    candles: tuple[Candle, ...] = ()
    error: str | None = None
    unavailable: bool = False
    retryable: bool = True


class Stopped(Exception):
    """The caller's ``stop`` was set: the pages that did not come were not asked for."""


def fetch(
    listing: CatalogListing,
    *,
    resolution: str,
    whole: TimeRange,
    now_ms: int,
    newest_first: bool = False,
    attempts: int = ATTEMPTS,
    stop: Event | None = None,
) -> Iterator[CandlePage]:
    """Yield pages that together are ``whole``, as far as its candles are closed at ``now_ms``.

    They follow each other without a hole, from either end. Blocks while budgets, pauses and the
    exchange make it wait, and less long with ``attempts`` of 1, for one that has just failed.
    Raises ValueError for a resolution the exchange lacks, KeyError for an exchange without an
    adapter, and `Stopped` once ``stop`` is set.
    """
    step_ms = RESOLUTIONS[resolution]
    end_ms = min(whole.end_ms, now_ms // step_ms * step_ms)
    start_ms = -(-whole.start_ms // step_ms) * step_ms
    if start_ms >= end_ms:
        return
    asker = _Asker(
        adapter=ADAPTERS[listing.exchange],
        listing=listing,
        step_ms=step_ms,
        now_ms=now_ms,
        stop=stop or Event(),
    )
    yield from asker.pages(
        TimeRange(start_ms=start_ms, end_ms=end_ms), newest_first=newest_first, attempts=attempts
    )


@dataclass(slots=True, kw_only=True)
class _Asker:
    """One listing being asked for its candles; ``now_ms`` is when that began."""

    adapter: Adapter
    listing: CatalogListing
    step_ms: int
    now_ms: int
    stop: Event
    began: float = field(default_factory=monotonic)

    def pages(self, whole: TimeRange, *, newest_first: bool, attempts: int) -> Iterator[CandlePage]:
        kept, lost = self._split(whole)
        if lost is not None and not newest_first:
            yield CandlePage(whole=lost, unavailable=True)
        if kept is not None:
            yield from self._kept(kept, newest_first=newest_first, attempts=attempts)
        if lost is not None and newest_first:
            yield CandlePage(whole=lost, unavailable=True)

    def _split(self, whole: TimeRange) -> tuple[TimeRange | None, TimeRange | None]:
        """What of a range the exchange still keeps, and what it does not."""
        back = self.adapter.MAX_CANDLES_BACK
        if back is None:
            return whole, None
        oldest_ms = (self._clock_ms() // self.step_ms - back) * self.step_ms
        if oldest_ms <= whole.start_ms:
            return whole, None
        if oldest_ms >= whole.end_ms:
            return None, whole
        return replace(whole, start_ms=oldest_ms), replace(whole, end_ms=oldest_ms)

    def _kept(self, whole: TimeRange, *, newest_first: bool, attempts: int) -> Iterator[CandlePage]:
        length_ms = self.adapter.MAX_CANDLES_PER_CALL * self.step_ms
        allowed = attempts
        for part in cut(whole, length_ms=length_ms, newest_first=newest_first):
            try:
                pages = self._part(part, attempts=allowed)
            except _Refusal as refusal:
                # It will say the same of every other page.
                rest = (
                    replace(whole, end_ms=part.end_ms)
                    if newest_first
                    else replace(whole, start_ms=part.start_ms)
                )
                error = self._named(str(refusal))
                yield CandlePage(whole=rest, error=error, retryable=False)
                return
            # An exchange that has failed for good is not given as long a time for each page.
            allowed = 1 if any(page.error for page in pages) else attempts
            yield from reversed(pages) if newest_first else pages

    def _part(self, part: TimeRange, *, attempts: int) -> list[CandlePage]:
        """Pages that together are ``part``, oldest first. Raises `_Refusal`."""
        pages = self._page(part, attempts=attempts)
        for rest in subtract(part, [page.whole for page in pages]):
            pages += self._part(rest, attempts=attempts)
        return sorted(pages, key=lambda page: page.whole)

    def _page(self, whole: TimeRange, *, attempts: int) -> list[CandlePage]:
        """Ask until there is an answer. Raises `_Refusal` where there never will be one."""
        patience_seconds = PATIENCE_SECONDS if attempts > 1 else SHORT_PATIENCE_SECONDS
        failures, deadline = 0, monotonic() + patience_seconds
        while True:
            if self.stop.is_set():
                raise Stopped
            try:
                return self._attempt(whole)
            except _FailedError as error:
                failed = error
            failures += failed.counts
            wait_seconds = failed.wait_ms / 1_000
            if failed.counts:
                pause = min(FIRST_PAUSE_SECONDS * 2 ** (failures - 1), MAX_PAUSE_SECONDS)
                # Jitter, so that those who were refused together do not come back together.
                wait_seconds = max(wait_seconds, pause) * random.uniform(1.0, 1.3)
            else:
                wait_seconds += random.uniform(0.0, MAX_LATE_SECONDS)
            if failures >= attempts or monotonic() + wait_seconds > deadline:
                error_text = self._named(str(failed))
                return [CandlePage(whole=whole, candles=failed.candles, error=error_text)]
            if self.stop.wait(wait_seconds):
                raise Stopped

    def _attempt(self, whole: TimeRange) -> list[CandlePage]:
        """One call. Raises `_FailedError`, or `_Refusal` where another would be as vain."""
        try:
            self._await_breaker()
            return self._read(whole, self._call(whole))
        except Refused as error:
            if not error.retryable:
                raise _Refusal(str(error)) from error
            raise _FailedError(str(error), wait_ms=error.wait_ms, counts=error.sent) from error
        except http.FetchError as error:
            if not error.retryable:
                raise _Refusal(str(error)) from error
            raise _FailedError(f"{error.code}: {error}") from error
        except UnreadableError as error:
            raise _FailedError(f"{error.code}: {error}") from error

    def _call(self, whole: TimeRange) -> Parsed[Candle]:
        # Asked with the time as it is by now: OKX has another address for what is no longer recent.
        request = self.adapter.candles_request(
            self.listing.exchange_symbol,
            resolution_ms=self.step_ms,
            from_ms=whole.start_ms,
            to_ms=whole.end_ms,
            now_ms=self._clock_ms(),
        )
        return call(
            self.adapter,
            request,
            lambda answer: self.adapter.parse_candles(answer, resolution_ms=self.step_ms),
            spare=True,
        )

    def _read(self, whole: TimeRange, parsed: Parsed[Candle]) -> list[CandlePage]:
        """The page of an answer, or two. Raises `_FailedError`: it cannot be the whole truth.

        One that is less than ``whole`` where it may have been cut at a limit. Two where the
        exchange has let go of the oldest meanwhile: full, and begun later than asked.
        """
        inside = [c for c in parsed.values if whole.start_ms <= c.open_ms < whole.end_ms]
        candles = tuple(candle for candle in inside if candle.closed)
        if parsed.unresolved:
            rows = "; ".join(f"{row.code}: {row.detail}" for row in parsed.unresolved[:MAX_NAMED])
            detail = f"{len(parsed.unresolved)} rows cannot be read: {rows}"
            raise _FailedError(detail, candles=candles)
        if len(candles) < len(inside):
            raise _FailedError("it calls a past minute unfinished", candles=candles)
        back = self.adapter.MAX_CANDLES_BACK
        count = len(parsed.values)
        # So many rows are what a limit leaves, and it may be lower than we know.
        may_be_cut = count > 0 and count % LIMIT_STEP == 0
        if back is None:
            if not inside and parsed.values and parsed.values[-1].open_ms >= whole.end_ms:
                # Older rows say that there is none in between; newer ones answer another question.
                raise _FailedError("it answers with candles of another time")
            if candles and may_be_cut and count < whole.length_ms // self.step_ms:
                end_ms = candles[-1].open_ms + self.step_ms
                whole = TimeRange(start_ms=candles[0].open_ms, end_ms=end_ms)
            return [CandlePage(whole=whole, candles=candles)]
        # No upper bound is taken here, so newer rows are right.
        first_ms = parsed.values[0].open_ms if may_be_cut or count >= back else whole.start_ms
        if first_ms <= whole.start_ms:
            return [CandlePage(whole=whole, candles=candles)]
        if first_ms >= whole.end_ms:
            return [CandlePage(whole=whole, unavailable=True)]
        return [
            CandlePage(whole=replace(whole, end_ms=first_ms), unavailable=True),
            CandlePage(whole=replace(whole, start_ms=first_ms), candles=candles),
        ]

    def _await_breaker(self) -> None:
        """Raises `Refused` while the exchange's circuit is open: tickers probe it, history not."""
        now_ms = self._clock_ms()
        circuit = breaker.states([self.adapter.NAME], now_ms=now_ms)[self.adapter.NAME]
        if circuit.state is breaker.State.OPEN and circuit.opened_ms is not None:
            left_ms = circuit.opened_ms + settings.BREAKER_OPEN_MS - now_ms
            if left_ms > 0:
                raise Refused(f"its circuit is open: {circuit.error}", wait_ms=left_ms, sent=False)

    def _clock_ms(self) -> int:
        return self.now_ms + round((monotonic() - self.began) * 1_000)

    def _named(self, failure: str) -> str:
        return f"{self.listing.exchange_symbol} on {self.listing.exchange}: {failure}"


class _Refusal(Exception):
    """The exchange will never answer this: it does not know the symbol, or us."""


class _FailedError(Exception):
    """A call that brought no whole answer; ``candles``: what there is of it all the same.

    ``wait_ms``: how long it is of no use to try again. ``counts`` False: nothing was asked.
    """

    def __init__(
        self,
        detail: str,
        *,
        candles: tuple[Candle, ...] = (),
        wait_ms: int = 0,
        counts: bool = True,
    ) -> None:
        super().__init__(detail)
        self.candles = candles
        self.wait_ms = wait_ms
        self.counts = counts
