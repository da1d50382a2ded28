"""Bybit v5 REST, after bybit-exchange/docs and the recorded payloads. Errors come with HTTP 200."""

from dataclasses import replace
from fractions import Fraction

from aiohttp import web

from ingestion.simulator.candles import Candle
from ingestion.simulator.decimals import fixed, ratio, trimmed
from ingestion.simulator.faults import Lens
from ingestion.simulator.reply import Refused, Route, dumped, reply, whole_number
from ingestion.simulator.tape import GENESIS_MINUTE, MINUTE_MS, Trade
from ingestion.simulator.venue import (
    Market,
    Venue,
    aligned_down,
    aligned_up,
    bent,
    quote_scale,
    short_lots,
)

MAX_KLINES = 1_000
MAX_TRADES = 60
TRADE_ID_BASE = 2_290_000_000_000_000_000
INTERVAL_MINUTES = {
    "1": 1, "3": 3, "5": 5, "15": 15, "30": 30, "60": 60, "120": 120, "240": 240, "360": 360,
    "720": 720, "D": 1_440,
}  # fmt: skip
# A perpetual contract trades near its spot market, never on it.
LINEAR_PREMIUM = Lens(factor=Fraction(10_007, 10_000))


def error(venue: Venue, code: int, message: str) -> Refused:
    return Refused(envelope(code, message, "{}", stated_ms=venue.stated_ms()), status=200)


def envelope(code: int, message: str, result: str, *, stated_ms: int) -> str:
    return (
        f'{{"retCode":{code},"retMsg":{dumped(message)},"result":{result},"retExtInfo":{{}},'
        f'"time":{stated_ms}}}'
    )


def success(venue: Venue, result: str) -> web.Response:
    return reply(envelope(0, "OK", result, stated_ms=venue.stated_ms()))


async def server_time(venue: Venue, request: web.Request) -> web.Response:
    now = venue.stated_ms()
    return success(venue, f'{{"timeSecond":"{now // 1000}","timeNano":"{now * 1_000_000}"}}')


def category(venue: Venue, request: web.Request) -> str:
    """Return the category asked for: without one, Bybit answers with LINEAR futures."""
    name = request.query.get("category", "linear")
    if name not in ("spot", "linear"):
        raise error(venue, 10001, "params error: Category is invalid")
    return name


def asked_symbol(venue: Venue, request: web.Request) -> Market:
    market = venue.native(request.query.get("symbol", ""))
    if market is None:
        raise error(venue, 10001, "Not supported symbols")
    return market


async def tickers(venue: Venue, request: web.Request) -> web.Response:
    """GET /v5/market/tickers?category=spot[&symbol=]: no row time, the envelope's counts."""
    kind = category(venue, request)
    markets = [asked_symbol(venue, request)] if "symbol" in request.query else venue.markets
    build = ticker_row if kind == "spot" else linear_ticker_row
    rows = await venue.rows(markets, kind=kind, build=build)
    return success(venue, f'{{"category":"{kind}","list":[{",".join(rows)}]}}')


def ticker_row(venue: Venue, market: Market, as_of_ms: int) -> str:
    fields = ticker_fields(venue, market, as_of_ms, lens=venue.lens())
    index = venue.price(market, market.tape.boundary(as_of_ms // MINUTE_MS))
    return f'{{{fields},"usdIndexPrice":"{index}"}}'


def linear_ticker_row(venue: Venue, market: Market, as_of_ms: int) -> str:
    lens = venue.lens()
    premium = replace(lens, factor=lens.factor * LINEAR_PREMIUM.factor)
    fields = ticker_fields(venue, market, as_of_ms, lens=premium)
    return f'{{{fields},"fundingRate":"0.0001","openInterest":"1000"}}'


def ticker_fields(venue: Venue, market: Market, as_of_ms: int, *, lens: Lens) -> str:
    ticker = market.ticker(as_of_ms, lens=lens)
    change = ratio(ticker.last_price - ticker.open, ticker.open, places=4)
    return (
        f'"symbol":"{market.listing.exchange_symbol}",'
        f'"bid1Price":"{venue.short_price(market, ticker.bid)}",'
        f'"bid1Size":"{short_lots(market, ticker.last.lots * 3)}",'
        f'"ask1Price":"{venue.short_price(market, ticker.ask)}",'
        f'"ask1Size":"{short_lots(market, ticker.last.lots * 2)}",'
        f'"lastPrice":"{venue.short_price(market, ticker.last_price)}",'
        f'"prevPrice24h":"{venue.short_price(market, ticker.open)}","price24hPcnt":"{change}",'
        f'"highPrice24h":"{venue.short_price(market, ticker.high)}",'
        f'"lowPrice24h":"{venue.short_price(market, ticker.low)}",'
        f'"turnover24h":"{trimmed(ticker.quote, quote_scale(market))}",'
        f'"volume24h":"{short_lots(market, ticker.lots)}"'
    )


async def kline(venue: Venue, request: web.Request) -> web.Response:
    """GET /v5/market/kline: newest first, both bounds inclusive on the open time."""
    kind = category(venue, request)
    market = asked_symbol(venue, request)
    minutes = INTERVAL_MINUTES.get(request.query.get("interval", ""))
    if minutes is None:
        raise error(venue, 10001, "Invalid period!")
    first, last = kline_bounds(venue, request, minutes=minutes)
    rows = await venue.candles(market, first=first, last=last, minutes=minutes, fill=True)
    premium = LINEAR_PREMIUM if kind == "linear" else None
    texts = [
        kline_row(venue, market, open_ms, candle if premium is None else bent(candle, premium))
        for open_ms, candle in reversed(rows)
    ]
    symbol = market.listing.exchange_symbol
    return success(venue, f'{{"category":"{kind}","symbol":"{symbol}","list":[{",".join(texts)}]}}')


def kline_bounds(venue: Venue, request: web.Request, *, minutes: int) -> tuple[int, int]:
    """Return the first and last bucket: ``start`` alone pages forward, otherwise the newest."""
    count = min(max(1, number(venue, request, "limit") or 200), MAX_KLINES)
    start_ms, end_ms = number(venue, request, "start"), number(venue, request, "end")
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        raise error(venue, 10001, "start time can not be greater than end time")
    now_ms = venue.now_ms()
    last = aligned_down(min(now_ms, now_ms if end_ms is None else end_ms) // MINUTE_MS, minutes)
    if start_ms is None:
        return last - (count - 1) * minutes, last
    first = aligned_up(max(GENESIS_MINUTE, -(-start_ms // MINUTE_MS)), minutes)
    if end_ms is None:
        return first, min(last, first + (count - 1) * minutes)
    return max(first, last - (count - 1) * minutes), last


def kline_row(venue: Venue, market: Market, open_ms: int, candle: Candle) -> str:
    prices = ",".join(f'"{venue.short_price(market, units)}"' for units in candle[:4])
    quote = trimmed(candle.quote, quote_scale(market))
    return f'["{open_ms}",{prices},"{short_lots(market, candle.lots)}","{quote}"]'


def number(venue: Venue, request: web.Request, name: str) -> int | None:
    try:
        return whole_number(request.query.get(name))
    except ValueError:
        raise error(venue, 10001, f"params error: {name} invalid") from None


async def recent_trade(venue: Venue, request: web.Request) -> web.Response:
    """GET /v5/market/recent-trade: the newest 60 at most, newest first."""
    kind = category(venue, request)
    market = asked_symbol(venue, request)
    count = min(max(1, number(venue, request, "limit") or MAX_TRADES), MAX_TRADES)
    rows = venue.recent_trades(market, count=count)
    texts = [trade_row(venue, market, trade) for trade in reversed(rows)]
    return success(venue, f'{{"category":"{kind}","list":[{",".join(texts)}]}}')


def trade_row(venue: Venue, market: Market, trade: Trade) -> str:
    return (
        f'{{"execId":"{trade_id(trade)}","symbol":"{market.listing.exchange_symbol}",'
        f'"price":"{venue.short_price(market, trade.price)}",'
        f'"size":"{short_lots(market, trade.lots)}",'
        f'"side":"{"Buy" if trade.taker_buys else "Sell"}","time":"{trade.event_ms}",'
        f'"isBlockTrade":false,"isRPITrade":false,"seq":"{trade.number * 7 + 3}"}}'
    )


def trade_id(trade: Trade) -> int:
    """Return the 19 digit id, shown as text: beyond what a double can hold."""
    return TRADE_ID_BASE + trade.number


async def instruments_info(venue: Venue, request: web.Request) -> web.Response:
    """GET /v5/market/instruments-info: an unknown symbol is a success with an EMPTY list."""
    kind = category(venue, request)
    symbol = request.query.get("symbol")
    markets = [
        market for market in venue.markets if symbol in (None, market.listing.exchange_symbol)
    ]
    rows = ",".join(dumped(instrument_row(market)) for market in markets)
    return success(venue, f'{{"category":"{kind}","list":[{rows}]}}')


def instrument_row(market: Market) -> dict[str, object]:
    listing = market.listing
    lot = fixed(1, listing.size_scale)
    return {
        "symbol": listing.exchange_symbol,
        "baseCoin": listing.base,
        "quoteCoin": listing.quote,
        "symbolType": "normal",
        "innovation": "0",
        "status": "Trading",
        "marginTrading": "none",
        "stTag": "0",
        "priceFilter": {"tickSize": fixed(1, listing.price_scale)},
        "lotSizeFilter": {
            "basePrecision": lot,
            "quotePrecision": "0.0000001",
            "minOrderQty": lot,
            "maxOrderQty": "1000000000",
            "minOrderAmt": "10",
            "maxOrderAmt": "500000",
            "maxLimitOrderQty": "1000000000",
            "maxMarketOrderQty": "500000000",
            "postOnlyMaxLimitOrderSize": "1000000000",
        },
        "riskParameters": {"priceLimitRatioX": "0.05", "priceLimitRatioY": "0.05"},
    }


ROUTES: list[Route] = [
    ("GET", "/v5/market/time", server_time),
    ("GET", "/v5/market/tickers", tickers),
    ("GET", "/v5/market/kline", kline),
    ("GET", "/v5/market/recent-trade", recent_trade),
    ("GET", "/v5/market/instruments-info", instruments_info),
]


def unknown_path() -> web.Response:
    return web.Response(status=404, text="404 page not found")


def rate_limited(seconds: int, *, now_ms: int) -> web.Response:
    """Answer retCode 10006 with HTTP 200; the reset time is in a header."""
    return reply(
        envelope(10006, "Too many visits", "{}", stated_ms=now_ms),
        headers={
            "X-Bapi-Limit": "600",
            "X-Bapi-Limit-Status": "0",
            "X-Bapi-Limit-Reset-Timestamp": str(now_ms + seconds * 1000),
        },
    )
