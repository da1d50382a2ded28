"""Coinbase Exchange REST, after docs.cdp.coinbase.com and the recorded payloads."""

from aiohttp import web

from ingestion.simulator.candles import Candle
from ingestion.simulator.clocktext import iso_micros, parsed_iso, trade_micros
from ingestion.simulator.decimals import fixed, ratio
from ingestion.simulator.reply import Refused, Route, dumped, listed, reply
from ingestion.simulator.tape import MINUTE_MS, Trade
from ingestion.simulator.venue import Market, Venue, aligned_down, short_lots

MAX_CANDLES = 300
MAX_TRADES = 1_000
GRANULARITIES = (60, 300, 900, 3_600, 21_600, 86_400)
# /products/stats trails the market: it is cached for five seconds.
STATS_STEP_MS = 5_000


def error(status: int, message: str) -> Refused:
    return Refused(dumped({"message": message}), status=status)


def product(venue: Venue, request: web.Request) -> Market:
    market = venue.native(request.match_info["product"])
    if market is None:
        raise error(404, "NotFound")
    return market


async def products(venue: Venue, request: web.Request) -> web.Response:
    """GET /products."""
    return reply(dumped([product_row(market) for market in venue.markets]))


async def one_product(venue: Venue, request: web.Request) -> web.Response:
    return reply(dumped(product_row(product(venue, request))))


def product_row(market: Market) -> dict[str, object]:
    listing = market.listing
    return {
        "id": listing.exchange_symbol,
        "base_currency": listing.base,
        "quote_currency": listing.quote,
        "base_min_size": fixed(1, listing.size_scale),
        "base_max_size": "1000000",
        "quote_increment": fixed(1, listing.price_scale),
        "base_increment": fixed(1, listing.size_scale),
        "display_name": listing.symbol,
        "min_market_funds": "1",
        "max_market_funds": "1000000",
        "margin_enabled": False,
        "post_only": False,
        "limit_only": False,
        "cancel_only": False,
        "trading_disabled": False,
        "status": "online",
        "status_message": "",
        "auction_mode": False,
    }


async def all_stats(venue: Venue, request: web.Request) -> web.Response:
    """GET /products/stats (undocumented): every product's 24 h, no time, a few seconds old."""
    taken_ms = venue.now_ms() // STATS_STEP_MS * STATS_STEP_MS
    rows = await venue.rows(venue.markets, kind="stats", build=bulk_stats_row, as_of_ms=taken_ms)
    keyed = [
        f'"{market.listing.exchange_symbol}":{row}'
        for market, row in zip(venue.markets, rows, strict=True)
    ]
    return reply("{" + ",".join(keyed) + "}", headers={"Cache-Control": "public, max-age=5"})


def bulk_stats_row(venue: Venue, market: Market, as_of_ms: int) -> str:
    ticker = venue.ticker(market, as_of_ms=as_of_ms)
    volume = short_lots(market, ticker.lots)
    return (
        f'{{"stats_30day":{{"volume":"{short_lots(market, ticker.lots * 30)}"}},'
        f'"stats_24hour":{{"open":"{venue.short_price(market, ticker.open)}",'
        f'"high":"{venue.short_price(market, ticker.high)}",'
        f'"low":"{venue.short_price(market, ticker.low)}",'
        f'"last":"{venue.short_price(market, ticker.last_price)}","volume":"{volume}"}}}}'
    )


async def stats(venue: Venue, request: web.Request) -> web.Response:
    """GET /products/{id}/stats: no time, no bid or ask."""
    market = product(venue, request)
    ticker = venue.ticker(market)
    return reply(
        f'{{"open":"{venue.short_price(market, ticker.open)}",'
        f'"high":"{venue.short_price(market, ticker.high)}",'
        f'"low":"{venue.short_price(market, ticker.low)}",'
        f'"last":"{venue.short_price(market, ticker.last_price)}",'
        f'"volume":"{short_lots(market, ticker.lots)}",'
        f'"volume_30day":"{short_lots(market, ticker.lots * 30)}"}}'
    )


async def ticker(venue: Venue, request: web.Request) -> web.Response:
    """GET /products/{id}/ticker: cached for a second."""
    market = product(venue, request)
    rows = await venue.rows([market], kind="ticker", build=ticker_row)
    return reply(rows[0], headers={"Cache-Control": "public, max-age=1"})


def ticker_row(venue: Venue, market: Market, as_of_ms: int) -> str:
    ticker = venue.ticker(market, as_of_ms=as_of_ms)
    return (
        f'{{"ask":"{venue.short_price(market, ticker.ask)}",'
        f'"bid":"{venue.short_price(market, ticker.bid)}",'
        f'"volume":"{short_lots(market, ticker.lots)}","trade_id":{ticker.last.number},'
        f'"price":"{venue.short_price(market, ticker.last_price)}",'
        f'"size":"{short_lots(market, ticker.last.lots)}","time":"{trade_time(ticker.last)}"}}'
    )


def trade_time(trade: Trade) -> str:
    return iso_micros(trade.event_ms, micros=trade_micros(trade.number))


async def candles(venue: Venue, request: web.Request) -> web.Response:
    """GET /products/{id}/candles: newest first, [time s, LOW, HIGH, open, close, volume]."""
    market = product(venue, request)
    granularity = request.query.get("granularity", "60")
    if not granularity.isdigit() or int(granularity) not in GRANULARITIES:
        raise error(400, "Unsupported granularity")
    minutes = int(granularity) // 60
    start, end = request.query.get("start"), request.query.get("end")
    if start and end:
        start_ms, end_ms = moment(start), moment(end)
        if end_ms < start_ms:
            raise error(400, "end must be after start")
        if end_ms - start_ms > MAX_CANDLES * minutes * MINUTE_MS:
            raise too_many_candles()
        first, last = -(-start_ms // MINUTE_MS), end_ms // MINUTE_MS
        # The end is inclusive of its boundary candle, unless that would make 301 rows.
        if end_ms - start_ms == MAX_CANDLES * minutes * MINUTE_MS:
            last -= 1
    else:
        last = aligned_down(venue.now_ms() // MINUTE_MS, minutes)
        first = last - (MAX_CANDLES - 1) * minutes
    rows = await venue.candles(market, first=first, last=last, minutes=minutes, fill=False)
    return reply(
        listed([candle_row(venue, market, open_ms, row) for open_ms, row in reversed(rows)])
    )


def too_many_candles() -> Refused:
    message = (
        "granularity too small for the requested time range. "
        f"Count of aggregations requested exceeds {MAX_CANDLES}"
    )
    return Refused(f'{{"message": "{message}"}}', status=400)


def candle_row(venue: Venue, market: Market, open_ms: int, candle: Candle) -> str:
    prices = (candle.low, candle.high, candle.open, candle.close)
    texts = ",".join(venue.short_price(market, units) for units in prices)
    return f"[{open_ms // 1000},{texts},{short_lots(market, candle.lots)}]"


def moment(text: str) -> int:
    """Return the ms of an ISO text or of epoch seconds."""
    try:
        if text.isascii() and text.isdigit() and len(text) <= 12:
            return int(text) * 1000
        return parsed_iso(text)
    except ValueError:
        raise error(400, "Invalid start or end") from None


async def trades(venue: Venue, request: web.Request) -> web.Response:
    """GET /products/{id}/trades: newest first.

    ``after`` pages to older ids, ``before`` answers the newest ones later than an id; the
    headers CB-BEFORE and CB-AFTER hold the page's newest and oldest id.
    """
    market = product(venue, request)
    count = min(cursor(request, "limit") or MAX_TRADES, MAX_TRADES)
    after, before = cursor(request, "after"), cursor(request, "before")
    newest = market.tape.number_at(venue.now_ms() + 1)
    last = newest if after is None else min(newest, after)
    first = last - count if before is None else max(last - count, before + 1)
    rows = venue.trades_by_number(market, first=first, last=last)
    headers = {"CB-BEFORE": str(rows[-1].number), "CB-AFTER": str(rows[0].number)} if rows else None
    texts = [trade_row(venue, market, trade) for trade in reversed(rows)]
    return reply(listed(texts), headers=headers)


def trade_row(venue: Venue, market: Market, trade: Trade) -> str:
    """Return a row; its side is the MAKER's."""
    return (
        f'{{"trade_id":{trade.number},"side":"{"sell" if trade.taker_buys else "buy"}",'
        f'"size":"{short_lots(market, trade.lots)}",'
        f'"price":"{venue.short_price(market, trade.price)}","time":"{trade_time(trade)}"}}'
    )


def cursor(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 20:
        raise error(400, f"Invalid {name}")
    return int(text)


async def server_time(venue: Venue, request: web.Request) -> web.Response:
    now = venue.stated_ms()
    return reply(f'{{"iso":"{iso_micros(now, micros=0)}","epoch":{ratio(now, 1000, places=3)}}}')


ROUTES: list[Route] = [
    ("GET", "/time", server_time),
    ("GET", "/products", products),
    ("GET", "/products/stats", all_stats),
    ("GET", "/products/{product}", one_product),
    ("GET", "/products/{product}/ticker", ticker),
    ("GET", "/products/{product}/stats", stats),
    ("GET", "/products/{product}/candles", candles),
    ("GET", "/products/{product}/trades", trades),
]


def unknown_path() -> web.Response:
    return reply(dumped({"message": "NotFound"}), status=404)


def rate_limited(seconds: int, *, now_ms: int) -> web.Response:
    return reply(
        dumped({"message": "Public rate limit exceeded"}),
        status=429,
        headers={"Retry-After": str(seconds)},
    )
