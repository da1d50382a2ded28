"""Binance spot REST, after binance-spot-api-docs/rest-api.md and the recorded payloads."""

import json

from aiohttp import web

from ingestion.simulator.candles import Candle
from ingestion.simulator.decimals import fixed, ratio, writer
from ingestion.simulator.reply import Refused, Route, dumped, listed, reply, whole_number
from ingestion.simulator.tape import GENESIS_MINUTE, MINUTE_MS, Trade
from ingestion.simulator.venue import (
    Market,
    Venue,
    aligned_down,
    aligned_up,
    lots_text,
    quote_scale,
)

WEIGHT_PER_MINUTE = 6_000
MAX_KLINES = 1_000
MAX_TRADES = 1_000
INTERVAL_MINUTES = {
    "1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240,
    "6h": 360, "8h": 480, "12h": 720, "1d": 1_440,
}  # fmt: skip
# Binance shows eight places; the tiniest coins here need more than it would give them.
PLACES = 8
_WEIGHTS = web.AppKey("binance_weights", dict[str, tuple[int, int]])


def error(code: int, message: str, *, status: int = 400) -> Refused:
    return Refused(dumped({"code": code, "msg": message}), status=status)


def missing(name: str) -> Refused:
    return error(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def weighed(venue: Venue, request: web.Request, text: str, *, weight: int) -> web.Response:
    """Return an answer with the weight this address has used in the current minute."""
    minute = venue.now_ms() // MINUTE_MS
    address = request.remote or ""
    weights = request.app[_WEIGHTS]
    at, used = weights.get(address, (minute, 0))
    used = weight + (used if at == minute else 0)
    weights[address] = (minute, used)
    headers = {"X-MBX-USED-WEIGHT": str(used), "X-MBX-USED-WEIGHT-1M": str(used)}
    return reply(text, headers=headers)


def setup(app: web.Application) -> None:
    app[_WEIGHTS] = {}


async def ping(venue: Venue, request: web.Request) -> web.Response:
    return weighed(venue, request, "{}", weight=1)


async def server_time(venue: Venue, request: web.Request) -> web.Response:
    return weighed(venue, request, dumped({"serverTime": venue.stated_ms()}), weight=1)


async def ticker_24hr(venue: Venue, request: web.Request) -> web.Response:
    """GET /api/v3/ticker/24hr: one symbol, symbols=["A","B"], or all."""
    markets, single = asked_markets(venue, request)
    kind = request.query.get("type", "FULL")
    if kind not in ("FULL", "MINI"):
        raise error(-1139, "Invalid ticker type.")
    rows = await venue.rows(markets, kind=kind, build=ticker_row if kind == "FULL" else mini_row)
    asked = len(markets) if "symbols" in request.query else 101
    weight = 2 if single or asked <= 20 else 40 if asked <= 100 else 80
    return weighed(venue, request, rows[0] if single else listed(rows), weight=weight)


async def ticker_price(venue: Venue, request: web.Request) -> web.Response:
    """GET /api/v3/ticker/price: last prices without a time."""
    markets, single = asked_markets(venue, request)
    rows = await venue.rows(markets, kind="price", build=price_row)
    return weighed(venue, request, rows[0] if single else listed(rows), weight=2 if single else 4)


def asked_markets(venue: Venue, request: web.Request) -> tuple[list[Market], bool]:
    """Return (markets, whether one was asked for by name); an unknown one fails the call."""
    symbol, symbols = request.query.get("symbol"), request.query.get("symbols")
    if symbol is not None and symbols is not None:
        raise error(-1128, "Combination of optional parameters invalid.")
    if symbol is not None:
        return [known_market(venue, symbol)], True
    if symbols is None:
        return venue.markets, False
    try:
        names = json.loads(symbols)
    except ValueError:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        legal = r'^\["[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}\]$'
        raise error(
            -1100, f"Illegal characters found in parameter 'symbols'; legal range is '{legal}'."
        )
    if len(set(names)) != len(names):
        raise error(-1101, "Duplicate values for a parameter detected.")
    return [known_market(venue, name) for name in names], False


def known_market(venue: Venue, symbol: str) -> Market:
    market = venue.native(symbol)
    if market is None:
        raise error(-1121, "Invalid symbol.")
    return market


def ticker_row(venue: Venue, market: Market, as_of_ms: int) -> str:
    ticker = venue.ticker(market, as_of_ms=as_of_ms)
    change = ticker.last_price - ticker.open
    mean = venue.mean_price(market, quote=ticker.quote, lots=ticker.lots, places=PLACES)
    opened = venue.price(market, ticker.open, places=PLACES)
    return (
        f'{{"symbol":"{market.listing.exchange_symbol}",'
        f'"priceChange":"{venue.price(market, change, places=PLACES)}",'
        f'"priceChangePercent":"{ratio(change * 100, ticker.open, places=3)}",'
        f'"weightedAvgPrice":"{mean}","prevClosePrice":"{opened}",'
        f'"lastPrice":"{venue.price(market, ticker.last_price, places=PLACES)}",'
        f'"lastQty":"{lots_text(market, ticker.last.lots, places=PLACES)}",'
        f'"bidPrice":"{venue.price(market, ticker.bid, places=PLACES)}",'
        f'"bidQty":"{lots_text(market, ticker.last.lots * 3, places=PLACES)}",'
        f'"askPrice":"{venue.price(market, ticker.ask, places=PLACES)}",'
        f'"askQty":"{lots_text(market, ticker.last.lots * 2, places=PLACES)}",'
        f'"openPrice":"{opened}",'
        f'"highPrice":"{venue.price(market, ticker.high, places=PLACES)}",'
        f'"lowPrice":"{venue.price(market, ticker.low, places=PLACES)}",'
        f'"volume":"{lots_text(market, ticker.lots, places=PLACES)}",'
        f'"quoteVolume":"{quote_text(market, ticker.quote)}",'
        f'"openTime":{ticker.as_of_ms - 86_400_000},"closeTime":{ticker.as_of_ms},'
        f'"firstId":{ticker.first_number},"lastId":{ticker.last.number},"count":{ticker.trade_count}}}'
    )


def mini_row(venue: Venue, market: Market, as_of_ms: int) -> str:
    ticker = venue.ticker(market, as_of_ms=as_of_ms)
    return (
        f'{{"symbol":"{market.listing.exchange_symbol}",'
        f'"openPrice":"{venue.price(market, ticker.open, places=PLACES)}",'
        f'"highPrice":"{venue.price(market, ticker.high, places=PLACES)}",'
        f'"lowPrice":"{venue.price(market, ticker.low, places=PLACES)}",'
        f'"lastPrice":"{venue.price(market, ticker.last_price, places=PLACES)}",'
        f'"volume":"{lots_text(market, ticker.lots, places=PLACES)}",'
        f'"quoteVolume":"{quote_text(market, ticker.quote)}",'
        f'"openTime":{ticker.as_of_ms - 86_400_000},"closeTime":{ticker.as_of_ms},'
        f'"firstId":{ticker.first_number},"lastId":{ticker.last.number},"count":{ticker.trade_count}}}'
    )


def price_row(venue: Venue, market: Market, as_of_ms: int) -> str:
    ticker = venue.ticker(market, as_of_ms=as_of_ms)
    price = venue.price(market, ticker.last_price, places=PLACES)
    return f'{{"symbol":"{market.listing.exchange_symbol}","price":"{price}"}}'


def quote_text(market: Market, quote: int) -> str:
    return fixed(quote, quote_scale(market), places=PLACES)


async def klines(venue: Venue, request: web.Request) -> web.Response:
    """GET /api/v3/klines: oldest first, both bounds inclusive on the open time."""
    query = request.query
    if not query.get("symbol"):
        raise missing("symbol")
    if not query.get("interval"):
        raise missing("interval")
    market = known_market(venue, query["symbol"])
    minutes = INTERVAL_MINUTES.get(query["interval"])
    if minutes is None:
        raise error(-1120, "Invalid interval.")
    limit = min(number(request, "limit") or 500, MAX_KLINES)
    start_ms, end_ms = number(request, "startTime"), number(request, "endTime")
    last = min(end_ms if end_ms is not None else venue.now_ms(), venue.now_ms()) // MINUTE_MS
    last = aligned_down(last, minutes)
    if start_ms is not None:
        first = aligned_up(-(-start_ms // MINUTE_MS), minutes)
        last = min(last, max(first, aligned_up(GENESIS_MINUTE, minutes)) + (limit - 1) * minutes)
    else:
        first = last - (limit - 1) * minutes
    rows = await venue.candles(market, first=first, last=last, minutes=minutes, fill=True)
    texts = kline_texts(venue, market, rows, length_ms=minutes * MINUTE_MS)
    return weighed(venue, request, listed(texts), weight=2)


def kline_texts(
    venue: Venue, market: Market, rows: list[tuple[int, Candle]], *, length_ms: int
) -> list[str]:
    price = venue.price_writer(market, places=PLACES)
    size = writer(market.listing.size_scale, places=PLACES)
    worth = writer(quote_scale(market), places=PLACES)
    return [
        f'[{open_ms},"{price(first)}","{price(high)}","{price(low)}","{price(last)}",'
        f'"{size(lots)}",{open_ms + length_ms - 1},"{worth(quote)}",{trade_count},'
        f'"{size(buy_lots)}","{worth(buy_quote)}","0"]'
        for open_ms, (first, high, low, last, lots, quote, trade_count, buy_lots, buy_quote) in rows
    ]


def number(request: web.Request, name: str) -> int | None:
    try:
        return whole_number(request.query.get(name))
    except ValueError:
        raise error(
            -1100,
            f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.",
        ) from None


async def trades(venue: Venue, request: web.Request) -> web.Response:
    """GET /api/v3/trades: the newest, oldest first. Weight 25."""
    market, limit = trades_question(venue, request)
    rows = venue.recent_trades(market, count=limit)
    return weighed(venue, request, trade_rows(venue, market, rows), weight=25)


async def historical_trades(venue: Venue, request: web.Request) -> web.Response:
    """GET /api/v3/historicalTrades: from an id on, which is how a hole is filled. Weight 25."""
    market, limit = trades_question(venue, request)
    first = number(request, "fromId")
    if first is None:
        rows = venue.recent_trades(market, count=limit)
    else:
        rows = venue.trades_by_number(market, first=first, last=first + limit)
    return weighed(venue, request, trade_rows(venue, market, rows), weight=25)


def trades_question(venue: Venue, request: web.Request) -> tuple[Market, int]:
    if not request.query.get("symbol"):
        raise missing("symbol")
    limit = number(request, "limit")
    if limit is not None and limit < 1:
        raise error(-1130, "Data sent for parameter 'limit' is not valid.")
    return known_market(venue, request.query["symbol"]), min(limit or 500, MAX_TRADES)


def trade_rows(venue: Venue, market: Market, rows: list[Trade]) -> str:
    return listed([trade_row(venue, market, trade) for trade in rows])


def trade_row(venue: Venue, market: Market, trade: Trade) -> str:
    return (
        f'{{"id":{trade.number},"price":"{venue.price(market, trade.price, places=PLACES)}",'
        f'"qty":"{lots_text(market, trade.lots, places=PLACES)}",'
        f'"quoteQty":"{quote_text(market, trade.price * trade.lots)}","time":{trade.event_ms},'
        f'"isBuyerMaker":{"false" if trade.taker_buys else "true"},"isBestMatch":true}}'
    )


async def exchange_info(venue: Venue, request: web.Request) -> web.Response:
    """GET /api/v3/exchangeInfo: limits and symbols. Weight 20."""
    markets, _ = asked_markets(venue, request)
    body = {
        "timezone": "UTC",
        "serverTime": venue.stated_ms(),
        "rateLimits": [
            rate_limit("REQUEST_WEIGHT", "MINUTE", 1, WEIGHT_PER_MINUTE),
            rate_limit("ORDERS", "SECOND", 10, 100),
            rate_limit("ORDERS", "DAY", 1, 200_000),
            rate_limit("RAW_REQUESTS", "MINUTE", 5, 61_000),
        ],
        "exchangeFilters": [],
        "symbols": [symbol_row(market) for market in markets],
    }
    return weighed(venue, request, dumped(body), weight=20)


def rate_limit(kind: str, interval: str, count: int, most: int) -> dict[str, object]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": count, "limit": most}


def symbol_row(market: Market) -> dict[str, object]:
    listing = market.listing
    tick, lot = fixed(1, listing.price_scale, places=8), fixed(1, listing.size_scale, places=8)
    return {
        "symbol": listing.exchange_symbol,
        "status": "TRADING",
        "baseAsset": listing.base,
        "baseAssetPrecision": 8,
        "quoteAsset": listing.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": True,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": tick,
                "maxPrice": "1000000.00000000",
                "tickSize": tick,
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": lot,
                "maxQty": "900000000.00000000",
                "stepSize": lot,
            },
        ],
        "permissions": ["SPOT"],
    }


ROUTES: list[Route] = [
    ("GET", "/api/v3/ping", ping),
    ("GET", "/api/v3/time", server_time),
    ("GET", "/api/v3/ticker/24hr", ticker_24hr),
    ("GET", "/api/v3/ticker/price", ticker_price),
    ("GET", "/api/v3/klines", klines),
    ("GET", "/api/v3/trades", trades),
    ("GET", "/api/v3/historicalTrades", historical_trades),
    ("GET", "/api/v3/exchangeInfo", exchange_info),
]


def unknown_path() -> web.Response:
    return web.Response(status=404, text="<html><body><h2>404 Not found</h2></body></html>",
                        content_type="text/html")  # fmt: skip


def rate_limited(seconds: int, *, now_ms: int) -> web.Response:
    """Answer 429 with Retry-After, as documented under "IP Limits"."""
    message = (
        f"Too much request weight used; current limit is {WEIGHT_PER_MINUTE} request weight per "
        "1 MINUTE. Please use WebSocket Streams for live updates to avoid polling the API."
    )
    return reply(
        dumped({"code": -1003, "msg": message}),
        status=429,
        headers={"Retry-After": str(seconds), "X-MBX-USED-WEIGHT-1M": str(WEIGHT_PER_MINUTE + 1)},
    )
