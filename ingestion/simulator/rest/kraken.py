"""Kraken spot REST, after docs.kraken.com and the recorded payloads. Errors come with HTTP 200."""

from aiohttp import web

from ingestion.simulator.candles import Candle
from ingestion.simulator.clocktext import utc
from ingestion.simulator.decimals import fixed
from ingestion.simulator.markets import kraken_asset_id, kraken_name
from ingestion.simulator.reply import Refused, Route, dumped, reply
from ingestion.simulator.tape import MINUTE_MS, Trade
from ingestion.simulator.venue import Market, Venue, aligned_down, lots_text

MAX_CLOSED_CANDLES = 720
MAX_TRADES = 1_000
INTERVALS = (1, 5, 15, 30, 60, 240, 1_440)
PLACES = 8
TICKER_PLACES = 5


def error(text: str) -> Refused:
    """Return an error: HTTP 200 and no result key."""
    return Refused(dumped({"error": [text]}), status=200)


def success(result: str) -> web.Response:
    return reply(f'{{"error":[],"result":{result}}}')


async def server_time(venue: Venue, request: web.Request) -> web.Response:
    now = utc(venue.stated_ms())
    return success(
        dumped({"unixtime": int(now.timestamp()), "rfc1123": f"{now:%a, %d %b %y %H:%M:%S} +0000"})
    )


async def system_status(venue: Venue, request: web.Request) -> web.Response:
    stamp = f"{utc(venue.stated_ms()):%Y-%m-%dT%H:%M:%SZ}"
    return success(dumped({"status": "online", "timestamp": stamp}))


async def ticker(venue: Venue, request: web.Request) -> web.Response:
    """GET /0/public/Ticker?pair=A,B or all: one unknown pair fails the call."""
    asked = asked_pairs(venue, request)
    rows = await venue.rows([market for _, market in asked], kind="ticker", build=ticker_row)
    return success(keyed([key for key, _ in asked], rows))


def asked_pairs(venue: Venue, request: web.Request) -> list[tuple[str, Market]]:
    """Return [(key of the answer, market)]: slash style comes back as it was asked."""
    pairs = request.query.get("pair")
    if not pairs:
        return [(market.listing.exchange_symbol, market) for market in venue.markets]
    asked: dict[str, Market] = {}
    for name in pairs.split(","):
        market = known_pair(venue, name)
        asked[name if "/" in name else market.listing.exchange_symbol] = market
    return list(asked.items())


def known_pair(venue: Venue, name: str) -> Market:
    market = venue.find(name)
    if market is None:
        raise error("EQuery:Unknown asset pair")
    return market


def keyed(keys: list[str], rows: list[str]) -> str:
    return "{" + ",".join(f'"{key}":{row}' for key, row in zip(keys, rows, strict=True)) + "}"


def ticker_row(venue: Venue, market: Market, as_of_ms: int) -> str:
    """Return a row: index 0 is since 00:00 UTC, index 1 the last 24 h, ``p`` a VWAP."""
    ticker = venue.ticker(market, as_of_ms=as_of_ms)
    day = market.day(as_of_ms, lens=venue.lens())
    last_size = lots_text(market, ticker.last.lots, places=PLACES)
    return (
        f'{{"a":["{price(venue, market, ticker.ask)}","1","1.000"],'
        f'"b":["{price(venue, market, ticker.bid)}","2","2.000"],'
        f'"c":["{price(venue, market, ticker.last_price)}","{last_size}"],'
        f'"v":["{lots_text(market, day.lots, places=PLACES)}",'
        f'"{lots_text(market, ticker.lots, places=PLACES)}"],'
        f'"p":["{vwap(venue, market, day.quote, day.lots)}",'
        f'"{vwap(venue, market, ticker.quote, ticker.lots)}"],'
        f'"t":[{day.trade_count},{ticker.trade_count}],'
        f'"l":["{price(venue, market, day.low)}","{price(venue, market, ticker.low)}"],'
        f'"h":["{price(venue, market, day.high)}","{price(venue, market, ticker.high)}"],'
        f'"o":"{price(venue, market, day.open)}"}}'
    )


def price(venue: Venue, market: Market, units: int) -> str:
    return venue.price(market, units, places=TICKER_PLACES)


def vwap(venue: Venue, market: Market, quote: int, lots: int) -> str:
    return venue.mean_price(market, quote=quote, lots=lots, places=TICKER_PLACES)


async def ohlc(venue: Venue, request: web.Request) -> web.Response:
    """GET /0/public/OHLC: at most 720 closed candles and the running one, whatever is asked."""
    name = request.query.get("pair")
    if not name:
        raise error("EGeneral:Invalid arguments")
    market = known_pair(venue, name)
    interval = request.query.get("interval", "1")
    if not interval.isdigit() or int(interval) not in INTERVALS:
        raise error("EGeneral:Invalid arguments")
    minutes = int(interval)
    newest = aligned_down(venue.now_ms() // MINUTE_MS, minutes)
    first = newest - MAX_CLOSED_CANDLES * minutes
    since_ns = nanoseconds(request, seconds_until=10**11)
    if since_ns is not None:
        # The candle that contains ``since`` is left out, as in the recorded answer.
        after = since_ns // (MINUTE_MS * 1_000_000)
        first = max(first, aligned_down(after, minutes) + minutes)
    rows = await venue.candles(market, first=first, last=newest, minutes=minutes, fill=True)
    texts = [candle_row(venue, market, open_ms, candle) for open_ms, candle in rows]
    key = name if "/" in name else market.listing.exchange_symbol
    last = (newest - minutes) * MINUTE_MS // 1000 + venue.lens().candle_shift_ms // 1000
    return success(f'{{"{key}":[{",".join(texts)}],"last":{last}}}')


def candle_row(venue: Venue, market: Market, open_ms: int, candle: Candle) -> str:
    prices = ",".join(f'"{venue.price(market, units)}"' for units in candle[:4])
    mean = venue.mean_price(market, quote=candle.quote, lots=candle.lots, places=0)
    lots = lots_text(market, candle.lots, places=PLACES)
    return f'[{open_ms // 1000},{prices},"{mean}","{lots}",{candle.trade_count}]'


def nanoseconds(request: web.Request, *, seconds_until: int) -> int | None:
    """Return ``since`` in ns: short numbers are seconds, long ones are ns already."""
    text = request.query.get("since")
    if not text:
        return None
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 25:
        raise error("EGeneral:Invalid arguments")
    value = int(whole or "0")
    if value >= seconds_until:
        return value
    return value * 10**9 + int(fraction.ljust(9, "0")[:9] or "0")


async def trades(venue: Venue, request: web.Request) -> web.Response:
    """GET /0/public/Trades?since=<ns>&count=: those after ``since``, ``last`` for the next page."""
    name = request.query.get("pair")
    if not name:
        raise error("EGeneral:Invalid arguments")
    market = known_pair(venue, name)
    count = trade_count(request)
    since_ns = nanoseconds(request, seconds_until=10**11)
    if since_ns is None:
        rows = venue.recent_trades(market, count=count)
    else:
        shifted = since_ns - venue.lens().skew_ms * 1_000_000
        first = number_after(market, since_ns=shifted)
        rows = venue.trades_by_number(market, first=first, last=first + count)
    texts = ",".join(trade_row(venue, market, trade) for trade in rows)
    last = trade_ns(rows[-1]) if rows else since_ns or 0
    key = name if "/" in name else market.listing.exchange_symbol
    return success(f'{{"{key}":[{texts}],"last":"{last}"}}')


def trade_count(request: web.Request) -> int:
    text = request.query.get("count", str(MAX_TRADES))
    if not text.isdigit() or not 1 <= int(text) <= MAX_TRADES:
        raise error("EGeneral:Invalid arguments:count")
    return int(text)


def number_after(market: Market, *, since_ns: int) -> int:
    """Return the number of the first trade later than ``since_ns``."""
    number = market.tape.number_at(since_ns // 1_000_000)
    while trade_ns(market.tape.trade(number)) <= since_ns:
        number += 1
    return number


def trade_ns(trade: Trade) -> int:
    """Return a trade's own nanosecond: the trades of one ms differ, in their order."""
    return trade.event_ms * 1_000_000 + trade.position * 2


def trade_row(venue: Venue, market: Market, trade: Trade) -> str:
    seconds = fixed(trade_ns(trade) // 100, 7)
    return (
        f'["{price(venue, market, trade.price)}","{lots_text(market, trade.lots, places=PLACES)}",'
        f'{seconds},"{"b" if trade.taker_buys else "s"}","{"m" if trade.number % 3 else "l"}",'
        f'"",{trade.number}]'
    )


async def asset_pairs(venue: Venue, request: web.Request) -> web.Response:
    """GET /0/public/AssetPairs: key, altname and wsname of each pair."""
    asked = asked_pairs(venue, request)
    return success(dumped({key: pair_row(market) for key, market in asked}))


def pair_row(market: Market) -> dict[str, object]:
    listing = market.listing
    base, quote = kraken_name(listing.base), kraken_name(listing.quote)
    scale = max(0, listing.price_scale)
    return {
        "altname": base + quote,
        "wsname": f"{base}/{quote}",
        "aclass_base": "currency",
        "base": kraken_asset_id(listing.base),
        "aclass_quote": "currency",
        "quote": kraken_asset_id(listing.quote),
        "lot": "unit",
        "cost_decimals": 5,
        "pair_decimals": scale,
        "lot_decimals": 8,
        "lot_multiplier": 1,
        "leverage_buy": [2, 3],
        "leverage_sell": [2, 3],
        "fees": [[0, 0.4], [10000, 0.35]],
        "fees_maker": [[0, 0.25], [10000, 0.2]],
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": fixed(1, listing.size_scale),
        "costmin": "0.5",
        "tick_size": fixed(1, scale),
        "status": "online",
        "execution_venue": "international",
        "long_position_limit": 37000,
        "short_position_limit": 24000,
    }


ROUTES: list[Route] = [
    ("GET", "/0/public/Time", server_time),
    ("GET", "/0/public/SystemStatus", system_status),
    ("GET", "/0/public/Ticker", ticker),
    ("GET", "/0/public/OHLC", ohlc),
    ("GET", "/0/public/Trades", trades),
    ("GET", "/0/public/AssetPairs", asset_pairs),
]


def unknown_path() -> web.Response:
    return reply(dumped({"error": ["EGeneral:Unknown method"]}))


def rate_limited(seconds: int, *, now_ms: int) -> web.Response:
    """Answer HTTP 200 without Retry-After, as recorded."""
    return reply(dumped({"error": ["EGeneral:Too many requests"]}))
