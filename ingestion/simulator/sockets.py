"""The WebSocket doors of all exchanges, and what the faults do to open sockets."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from ingestion.simulator.assets import EXCHANGES
from ingestion.simulator.faults import EVERYWHERE, Fault, FaultBoard
from ingestion.simulator.venue import Venue
from ingestion.simulator.ws import binance, bybit, coinbase, kraken, kucoin, okx, upbit
from ingestion.simulator.ws.session import DialectMaker, Session

SOCKETS: dict[str, tuple[tuple[str, ...], DialectMaker]] = {
    "binance": (binance.PATHS, binance.BinanceSocket),
    "upbit": (upbit.PATHS, upbit.UpbitSocket),
    "kraken": (kraken.PATHS, kraken.KrakenSocket),
    "coinbase": (coinbase.PATHS, coinbase.CoinbaseSocket),
    "okx": (okx.PATHS, okx.OkxSocket),
    "bybit": (bybit.PATHS, bybit.BybitSocket),
    "kucoin": (kucoin.PATHS, kucoin.KucoinSocket),
}
# Only Binance's server pings its clients.
PING_EVERY_MS = {"binance": binance.PING_EVERY_MS}


class OpenSockets:
    """The sockets open now, by exchange."""

    def __init__(self) -> None:
        self._sessions: dict[str, set[Session]] = {name: set() for name in EXCHANGES}

    def counts(self) -> dict[str, int]:
        return {name: len(sessions) for name, sessions in self._sessions.items()}

    def add(self, exchange: str, session: Session) -> None:
        self._sessions[exchange].add(session)

    def remove(self, exchange: str, session: Session) -> None:
        self._sessions[exchange].discard(session)

    def feel(self, fault: Fault) -> None:
        """Drop the sockets a disconnect hits; let all others look at the faults again."""
        for exchange, sessions in self._sessions.items():
            hit = fault.name == "disconnect" and fault.exchange in (exchange, EVERYWHERE)
            for session in list(sessions):
                if hit:
                    session.cut()
                session.wake()

    async def close(self) -> None:
        for sessions in self._sessions.values():
            for session in list(sessions):
                await session.close()


OPEN_SOCKETS = web.AppKey("open_sockets", OpenSockets)


def socket_handler(
    name: str, make: DialectMaker, *, venue: Venue
) -> Callable[[web.Request], Awaitable[web.WebSocketResponse]]:
    """Return the web handler of an exchange's socket."""

    async def serve(request: web.Request) -> web.WebSocketResponse:
        session = Session(
            venue=venue, dialect=make(venue, request), ping_every_ms=PING_EVERY_MS.get(name)
        )
        sockets = request.app[OPEN_SOCKETS]
        sockets.add(name, session)
        try:
            return await session.run(request)
        finally:
            sockets.remove(name, session)

    return serve


def add_routes(app: web.Application, venues: dict[str, Venue], *, faults: FaultBoard) -> None:
    """Add every exchange's socket paths."""
    sockets = app[OPEN_SOCKETS] = OpenSockets()
    faults.listeners.append(sockets.feel)
    for name, (paths, make) in SOCKETS.items():
        handler = socket_handler(name, make, venue=venues[name])
        for path in paths:
            app.router.add_get(f"/{name}{path}", handler)
    app.on_shutdown.append(lambda _: sockets.close())
