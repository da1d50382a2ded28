"""The HTTP server: every exchange under its own prefix, with the faults in front."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from types import ModuleType

from aiohttp import web
from aiohttp.typedefs import Handler as WebHandler

from ingestion.simulator import cbr, control, sockets
from ingestion.simulator.assets import EXCHANGES
from ingestion.simulator.control import UNIVERSE
from ingestion.simulator.faults import CLEAR, Fault
from ingestion.simulator.garbage import error_page, garbled, next_shape
from ingestion.simulator.reply import Handler, Refused
from ingestion.simulator.rest import binance, bybit, coinbase, kraken, kucoin, okx, upbit
from ingestion.simulator.venue import Universe, Venue

REST: dict[str, ModuleType] = {
    "binance": binance,
    "upbit": upbit,
    "kraken": kraken,
    "coinbase": coinbase,
    "okx": okx,
    "bybit": bybit,
    "kucoin": kucoin,
}
VENUES: web.AppKey[dict[str, Venue]] = web.AppKey("venues")
SHUTDOWN_SECONDS = 0.5


def make_app(universe: Universe) -> web.Application:
    """Return the application of all exchanges, the control paths and the central bank."""
    app = web.Application(middlewares=[faults_first])
    app[UNIVERSE] = universe
    app[VENUES] = {name: universe.venue(name) for name in EXCHANGES}
    app[cbr.SEED] = universe.seed
    app[cbr.CLOCK] = universe.clock
    control.add_routes(app)
    app.router.add_get("/cbr/scripts/XML_daily.asp", cbr.daily)
    sockets.add_routes(app, app[VENUES], faults=universe.faults)
    for name, module in REST.items():
        if hasattr(module, "setup"):
            module.setup(app)
        for method, path, handler in module.ROUTES:
            app.router.add_route(method, f"/{name}{path}", served(name, handler))
        app.router.add_route("*", f"/{name}/{{tail:.*}}", unknown(module))
    return app


def served(name: str, handler: Handler) -> WebHandler:
    """Return the web handler of one exchange's path."""

    async def serve(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request.app[VENUES][name], request)
        except Refused as refused:
            return refused.response()

    return serve


def unknown(module: ModuleType) -> WebHandler:
    async def serve(request: web.Request) -> web.StreamResponse:
        response: web.StreamResponse = module.unknown_path()
        return response

    return serve


@web.middleware
async def faults_first(request: web.Request, handler: WebHandler) -> web.StreamResponse:
    """Let an exchange's active faults answer, delay or ruin a request."""
    name = request.path.split("/", 2)[1]
    if name not in REST:
        return await handler(request)
    venue = request.app[VENUES][name]
    board = venue.faults
    if board.get(name, "disconnect"):
        return cut_off(request)
    if fault := board.get(name, "half_open"):
        await never_answered(fault, clock=request.app[UNIVERSE].clock)
        return cut_off(request)
    if fault := board.get(name, "latency"):
        await asyncio.sleep(fault.value / 1000)
    if fault := board.get(name, "rate_limit"):
        answer: web.Response = REST[name].rate_limited(fault.value, now_ms=venue.stated_ms())
        return answer
    if fault := board.get(name, "error"):
        return error_page(fault.value)
    fault = board.get(name, "garbage")
    response = await handler(request)
    if fault and isinstance(response, web.Response) and isinstance(response.body, bytes):
        response.body = garbled(response.body, shape=next_shape(fault, name))
    return response


def cut_off(request: web.Request) -> web.Response:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def never_answered(fault: Fault, *, clock: Callable[[], int]) -> None:
    """Wait as long as the fault lasts."""
    seconds = None if fault.until_ms is None else max(0.0, (fault.until_ms - clock()) / 1000)
    try:
        await asyncio.wait_for(fault.ended.wait(), seconds)
    except TimeoutError:
        return


async def run(universe: Universe, *, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT."""
    runner = web.AppRunner(
        make_app(universe),
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=SHUTDOWN_SECONDS,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        announce(f"http://{host}:{bound_port(runner)}")
        warming = asyncio.create_task(warm_up(universe))
        await stopped()
        warming.cancel()
    finally:
        await runner.cleanup()


async def warm_up(universe: Universe) -> None:
    """Look a day back for every market, so that the first ticker call need not."""
    for market in universe:
        market.ticker(universe.clock(), lens=CLEAR)
        await asyncio.sleep(0)


def bound_port(runner: web.AppRunner) -> int:
    """Return the port in use, which port 0 leaves to the system."""
    return int(runner.addresses[0][1])


def stopped() -> Awaitable[object]:
    """Return what waits for the signal to stop."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop.wait()
