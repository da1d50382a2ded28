"""KuCoin spot REST, after the KuCoin documentation and the recorded payloads."""

import secrets

from aiohttp import web

from ingestion.simulator.candles import Candle
from ingestion.simulator.decimals import fixed, ratio, trimmed
from ingestion.simulator.noise import key_of, mix
from ingestion.simulator.reply import Refused, Route, dumped, reply, whole_number
from ingestion.simulator.tape import MINUTE_MS, Trade
from ingestion.simulator.venue import Market, Ticker, Venue, aligned_down, quote_scale, short_lots

MAX_CANDLES = 1_500
UNBOUNDED_CANDLES = 100
MAX_TRADES = 100
WEIGHT_PER_WINDOW = 2_000
WINDOW_MS = 30_000
# allTickers is one snapshot for everybody, taken every two seconds.
SNAPSHOT_MS = 2_000
PING_INTERVAL_MS = 18_000
PING_TIMEOUT_MS = 10_000
TYPE_MINUTES = {
    "1min": 1, "3min": 3, "5min": 5, "15min": 15, "30min": 30, "1hour": 60, "2hour": 120,
    "4hour": 240, "6hour": 360, "8hour": 480, "12hour": 720, "1day": 1_440,
}  # fmt: skip
_FEES = (
    '"takerFeeRate":"0.001","makerFeeRate":"0.001","takerCoefficient":"1","makerCoefficient":"1"'
)
MAX_TOKENS = 10_000
TOKENS = web.AppKey("kucoin_tokens", dict[str, int])
_WEIGHTS = web.AppKey("kucoin_weights", dict[str, tuple[int, int]])
_ORDER_KEY = key_of("kucoin", "orders")


def error(code: str, message: str, *, status: int = 200) -> Refused:
    return Refused(dumped({"msg": message, "code": code}), status=status)


def weighed(venue: Venue, request: web.Request, data: str, *, weight: int) -> web.Response:
    """Return an answer with what is left of this address's pool in the current 30 s."""
    now_ms = venue.now_ms()
    window = now_ms // WINDOW_MS
    address = request.remote or ""
    weights = request.app[_WEIGHTS]
    at, used = weights.get(address, (window, 0))
    used = weight + (used if at == window else 0)
    weights[address] = (window, used)
    headers = {
        "gw-ratelimit-limit": str(WEIGHT_PER_WINDOW),
        "gw-ratelimit-remaining": str(max(0, WEIGHT_PER_WINDOW - used)),
        "gw-ratelimit-reset": str(WINDOW_MS - now_ms % WINDOW_MS),
    }
    return reply(f'{{"code":"200000","data":{data}}}', headers=headers)


def setup(app: web.Application) -> None:
    app[_WEIGHTS] = {}
    app[TOKENS] = {}


async def server_time(venue: Venue, request: web.Request) -> web.Response:
    return weighed(venue, request, str(venue.stated_ms()), weight=3)


async def all_tickers(venue: Venue, request: web.Request) -> web.Response:
    """GET /api/v1/market/allTickers: one time for all rows, moving every 2 s. Weight 15."""
    taken_ms = venue.now_ms() // SNAPSHOT_MS * SNAPSHOT_MS
    rows = await venue.rows(venue.markets, kind="ticker", build=ticker_row, as_of_ms=taken_ms)
    data = f'{{"time":{taken_ms + venue.lens().skew_ms},"ticker":[{",".join(rows)}]}}'
    return weighed(venue, request, data, weight=15)


def ticker_row(venue: Venue, market: Market, as_of_ms: int) -> str:
    symbol = market.listing.exchange_symbol
    fields = ticker_fields(venue, market, venue.ticker(market, as_of_ms=as_of_ms))
    return f'{{"symbol":"{symbol}","symbolName":"{symbol}",{fields}}}'


async def stats(venue: Venue, request: web.Request) -> web.Response:
    """GET /api/v1/market/stats?symbol=: the single ticker, with a time. Weight 15."""
    market = asked_symbol(venue, request)
    ticker = venue.ticker(market)
    data = (
        f'{{"time":{ticker.as_of_ms},"symbol":"{market.listing.exchange_symbol}",'
        f"{ticker_fields(venue, market, ticker)}}}"
    )
    return weighed(venue, request, data, weight=15)


def ticker_fields(venue: Venue, market: Market, ticker: Ticker) -> str:
    change = ticker.last_price - ticker.open
    mean = venue.mean_price(market, quote=ticker.quote, lots=ticker.lots, places=8)
    return (
        f'"buy":"{venue.short_price(market, ticker.bid)}",'
        f'"sell":"{venue.short_price(market, ticker.ask)}",'
        f'"changeRate":"{ratio(change, ticker.open, places=4)}",'
        f'"changePrice":"{venue.short_price(market, change)}",'
        f'"high":"{venue.short_price(market, ticker.high)}",'
        f'"low":"{venue.short_price(market, ticker.low)}",'
        f'"vol":"{short_lots(market, ticker.lots)}",'
        f'"volValue":"{trimmed(ticker.quote, quote_scale(market))}",'
        f'"last":"{venue.short_price(market, ticker.last_price)}","averagePrice":"{mean}",{_FEES}'
    )


def asked_symbol(venue: Venue, request: web.Request) -> Market:
    name = request.query.get("symbol")
    if not name:
        raise error("400100", "symbol: can not be empty", status=400)
    market = venue.native(name)
    if market is None:
        raise error("900001", f"Trading pair {name} does not exist.")
    return market


async def candles(venue: Venue, request: web.Request) -> web.Response:
    """GET /api/v1/market/candles: [startAt, endAt) in SECONDS, newest first, newest 1500 at most.

    A row is [time, open, CLOSE, HIGH, LOW, volume, quote volume]; empty minutes are absent.
    """
    market = asked_symbol(venue, request)
    minutes = TYPE_MINUTES.get(request.query.get("type", ""))
    if minutes is None:
        raise error("400100", "type: Incorrect candlestick type.", status=400)
    start, end = seconds(request, "startAt"), seconds(request, "endAt")
    last = aligned_down(venue.now_ms() // MINUTE_MS, minutes)
    if end:
        last = min(last, -(-end // 60) - 1)
    most = MAX_CANDLES if start else UNBOUNDED_CANDLES
    first = aligned_down(last, minutes) - (most - 1) * minutes
    if start:
        first = max(first, -(-start // 60))
    rows = await venue.candles(market, first=first, last=last, minutes=minutes, fill=False)
    texts = [candle_row(venue, market, open_ms, candle) for open_ms, candle in reversed(rows)]
    return weighed(venue, request, f"[{','.join(texts)}]", weight=3)


def candle_row(venue: Venue, market: Market, open_ms: int, candle: Candle) -> str:
    order = (candle.open, candle.close, candle.high, candle.low)
    prices = ",".join(f'"{venue.short_price(market, units)}"' for units in order)
    quote = trimmed(candle.quote, quote_scale(market))
    return f'["{open_ms // 1000}",{prices},"{short_lots(market, candle.lots)}","{quote}"]'


def seconds(request: web.Request, name: str) -> int | None:
    try:
        return whole_number(request.query.get(name))
    except ValueError:
        raise error("400100", f"{name}: must be a number", status=400) from None


async def histories(venue: Venue, request: web.Request) -> web.Response:
    """GET /api/v1/market/histories?symbol=: the newest 100 trades, oldest first. Weight 3."""
    market = asked_symbol(venue, request)
    rows = venue.recent_trades(market, count=MAX_TRADES)
    texts = [history_row(venue, market, trade) for trade in rows]
    return weighed(venue, request, f"[{','.join(texts)}]", weight=3)


def history_row(venue: Venue, market: Market, trade: Trade) -> str:
    return (
        f'{{"sequence":"{sequence(trade)}","price":"{venue.short_price(market, trade.price)}",'
        f'"size":"{short_lots(market, trade.lots)}",'
        f'"side":"{"buy" if trade.taker_buys else "sell"}","time":{trade_ns(trade)},'
        f'"tradeId":"{trade_id(market, trade)}"}}'
    )


def sequence(trade: Trade) -> int:
    """Return the sequence: grows, but not by one."""
    return 1_545_896_000_000 + trade.number * 3 + trade.number % 2


def trade_ns(trade: Trade) -> int:
    """Return the trade's time in nanoseconds."""
    return trade.event_ms * 1_000_000 + trade.number * 7919 % 1_000_000


def trade_id(market: Market, trade: Trade) -> str:
    """Return the 24 hex digits: unique, and nothing to count holes by."""
    key = key_of("kucoin", market.listing.exchange_symbol)
    return f"{trade.number & 0xFFFFFFFF:08x}{mix(key, trade.number):016x}"


def order_id(number: int) -> str:
    return f"{mix(_ORDER_KEY, number):016x}{mix(_ORDER_KEY, -number) >> 32:08x}"


async def symbols(venue: Venue, request: web.Request) -> web.Response:
    """GET /api/v2/symbols (and v1). Weight 4."""
    rows = [symbol_row(market) for market in venue.markets]
    return weighed(venue, request, dumped(rows), weight=4)


def symbol_row(market: Market) -> dict[str, object]:
    listing = market.listing
    tick, lot = fixed(1, listing.price_scale), fixed(1, listing.size_scale)
    return {
        "symbol": listing.exchange_symbol,
        "name": listing.exchange_symbol,
        "baseCurrency": listing.base,
        "quoteCurrency": listing.quote,
        "feeCurrency": listing.quote,
        "market": "USDS" if listing.quote in ("USDT", "USDC") else listing.quote,
        "baseMinSize": lot,
        "quoteMinSize": "0.1",
        "baseMaxSize": "10000000000",
        "quoteMaxSize": "99999999",
        "baseIncrement": lot,
        "quoteIncrement": tick,
        "priceIncrement": tick,
        "priceLimitRate": "0.1",
        "minFunds": "0.1",
        "isMarginEnabled": False,
        "enableTrading": True,
    }


async def bullet_public(venue: Venue, request: web.Request) -> web.Response:
    """POST /api/v1/bullet-public: a token and this server's own socket. Weight 10."""
    tokens = request.app[TOKENS]
    token = secrets.token_hex(24)
    tokens[token] = venue.clock_ms()
    if len(tokens) > MAX_TOKENS:
        del tokens[next(iter(tokens))]
    data = {
        "token": token,
        "instanceServers": [
            {
                "endpoint": f"ws://{request.host}/kucoin/ws",
                "encrypt": False,
                "protocol": "websocket",
                "pingInterval": PING_INTERVAL_MS,
                "pingTimeout": PING_TIMEOUT_MS,
            }
        ],
    }
    return weighed(venue, request, dumped(data), weight=10)


async def wrong_method(venue: Venue, request: web.Request) -> web.Response:
    raise error("405000", "Request method 'GET' not supported", status=405)


ROUTES: list[Route] = [
    ("GET", "/api/v1/timestamp", server_time),
    ("GET", "/api/v1/market/allTickers", all_tickers),
    ("GET", "/api/v1/market/stats", stats),
    ("GET", "/api/v1/market/candles", candles),
    ("GET", "/api/v1/market/histories", histories),
    ("GET", "/api/v1/symbols", symbols),
    ("GET", "/api/v2/symbols", symbols),
    ("POST", "/api/v1/bullet-public", bullet_public),
    ("GET", "/api/v1/bullet-public", wrong_method),
]


def unknown_path() -> web.Response:
    return reply(dumped({"code": "404000", "msg": "Url not found"}), status=404)


def rate_limited(seconds: int, *, now_ms: int) -> web.Response:
    return reply(
        dumped({"code": "429000", "msg": "Too Many Requests"}),
        status=429,
        headers={
            "Retry-After": str(seconds),
            "gw-ratelimit-limit": str(WEIGHT_PER_WINDOW),
            "gw-ratelimit-remaining": "0",
            "gw-ratelimit-reset": str(seconds * 1000),
        },
    )
