"""What an exchange's collector knows of its trades: which are new, and which it has to ask for.

Two kinds of exchange, two ledgers with the same methods. Both write, in order, into one outlet:
new trades, and notes about holes. A hole is noted before the trade that reveals it and taken back
after the trades that fill it, so that whoever takes over knows of it in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from ingestion.dedupe import CountedIds, RecentIds
from oracle.trade_log import Hole, LoggedTrade, Position, logged
from oracle.values import Trade

SHORTEST_PAGE = 50  # every exchange that numbers its trades lists at least as many at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Holes to take back and to name, in this order."""

    forget: Hole | None = None
    record: tuple[Hole, ...] = ()


class Wanted(NamedTuple):
    """Ask for the trades after this one."""

    after_id: str
    after_ms: int


Outlet = Callable[[LoggedTrade | Note], None]


class Ledger(Protocol):
    """What the collector asks of either kind."""

    incomplete: set[str]  # symbols whose trades are to be asked for, as soon as possible

    def resume(
        self,
        known: Mapping[str, Position],
        *,
        holes: Sequence[Hole],
        trades: Iterable[LoggedTrade],
        now_ms: int,
    ) -> None:
        """Go on where another collector stopped: its positions, open holes and latest trades."""
        ...

    def interrupted(self, symbols: Iterable[str], *, now_ms: int, why: str) -> None:
        """Be told that nobody listens to these symbols from now on."""
        ...

    def listening(self, symbols: Iterable[str], *, now_ms: int) -> None:
        """Be told that somebody listens to these symbols from now on, or did a while ago."""
        ...

    def take(self, trade: Trade, fills: int = 1) -> bool:
        """Put a trade out if it is new; False for a duplicate."""
        ...

    def lost(self, symbols: Iterable[str], *, now_ms: int, why: str) -> None:
        """Be told that a trade of these symbols may just have been lost."""
        ...

    def wanted(self, symbol: str) -> Wanted | None:
        """What to ask for to complete a symbol; None: nothing."""
        ...

    def settle(self, symbol: str, trades: Sequence[Trade], *, complete: bool = True) -> bool:
        """Take what was asked for; False when it brought us no nearer.

        ``complete``: the answer held no other trades, such as cannot be read.
        """
        ...

    def give_up(self, symbol: str, *, why: str) -> int:
        """Name what could not be had; how many holes that makes."""
        ...


def last_heard_ms(known: Mapping[str, Position]) -> int | None:
    """When a predecessor was surely still listening; None: there was none."""
    return max((position.event_ms for position in known.values()), default=None)


class CountedLedger:
    """For exchanges that number the trades of a symbol one by one."""

    def __init__(self, put: Outlet, *, now_ms: Callable[[], int]) -> None:
        self._put = put
        self._now_ms = now_ms
        self._tracks: dict[str, CountedIds] = {}
        self._open: dict[str, Hole] = {}
        self._since_ms: dict[str, int] = {}
        self._unsure: set[str] = set()  # interrupted before their first trade
        # Interrupted since: a jump of the ids would tell what was missed, but only with the next
        # trade, and a quiet symbol may not have one for an hour.
        self._unconfirmed: set[str] = set()
        self._predecessor_ms: int | None = None
        self.incomplete: set[str] = set()

    def resume(
        self,
        known: Mapping[str, Position],
        *,
        holes: Sequence[Hole],
        trades: Iterable[LoggedTrade],
        now_ms: int,
    ) -> None:
        for symbol, position in known.items():
            if position.trade_id.isdigit():
                self._tracks[symbol] = CountedIds(int(position.trade_id), position.event_ms)
        for hole in holes:
            track = self._tracks.get(hole.exchange_symbol)
            if track is None or track.high is None or hole.after_id is None:
                continue
            newest, track.high = track.high, int(hole.after_id)
            latest_ms, track.event_ms = track.event_ms, hole.from_ms
            track.accept(newest, event_ms=latest_ms)
            self._open[hole.exchange_symbol] = hole
        for trade in trades:
            if trade.exchange_symbol in self._open and trade.trade_id is not None:
                last = int(trade.trade_id)
                self._tracks[trade.exchange_symbol].forget_known(
                    range(last - trade.fills + 1, last + 1)
                )
        for symbol in list(self._open):
            self._close_if_complete(symbol)
        self._unconfirmed.update(self._tracks)
        self._predecessor_ms = last_heard_ms(known)
        self.incomplete.update(self._open)

    def interrupted(self, symbols: Iterable[str], *, now_ms: int, why: str) -> None:
        for symbol in symbols:
            if symbol in self._tracks:
                self._unconfirmed.add(symbol)
            elif symbol in self._since_ms:
                self._unsure.add(symbol)

    def listening(self, symbols: Iterable[str], *, now_ms: int) -> None:
        for symbol in symbols:
            if symbol not in self._since_ms and symbol not in self._tracks:
                self._since_ms[symbol] = now_ms
                # A predecessor may have listened to it too, without a trade to remember it by.
                if self._predecessor_ms is not None:
                    self._unsure.add(symbol)
                    self._since_ms[symbol] = min(now_ms, self._predecessor_ms)
            if symbol in self._unconfirmed:
                self.incomplete.add(symbol)

    def take(self, trade: Trade, fills: int = 1) -> bool:
        symbol, trade_id = trade.exchange_symbol, trade.trade_id
        track = self._tracks.get(symbol)
        if trade_id is None or not trade_id.isdigit():
            self._put(logged(trade))  # nothing to tell it apart by
            return True
        if track is None:
            track = self._tracks[symbol] = CountedIds()
            self._first(trade)
        span_count = len(track.missing)
        is_new = track.accept(int(trade_id), event_ms=trade.event_ms, fills=fills)
        if len(track.missing) > span_count:
            self._opened(trade, track)
        if is_new:
            self._put(logged(trade, fills))
            if span_count and symbol in self._open:
                self._close_if_complete(symbol)
        return is_new

    def lost(self, symbols: Iterable[str], *, now_ms: int, why: str) -> None:
        """Do nothing: the next id that is accepted jumps over the lost one."""

    def wanted(self, symbol: str) -> Wanted | None:
        track = self._tracks.get(symbol)
        if track is None:
            return None
        if not track.missing:
            unconfirmed = symbol in self._unconfirmed and track.high is not None
            return Wanted(str(track.high), track.event_ms) if unconfirmed else None
        span = min(track.missing)
        return Wanted(str(span.first - 1), span.after_ms)

    def settle(self, symbol: str, trades: Sequence[Trade], *, complete: bool = True) -> bool:
        track = self._tracks[symbol]
        if not track.missing and symbol in self._unconfirmed:
            # Asked for all after our newest, with the socket listening: unless the exchange has cut
            # its answer short, nothing is missing now.
            taken = [self.take(trade) for trade in trades]
            if sum(taken) < SHORTEST_PAGE and complete:
                self._unconfirmed.discard(symbol)
            return complete or any(taken)
        high = track.high or 0
        # Ids beyond our newest are about to come by the socket.
        taken = [
            self.take(trade)
            for trade in trades
            if trade.trade_id and trade.trade_id.isdigit() and int(trade.trade_id) <= high
        ]
        return any(taken)

    def give_up(self, symbol: str, *, why: str) -> int:
        track = self._tracks[symbol]
        if not track.missing:
            self._unconfirmed.discard(symbol)
            self._put(Note(record=(self._unconfirmed_hole(symbol, track, why),)))
            return 1
        lost = tuple(
            Hole(
                exchange_symbol=symbol,
                after_id=str(span.first - 1),
                before_id=str(span.last + 1),
                from_ms=span.after_ms,
                to_ms=track.event_ms,
                missing=span.last - span.first + 1,
                reason=why,
                found_ms=self._now_ms(),
            )
            for span in sorted(track.missing)
        )
        track.missing.clear()
        self._put(Note(forget=self._open.pop(symbol, None), record=lost))
        return len(lost)

    def _unconfirmed_hole(self, symbol: str, track: CountedIds, why: str) -> Hole:
        return Hole(
            exchange_symbol=symbol,
            after_id=str(track.high),
            before_id=None,
            from_ms=track.event_ms,
            to_ms=max(self._now_ms(), track.event_ms),
            missing=None,
            reason=f"nobody listened for a while; {why}",
            found_ms=self._now_ms(),
        )

    def _first(self, trade: Trade) -> None:
        symbol = trade.exchange_symbol
        if symbol in self._unsure:
            self._unsure.discard(symbol)
            hole = Hole(
                exchange_symbol=symbol,
                after_id=None,
                before_id=trade.trade_id,
                from_ms=self._since_ms[symbol],
                to_ms=max(trade.event_ms, self._since_ms[symbol]),
                missing=None,
                reason="the socket was down before its first trade came",
                found_ms=self._now_ms(),
            )
            self._put(Note(record=(hole,)))

    def _opened(self, trade: Trade, track: CountedIds) -> None:
        """Note a hole; one that is being fetched already grows, should we die before it is had."""
        symbol, span = trade.exchange_symbol, track.missing[-1]
        known = self._open.get(symbol)
        if known is not None:
            if trade.event_ms > known.to_ms:  # else a fill has cut its span in two
                self._open[symbol] = replace(known, to_ms=trade.event_ms)
                self._put(Note(forget=known, record=(self._open[symbol],)))
            return
        hole = Hole(
            exchange_symbol=symbol,
            after_id=str(span.first - 1),
            before_id=None,
            from_ms=span.after_ms,
            to_ms=trade.event_ms,
            missing=None,
            reason="being fetched",
            is_open=True,
            found_ms=self._now_ms(),
        )
        self._open[symbol] = hole
        self.incomplete.add(symbol)
        self._put(Note(record=(hole,)))

    def _close_if_complete(self, symbol: str) -> None:
        if not self._tracks[symbol].missing:
            self._put(Note(forget=self._open.pop(symbol)))


@dataclass(slots=True, kw_only=True)
class Break:
    """Nobody listened to a symbol for a while: what was known before, and what came first after."""

    hole: Hole
    before: frozenset[str]
    first_after: str | None = None


class RecentLedger:
    """For exchanges whose ids have no order: an interruption is a hole until proven otherwise.

    The proof is a list of recent trades that reaches from one we had before to one that came after.
    """

    def __init__(self, put: Outlet, *, now_ms: Callable[[], int]) -> None:
        self._put = put
        self._now_ms = now_ms
        self._tracks: dict[str, RecentIds] = {}
        self._newest: dict[str, Position] = {}
        self._breaks: dict[str, Break] = {}
        self._predecessor_ms: int | None = None
        self.incomplete: set[str] = set()

    def resume(
        self,
        known: Mapping[str, Position],
        *,
        holes: Sequence[Hole],
        trades: Iterable[LoggedTrade],
        now_ms: int,
    ) -> None:
        self._newest.update(known)
        self._predecessor_ms = last_heard_ms(known)
        for symbol, position in known.items():
            self._tracks[symbol] = RecentIds([position.trade_id])
        for trade in trades:
            if trade.trade_id is not None:
                self._tracks.setdefault(trade.exchange_symbol, RecentIds()).accept(trade.trade_id)
        # What was known before an older interruption is gone: it stays named as it is.
        for hole in holes:
            lost = replace(hole, is_open=False, reason="the collector changed meanwhile")
            self._put(Note(forget=hole, record=(lost,)))
        self.interrupted(known, now_ms=now_ms, why="the collector changed")

    def interrupted(self, symbols: Iterable[str], *, now_ms: int, why: str) -> None:
        for symbol in symbols:
            if symbol in self._newest:
                self._interrupt(symbol, now_ms=now_ms, why=why)

    def listening(self, symbols: Iterable[str], *, now_ms: int) -> None:
        for symbol in symbols:
            broken = self._breaks.get(symbol)
            if broken is not None and broken.first_after is None:
                self._interrupt(symbol, now_ms=now_ms, why=broken.hole.reason)
            elif symbol not in self._newest:
                since_ms = self._predecessor_ms
                self._newest[symbol] = Position(trade_id="", event_ms=since_ms or now_ms)
                if since_ms is not None:
                    self._interrupt(symbol, now_ms=now_ms, why="the collector changed")

    def take(self, trade: Trade, fills: int = 1) -> bool:
        if not self._accept(trade):
            return False
        if self._breaks:
            broken = self._breaks.get(trade.exchange_symbol)
            if broken is not None and broken.first_after is None:
                self._resumed(broken, trade)
        self._put(logged(trade))
        return True

    def lost(self, symbols: Iterable[str], *, now_ms: int, why: str) -> None:
        for symbol in symbols:
            broken = self._breaks.get(symbol)
            if broken is None or broken.first_after is not None:
                self._interrupt(symbol, now_ms=now_ms, why=why)

    def wanted(self, symbol: str) -> Wanted | None:
        broken = self._breaks.get(symbol)
        if broken is None or broken.first_after is None:
            return None
        return Wanted(broken.hole.after_id or "", broken.hole.from_ms)

    def settle(self, symbol: str, trades: Sequence[Trade], *, complete: bool = True) -> bool:
        broken = self._breaks[symbol]
        ids = [trade.trade_id for trade in trades]
        known = [index for index, each in enumerate(ids) if each in broken.before]
        start = known[-1] + 1 if known else 0
        if broken.first_after is None:
            return False  # interrupted again meanwhile
        for trade in trades[start:]:
            if known or trade.event_ms > broken.hole.from_ms:
                self._accept_and_put(trade)
        if not (complete and known and broken.first_after in ids[start:]):
            return False
        del self._breaks[symbol]
        self._put(Note(forget=broken.hole))
        return True

    def give_up(self, symbol: str, *, why: str) -> int:
        broken = self._breaks.pop(symbol)
        lost = replace(broken.hole, is_open=False, reason=f"{broken.hole.reason}; {why}")
        self._put(Note(forget=broken.hole, record=(lost,)))
        return 1

    def _accept(self, trade: Trade) -> bool:
        symbol, trade_id = trade.exchange_symbol, trade.trade_id
        track = self._tracks.get(symbol)
        if track is None:
            track = self._tracks[symbol] = RecentIds()
        if trade_id is None:
            return True
        if not track.accept(trade_id):
            return False
        self._newest[symbol] = Position(trade_id=trade_id, event_ms=trade.event_ms)
        return True

    def _accept_and_put(self, trade: Trade) -> None:
        newest = self._newest.get(trade.exchange_symbol)
        if self._accept(trade):
            self._put(logged(trade))
            if newest is not None:
                self._newest[trade.exchange_symbol] = newest

    def _interrupt(self, symbol: str, *, now_ms: int, why: str) -> None:
        """Open a hole from the newest trade on, or widen the one there is."""
        newest = self._newest.setdefault(symbol, Position(trade_id="", event_ms=now_ms))
        broken = self._breaks.get(symbol)
        track = self._tracks.get(symbol)
        hole = Hole(
            exchange_symbol=symbol,
            after_id=broken.hole.after_id if broken else newest.trade_id or None,
            before_id=None,
            from_ms=broken.hole.from_ms if broken else newest.event_ms,
            to_ms=max(now_ms, newest.event_ms),
            missing=None,
            reason=why,
            is_open=True,
            found_ms=now_ms,
        )
        before = broken.before if broken else track.snapshot() if track else frozenset()
        self._breaks[symbol] = Break(hole=hole, before=before)
        self._put(Note(forget=broken.hole if broken else None, record=(hole,)))

    def _resumed(self, broken: Break, trade: Trade) -> None:
        """The first trade after an interruption: the hole ends here, and can be asked about."""
        widest_ms = max(broken.hole.to_ms, trade.event_ms)
        hole = replace(broken.hole, before_id=trade.trade_id, to_ms=widest_ms)
        self._put(Note(forget=broken.hole, record=(hole,)))
        broken.hole, broken.first_after = hole, trade.trade_id
        self.incomplete.add(trade.exchange_symbol)
