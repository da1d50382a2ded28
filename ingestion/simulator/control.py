"""The simulator's own interface: faults, tape, markets, health."""

import json
from collections.abc import Iterator

from aiohttp import web

from ingestion.simulator.assets import EXCHANGES
from ingestion.simulator.decimals import fixed
from ingestion.simulator.faults import EVERYWHERE, FAULTS, BadFault, FaultBoard
from ingestion.simulator.reply import dumped, reply
from ingestion.simulator.rest import bybit, kucoin, upbit
from ingestion.simulator.sockets import OPEN_SOCKETS
from ingestion.simulator.tape import MINUTE_MS, Trade
from ingestion.simulator.venue import Market, Universe

UNIVERSE = web.AppKey("universe", Universe)
MAX_TAPE_MS = 86_400_000


class BadRequest(Exception):
    """A control request that cannot be served."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def refusal(problem: BadRequest) -> web.Response:
    return reply(dumped({"error": {"message": str(problem)}}), status=problem.status)


async def health(request: web.Request) -> web.Response:
    """GET /control/health."""
    universe = request.app[UNIVERSE]
    body = {
        "status": "ok",
        "simulated": True,
        "seed": universe.seed,
        "rate_per_minute": universe.rate_per_minute,
        "time_ms": universe.clock(),
        "markets": sum(1 for _ in universe.markets),
        "faults": len(universe.faults.active()),
        "sockets": request.app[OPEN_SOCKETS].counts(),
    }
    return reply(dumped(body))


async def markets(request: web.Request) -> web.Response:
    """GET /control/markets."""
    rows = [
        {
            "exchange": listing.exchange,
            "exchange_symbol": listing.exchange_symbol,
            "base": listing.base,
            "quote": listing.quote,
        }
        for listing in request.app[UNIVERSE].markets
    ]
    return reply(dumped(rows))


async def faults(request: web.Request) -> web.Response:
    """GET /control/faults."""
    return active_faults(request.app[UNIVERSE].faults)


async def set_fault(request: web.Request) -> web.Response:
    """POST /control/faults."""
    board = request.app[UNIVERSE].faults
    try:
        board.set(json.loads(await request.read()))
    except BadFault as problem:
        return refusal(BadRequest(str(problem)))
    except ValueError:
        return refusal(BadRequest("the body is not JSON"))
    return active_faults(board)


async def clear_faults(request: web.Request) -> web.Response:
    """DELETE /control/faults[?exchange=&fault=]."""
    exchange, name = request.query.get("exchange"), request.query.get("fault")
    if exchange not in (None, EVERYWHERE, *EXCHANGES):
        return refusal(BadRequest(f"no exchange {exchange!r}"))
    if name not in (None, *FAULTS):
        return refusal(BadRequest(f"no fault {name!r}"))
    board = request.app[UNIVERSE].faults
    board.clear(exchange=exchange, name=name)
    return active_faults(board)


def active_faults(board: FaultBoard) -> web.Response:
    return reply(dumped([fault.as_json() for fault in board.active()]))


async def tape(request: web.Request) -> web.StreamResponse:
    """GET /control/tape: what the market really traded, whatever the faults made of it.

    Streamed minute by minute, as a busy day is larger than this process should be.
    """
    try:
        symbol, market, from_ms, to_ms = tape_question(request)
    except BadRequest as problem:
        return refusal(problem)
    to_ms = min(to_ms, request.app[UNIVERSE].clock() + 1)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    separator = "["
    for rows in tape_chunks(market, symbol=symbol, from_ms=from_ms, to_ms=to_ms):
        await response.write((separator + ",".join(rows)).encode())
        separator = ","
    await response.write(b"]" if separator == "," else b"[]")
    await response.write_eof()
    return response


def tape_question(request: web.Request) -> tuple[str, Market, int, int]:
    """Return (spelling, market, from_ms, to_ms); raise BadRequest for what cannot be answered."""
    query = request.query
    exchange, symbol = query.get("exchange", ""), query.get("symbol", "")
    if exchange not in EXCHANGES:
        raise BadRequest(f"no exchange {exchange!r}", status=404)
    market = request.app[UNIVERSE].market(exchange=exchange, spelling=symbol)
    if market is None:
        raise BadRequest(f"no symbol {symbol!r} on {exchange}", status=404)
    from_ms, to_ms = (
        whole_ms(query.get("from_ms"), "from_ms"),
        whole_ms(query.get("to_ms"), "to_ms"),
    )
    if from_ms > to_ms:
        raise BadRequest("from_ms must not be after to_ms")
    if to_ms - from_ms > MAX_TAPE_MS:
        raise BadRequest("the range must not be longer than a day")
    return market.listing.exchange_symbol, market, from_ms, to_ms


def whole_ms(text: str | None, name: str) -> int:
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 15:
        raise BadRequest(f"{name} must be whole milliseconds, not {text!r}")
    return int(text)


def tape_chunks(market: Market, *, symbol: str, from_ms: int, to_ms: int) -> Iterator[list[str]]:
    while from_ms < to_ms:
        end_ms = min(to_ms, (from_ms // MINUTE_MS + 1) * MINUTE_MS)
        rows = [
            tape_row(market, trade, symbol=symbol)
            for trade in market.tape.trades(from_ms=from_ms, to_ms=end_ms)
        ]
        if rows:
            yield rows
        from_ms = end_ms


def tape_row(market: Market, trade: Trade, *, symbol: str) -> str:
    listing = market.listing
    return (
        f'{{"exchange_symbol":"{symbol}","price":"{fixed(trade.price, listing.price_scale)}",'
        f'"size":"{fixed(trade.lots, listing.size_scale)}",'
        f'"side":"{"buy" if trade.taker_buys else "sell"}",'
        f'"trade_id":"{wire_trade_id(market, trade)}","event_ms":{trade.event_ms}}}'
    )


def wire_trade_id(market: Market, trade: Trade) -> str:
    """Return the id the exchange shows for a trade, as text."""
    exchange = market.listing.exchange
    if exchange == "upbit":
        return str(upbit.sequential_id(trade))
    if exchange == "bybit":
        return str(bybit.trade_id(trade))
    if exchange == "kucoin":
        return kucoin.trade_id(market, trade)
    return str(trade.number)


def add_routes(app: web.Application) -> None:
    """Add the control paths; none of them suffers any fault."""
    app.router.add_get("/control/health", health)
    app.router.add_get("/control/markets", markets)
    app.router.add_get("/control/faults", faults)
    app.router.add_post("/control/faults", set_fault)
    app.router.add_delete("/control/faults", clear_faults)
    app.router.add_get("/control/tape", tape)
