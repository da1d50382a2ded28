"""OKX v5 REST, after the OKX documentation and the recorded payloads. All values are texts."""

from aiohttp import web

from ingestion.simulator.candles import Candle
from ingestion.simulator.decimals import fixed, trimmed
from ingestion.simulator.faults import DAY_MS
from ingestion.simulator.reply import Refused, Route, dumped, reply
from ingestion.simulator.tape import GENESIS_MS, MINUTE_MS, Trade
from ingestion.simulator.venue import (
    Market,
    Venue,
    aligned_down,
    aligned_up,
    quote_scale,
    short_lots,
)

MAX_CANDLES = 300
MAX_HISTORY_CANDLES = 100
RECENT_CANDLES = 1_440
MAX_TRADES = 500
MAX_HISTORY_TRADES = 100
HONG_KONG_MINUTES = -480
# bar -> (minutes, shift of the grid): days open at 16:00 UTC unless "utc" is said.
BARS = {
    "1m": (1, 0), "3m": (3, 0), "5m": (5, 0), "15m": (15, 0), "30m": (30, 0), "1H": (60, 0),
    "2H": (120, 0), "4H": (240, 0), "6H": (360, HONG_KONG_MINUTES), "6Hutc": (360, 0),
    "12H": (720, HONG_KONG_MINUTES), "12Hutc": (720, 0),
    "1D": (1_440, HONG_KONG_MINUTES), "1Dutc": (1_440, 0),
}  # fmt: skip


def error(code: str, message: str) -> Refused:
    return Refused(dumped({"code": code, "data": [], "msg": message}), status=200)


def unknown_instrument() -> Refused:
    return error("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist.")


def success(rows: list[str]) -> web.Response:
    return reply(f'{{"code":"0","msg":"","data":[{",".join(rows)}]}}')


async def server_time(venue: Venue, request: web.Request) -> web.Response:
    return success([f'{{"ts":"{venue.stated_ms()}"}}'])


async def tickers(venue: Venue, request: web.Request) -> web.Response:
    """GET /api/v5/market/tickers?instType=SPOT."""
    if not is_spot(request):
        return success([])
    return success(await venue.rows(venue.markets, kind="ticker", build=ticker_row))


async def one_ticker(venue: Venue, request: web.Request) -> web.Response:
    """GET /api/v5/market/ticker?instId=."""
    market = asked_instrument(venue, request)
    return success(await venue.rows([market], kind="ticker", build=ticker_row))


def is_spot(request: web.Request) -> bool:
    kind = request.query.get("instType")
    if not kind:
        raise error("50014", "Parameter instType can not be empty.")
    if kind not in ("SPOT", "SWAP", "FUTURES", "OPTION", "MARGIN"):
        raise error("51000", "Parameter instType  error")
    return kind == "SPOT"


def asked_instrument(venue: Venue, request: web.Request) -> Market:
    name = request.query.get("instId")
    if not name:
        raise error("50014", "Parameter instId can not be empty.")
    market = venue.native(name)
    if market is None:
        raise unknown_instrument()
    return market


def ticker_row(venue: Venue, market: Market, as_of_ms: int) -> str:
    """Return a row; on spot ``volCcy24h`` is the quote volume."""
    ticker = venue.ticker(market, as_of_ms=as_of_ms)
    opened = venue.short_price(market, ticker.open)
    return (
        f'{{"instType":"SPOT","instId":"{market.listing.exchange_symbol}",'
        f'"last":"{venue.short_price(market, ticker.last_price)}",'
        f'"lastSz":"{short_lots(market, ticker.last.lots)}",'
        f'"askPx":"{venue.short_price(market, ticker.ask)}",'
        f'"askSz":"{short_lots(market, ticker.last.lots * 2)}",'
        f'"bidPx":"{venue.short_price(market, ticker.bid)}",'
        f'"bidSz":"{short_lots(market, ticker.last.lots * 3)}","open24h":"{opened}",'
        f'"high24h":"{venue.short_price(market, ticker.high)}",'
        f'"low24h":"{venue.short_price(market, ticker.low)}",'
        f'"volCcy24h":"{trimmed(ticker.quote, quote_scale(market))}",'
        f'"vol24h":"{short_lots(market, ticker.lots)}","ts":"{ticker.as_of_ms}",'
        f'"sodUtc0":"{opened}","sodUtc8":"{opened}"}}'
    )


async def candles(venue: Venue, request: web.Request) -> web.Response:
    """GET /api/v5/market/candles: the newest 1440 rows, newest first, the running one included."""
    market, minutes, shift = candle_question(venue, request)
    newest = aligned_down(venue.now_ms() // MINUTE_MS, minutes, shift)
    oldest = newest - (RECENT_CANDLES - 1) * minutes
    return await candle_page(
        venue, request, market, bounds=(oldest, newest), grid=(minutes, shift), most=MAX_CANDLES
    )


async def history_candles(venue: Venue, request: web.Request) -> web.Response:
    """GET /api/v5/market/history-candles: closed rows of any age, measured at 100 a page."""
    market, minutes, shift = candle_question(venue, request)
    newest = aligned_down(venue.now_ms() // MINUTE_MS, minutes, shift) - minutes
    oldest = aligned_up(GENESIS_MS // MINUTE_MS, minutes, shift)
    return await candle_page(
        venue,
        request,
        market,
        bounds=(oldest, newest),
        grid=(minutes, shift),
        most=MAX_HISTORY_CANDLES,
    )


def candle_question(venue: Venue, request: web.Request) -> tuple[Market, int, int]:
    market = asked_instrument(venue, request)
    bar = BARS.get(request.query.get("bar", "1m"))
    if bar is None:
        raise error("51000", "Parameter bar  error")
    return market, *bar


async def candle_page(
    venue: Venue,
    request: web.Request,
    market: Market,
    *,
    bounds: tuple[int, int],
    grid: tuple[int, int],
    most: int,
) -> web.Response:
    """Answer a page: ``after`` = older than, ``before`` = newer than, both exclusive."""
    (oldest, newest), (minutes, shift) = bounds, grid
    after, before = number(request, "after"), number(request, "before")
    count = min(number(request, "limit") or 100, most)
    if after is not None:
        newest = min(newest, aligned_down(-(-after // MINUTE_MS) - 1, minutes, shift))
    if before is not None:
        oldest = max(oldest, aligned_up(before // MINUTE_MS + 1, minutes, shift))
    first = max(oldest, newest - (count - 1) * minutes)
    rows = await venue.candles(
        market, first=first, last=newest, minutes=minutes, fill=True, offset=shift
    )
    closed_ms = venue.now_ms() - minutes * MINUTE_MS + venue.lens().candle_shift_ms
    return success(
        [
            candle_row(venue, market, open_ms, candle, closed=open_ms <= closed_ms)
            for open_ms, candle in reversed(rows)
        ]
    )


def candle_row(venue: Venue, market: Market, open_ms: int, candle: Candle, *, closed: bool) -> str:
    prices = ",".join(f'"{venue.short_price(market, units)}"' for units in candle[:4])
    quote = trimmed(candle.quote, quote_scale(market))
    return (
        f'["{open_ms}",{prices},"{short_lots(market, candle.lots)}","{quote}","{quote}",'
        f'"{int(closed)}"]'
    )


def number(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 20:
        raise error("51000", f"Parameter {name}  error")
    return int(text)


async def trades(venue: Venue, request: web.Request) -> web.Response:
    """GET /api/v5/market/trades: the newest, newest first."""
    market = asked_instrument(venue, request)
    count = min(number(request, "limit") or 100, MAX_TRADES)
    rows = venue.recent_trades(market, count=count)
    return success([trade_row(venue, market, trade) for trade in reversed(rows)])


async def history_trades(venue: Venue, request: web.Request) -> web.Response:
    """GET /api/v5/market/history-trades: by trade id (type 1) or time (type 2), newest first."""
    market = asked_instrument(venue, request)
    kind = request.query.get("type", "1")
    if kind not in ("1", "2"):
        raise error("51000", "Parameter type  error")
    after, before = number(request, "after"), number(request, "before")
    count = min(number(request, "limit") or 100, MAX_HISTORY_TRADES)
    last = market.tape.number_at(venue.now_ms() + 1)
    if after is not None:
        last = min(last, after if kind == "1" else market.tape.number_at(after))
    first = last - count
    if before is not None and kind == "1":
        first = max(first, before + 1)
    rows = venue.trades_by_number(market, first=first, last=last)
    return success([trade_row(venue, market, trade) for trade in reversed(rows)])


def trade_row(venue: Venue, market: Market, trade: Trade) -> str:
    return (
        f'{{"instId":"{market.listing.exchange_symbol}",'
        f'"side":"{"buy" if trade.taker_buys else "sell"}",'
        f'"sz":"{short_lots(market, trade.lots)}","px":"{venue.short_price(market, trade.price)}",'
        f'"source":"0","tradeId":"{trade.number}","ts":"{trade.event_ms}"}}'
    )


async def instruments(venue: Venue, request: web.Request) -> web.Response:
    """GET /api/v5/public/instruments?instType=SPOT[&instId=]."""
    if not is_spot(request):
        return success([])
    asked = "instId" in request.query
    markets = [asked_instrument(venue, request)] if asked else venue.markets
    return success([dumped(instrument_row(market)) for market in markets])


def instrument_row(market: Market) -> dict[str, str]:
    listing = market.listing
    lot = fixed(1, listing.size_scale)
    return {
        "alias": "",
        "baseCcy": listing.base,
        "category": "1",
        "ctMult": "",
        "ctType": "",
        "ctVal": "",
        "ctValCcy": "",
        "expTime": "",
        "instId": listing.exchange_symbol,
        "instType": "SPOT",
        "lever": "10",
        "listTime": str(GENESIS_MS + DAY_MS),
        "lotSz": lot,
        "maxIcebergSz": "9999999999",
        "maxLmtSz": "9999999999",
        "maxMktSz": "1000000",
        "maxStopSz": "1000000",
        "maxTriggerSz": "9999999999",
        "maxTwapSz": "9999999999",
        "minSz": lot,
        "optType": "",
        "quoteCcy": listing.quote,
        "settleCcy": "",
        "state": "live",
        "stk": "",
        "tickSz": fixed(1, listing.price_scale),
        "uly": "",
    }


ROUTES: list[Route] = [
    ("GET", "/api/v5/public/time", server_time),
    ("GET", "/api/v5/market/tickers", tickers),
    ("GET", "/api/v5/market/ticker", one_ticker),
    ("GET", "/api/v5/market/candles", candles),
    ("GET", "/api/v5/market/history-candles", history_candles),
    ("GET", "/api/v5/market/trades", trades),
    ("GET", "/api/v5/market/history-trades", history_trades),
    ("GET", "/api/v5/public/instruments", instruments),
]


def unknown_path() -> web.Response:
    return reply(dumped({"msg": "Not Found", "code": "404", "data": []}), status=404)


def rate_limited(seconds: int, *, now_ms: int) -> web.Response:
    """Answer 429 without a data key and without Retry-After, as recorded."""
    return reply(dumped({"msg": "Too Many Requests", "code": "50011"}), status=429)
