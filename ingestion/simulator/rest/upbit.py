"""Upbit REST, after docs.upbit.com and the recorded payloads. Numbers are JSON numbers."""

from aiohttp import web

from ingestion.simulator.candles import Candle
from ingestion.simulator.clocktext import KST, iso_seconds, parsed_iso, utc
from ingestion.simulator.decimals import fixed, ratio
from ingestion.simulator.faults import DAY_MS
from ingestion.simulator.reply import Refused, Route, dumped, listed, reply, whole_number
from ingestion.simulator.tape import GENESIS_MINUTE, MINUTE_MS, Tape, Trade
from ingestion.simulator.venue import Market, Venue, aligned_down, lots_text, quote_scale

MAX_CANDLES = 200
MAX_TRADES = 500
CALLS_PER_SECOND = 10
UNITS = (1, 3, 5, 10, 15, 30, 60, 240)
KST_SHIFT_MS = 9 * 3_600_000
PLACES = 8
_CALLS = web.AppKey("upbit_calls", dict[tuple[str, str], tuple[int, int]])


def error(status: int, message: str) -> Refused:
    """Return a request error: its name is an INTEGER (routing errors have a text there)."""
    return Refused(dumped({"error": {"name": status, "message": message}}), status=status)


def missing() -> Refused:
    return error(400, "Missing request parameter error. Check the required parameters!")


def counted(venue: Venue, request: web.Request, text: str, *, group: str) -> web.Response:
    """Return an answer with what is left of this address's calls in the current second."""
    second = venue.now_ms() // 1000
    key = (request.remote or "", group)
    calls = request.app[_CALLS]
    at, used = calls.get(key, (second, 0))
    used = 1 + (used if at == second else 0)
    calls[key] = (second, used)
    left = max(0, CALLS_PER_SECOND - used)
    headers = {"Remaining-Req": f"group={group}; min=600; sec={left}", "limit-by-ip": "Yes"}
    return reply(text, headers=headers)


def setup(app: web.Application) -> None:
    app[_CALLS] = {}


async def ticker(venue: Venue, request: web.Request) -> web.Response:
    """GET /v1/ticker?markets=A,B: an unknown one fails the whole call with 404."""
    names = request.query.get("markets")
    if not names:
        raise missing()
    markets = [known_market(venue, name) for name in names.split(",")]
    rows = await venue.rows(markets, kind="ticker", build=ticker_row)
    return counted(venue, request, listed(rows), group="ticker")


async def ticker_all(venue: Venue, request: web.Request) -> web.Response:
    """GET /v1/ticker/all?quote_currencies=KRW,BTC."""
    text = request.query.get("quote_currencies")
    if not text:
        raise missing()
    quotes = set(text.upper().split(","))
    markets = [market for market in venue.markets if market.listing.quote in quotes]
    rows = await venue.rows(markets, kind="ticker", build=ticker_row)
    return counted(venue, request, listed(rows), group="ticker")


def known_market(venue: Venue, name: str) -> Market:
    market = venue.native(name)
    if market is None:
        raise error(404, "Code not found")
    return market


def ticker_row(venue: Venue, market: Market, as_of_ms: int) -> str:
    """Return one row. The fields without _24h count from 00:00 UTC."""
    ticker = venue.ticker(market, as_of_ms=as_of_ms)
    day = market.day(as_of_ms, lens=venue.lens())
    change = ticker.last_price - day.previous_close
    sized = f"{ratio(change, day.previous_close, places=10)}"
    event = utc(ticker.last.event_ms)
    local = event.astimezone(KST)
    return (
        f'{{"market":"{market.listing.exchange_symbol}",'
        f'"trade_date":"{event:%Y%m%d}","trade_time":"{event:%H%M%S}",'
        f'"trade_date_kst":"{local:%Y%m%d}","trade_time_kst":"{local:%H%M%S}",'
        f'"trade_timestamp":{ticker.last.event_ms},'
        f'"opening_price":{price(venue, market, day.open)},'
        f'"high_price":{price(venue, market, day.high)},'
        f'"low_price":{price(venue, market, day.low)},'
        f'"trade_price":{price(venue, market, ticker.last_price)},'
        f'"prev_closing_price":{price(venue, market, day.previous_close)},'
        f'"change":"{direction(change)}","change_price":{price(venue, market, abs(change))},'
        f'"change_rate":{sized.lstrip("-")},'
        f'"signed_change_price":{price(venue, market, change)},"signed_change_rate":{sized},'
        f'"trade_volume":{lots_text(market, ticker.last.lots, places=PLACES)},'
        f'"acc_trade_price":{quote_text(market, day.quote)},'
        f'"acc_trade_price_24h":{quote_text(market, ticker.quote)},'
        f'"acc_trade_volume":{lots_text(market, day.lots, places=PLACES)},'
        f'"acc_trade_volume_24h":{lots_text(market, ticker.lots, places=PLACES)},'
        f"{year_fields(venue, market, ticker.high, ticker.low, as_of_ms)},"
        f'"timestamp":{ticker.as_of_ms}}}'
    )


def year_fields(venue: Venue, market: Market, high: int, low: int, as_of_ms: int) -> str:
    """Return the 52 week fields: plausible bounds, as nobody reads a year of minutes for them."""
    return (
        f'"highest_52_week_price":{price(venue, market, high * 5 // 4)},'
        f'"highest_52_week_date":"{utc(as_of_ms - 100 * DAY_MS):%Y-%m-%d}",'
        f'"lowest_52_week_price":{price(venue, market, low * 3 // 4)},'
        f'"lowest_52_week_date":"{utc(as_of_ms - 200 * DAY_MS):%Y-%m-%d}"'
    )


def direction(change: int) -> str:
    if change == 0:
        return "EVEN"
    return "RISE" if change > 0 else "FALL"


def price(venue: Venue, market: Market, units: int) -> str:
    return venue.price(market, units, places=PLACES)


def quote_text(market: Market, quote: int) -> str:
    return fixed(quote, quote_scale(market), places=PLACES)


async def minute_candles(venue: Venue, request: web.Request) -> web.Response:
    """GET /v1/candles/minutes/{unit}: newest first, ``to`` exclusive, empty minutes absent."""
    unit = request.match_info.get("unit", "1")
    if not unit.isascii() or not unit.isdigit() or int(unit) not in UNITS:
        raise error(400, "Invalid parameter. Check the given value!")
    return await candle_page(venue, request, minutes=int(unit), daily=False)


async def day_candles(venue: Venue, request: web.Request) -> web.Response:
    """GET /v1/candles/days: days begin at 00:00 UTC."""
    return await candle_page(venue, request, minutes=1_440, daily=True)


async def candle_page(
    venue: Venue, request: web.Request, *, minutes: int, daily: bool
) -> web.Response:
    name = request.query.get("market")
    if not name:
        raise missing()
    market = known_market(venue, name)
    count = min(max(1, number(request, "count", default=1)), MAX_CANDLES)
    end_ms = min(moment(request, "to", default=venue.now_ms() + 1), venue.now_ms() + 1)
    newest = aligned_down((end_ms - 1) // MINUTE_MS, minutes)
    rows: list[tuple[int, Candle]] = []
    # Empty minutes are absent, so a page may span more minutes than it has rows.
    while len(rows) < count and newest >= GENESIS_MINUTE:
        oldest = newest - (count - len(rows) - 1) * minutes
        found = await venue.candles(market, first=oldest, last=newest, minutes=minutes, fill=False)
        rows = found + rows
        newest = oldest - minutes
    texts = [
        day_row(venue, market, open_ms, candle)
        if daily
        else minute_row(venue, market, open_ms, candle, minutes)
        for open_ms, candle in reversed(rows)
    ]
    return counted(venue, request, listed(texts), group="candles")


def minute_row(venue: Venue, market: Market, open_ms: int, candle: Candle, minutes: int) -> str:
    shared = candle_fields(venue, market, open_ms, candle, minutes)
    return f'{{{shared},"unit":{minutes}}}'


def day_row(venue: Venue, market: Market, open_ms: int, candle: Candle) -> str:
    shared = candle_fields(venue, market, open_ms, candle, 1_440)
    previous = venue.lens().price(market.tape.close_before(open_ms // MINUTE_MS))
    change = candle.close - previous
    return (
        f'{{{shared},"prev_closing_price":{price(venue, market, previous)},'
        f'"change_price":{price(venue, market, change)},'
        f'"change_rate":{ratio(change, previous, places=10)}}}'
    )


def candle_fields(venue: Venue, market: Market, open_ms: int, candle: Candle, minutes: int) -> str:
    """Return the shared fields; ``timestamp`` is the last trade inside, not open or close."""
    end_ms = min(open_ms + minutes * MINUTE_MS, venue.now_ms() + 1)
    last_ms = last_event_ms(market.tape, before_ms=end_ms) + venue.lens().skew_ms
    return (
        f'"market":"{market.listing.exchange_symbol}",'
        f'"candle_date_time_utc":"{iso_seconds(open_ms)}",'
        f'"candle_date_time_kst":"{iso_seconds(open_ms + KST_SHIFT_MS)}",'
        f'"opening_price":{price(venue, market, candle.open)},'
        f'"high_price":{price(venue, market, candle.high)},'
        f'"low_price":{price(venue, market, candle.low)},'
        f'"trade_price":{price(venue, market, candle.close)},'
        f'"timestamp":{last_ms},'
        f'"candle_acc_trade_price":{quote_text(market, candle.quote)},'
        f'"candle_acc_trade_volume":{lots_text(market, candle.lots, places=PLACES)}'
    )


def last_event_ms(tape: Tape, *, before_ms: int) -> int:
    return tape.trade(max(0, tape.number_at(before_ms) - 1)).event_ms


def number(request: web.Request, name: str, *, default: int) -> int:
    try:
        value = whole_number(request.query.get(name))
    except ValueError:
        raise error(400, "Type mismatch error. Check the parameters type!") from None
    return default if value is None else value


def moment(request: web.Request, name: str, *, default: int) -> int:
    text = request.query.get(name)
    if not text:
        return default
    try:
        return parsed_iso(text)
    except ValueError:
        raise error(400, "Invalid date format. Check the given value!") from None


async def trade_ticks(venue: Venue, request: web.Request) -> web.Response:
    """GET /v1/trades/ticks?market=&count=: newest first."""
    name = request.query.get("market")
    if not name:
        raise missing()
    market = known_market(venue, name)
    count = min(max(1, number(request, "count", default=1)), MAX_TRADES)
    rows = venue.recent_trades(market, count=count)
    texts = [tick_row(venue, market, trade) for trade in reversed(rows)]
    return counted(venue, request, listed(texts), group="trades")


def tick_row(venue: Venue, market: Market, trade: Trade) -> str:
    previous = previous_close(venue, market, trade)
    return (
        f'{{"market":"{market.listing.exchange_symbol}",'
        f'"trade_date_utc":"{utc(trade.event_ms):%Y-%m-%d}",'
        f'"trade_time_utc":"{utc(trade.event_ms):%H:%M:%S}","timestamp":{trade.event_ms},'
        f'"trade_price":{price(venue, market, trade.price)},'
        f'"trade_volume":{lots_text(market, trade.lots, places=PLACES)},'
        f'"prev_closing_price":{price(venue, market, previous)},'
        f'"change_price":{price(venue, market, trade.price - previous)},'
        f'"ask_bid":"{"BID" if trade.taker_buys else "ASK"}",'
        f'"sequential_id":{sequential_id(trade)}}}'
    )


def previous_close(venue: Venue, market: Market, trade: Trade) -> int:
    """Return the price on which the UTC day before a trade closed."""
    midnight = trade.event_ms // DAY_MS * (DAY_MS // MINUTE_MS)
    return venue.lens().price(market.tape.close_before(midnight))


def sequential_id(trade: Trade) -> int:
    """Return the 17 digit id: grows with time, but not by one."""
    return trade.event_ms * 10_000 + trade.position % 10_000


async def market_all(venue: Venue, request: web.Request) -> web.Response:
    """GET /v1/market/all?is_details=true."""
    details = request.query.get("is_details", "false").lower() == "true"
    rows = [market_row(market, details=details) for market in venue.markets]
    return counted(venue, request, dumped(rows), group="market")


def market_row(market: Market, *, details: bool) -> dict[str, object]:
    row: dict[str, object] = {
        "market": market.listing.exchange_symbol,
        "korean_name": market.listing.base,
        "english_name": market.listing.base,
    }
    if details:
        caution = {
            "PRICE_FLUCTUATIONS": False,
            "TRADING_VOLUME_SOARING": False,
            "DEPOSIT_AMOUNT_SOARING": False,
            "GLOBAL_PRICE_DIFFERENCES": False,
            "CONCENTRATION_OF_SMALL_ACCOUNTS": False,
        }
        row["market_event"] = {"warning": False, "caution": caution}
    return row


ROUTES: list[Route] = [
    ("GET", "/v1/ticker", ticker),
    ("GET", "/v1/ticker/all", ticker_all),
    ("GET", "/v1/candles/minutes/{unit}", minute_candles),
    ("GET", "/v1/candles/minutes", minute_candles),
    ("GET", "/v1/candles/days", day_candles),
    ("GET", "/v1/trades/ticks", trade_ticks),
    ("GET", "/v1/market/all", market_all),
]


def unknown_path() -> web.Response:
    return reply(
        dumped({"error": {"name": "not_found", "message": "no Route matched"}}), status=404
    )


def rate_limited(seconds: int, *, now_ms: int) -> web.Response:
    """Answer 429 without Retry-After: none was ever seen; Remaining-Req says it."""
    return reply(
        dumped({"error": {"name": 429, "message": "Too many API requests."}}),
        status=429,
        headers={"Remaining-Req": "group=default; min=600; sec=0", "limit-by-ip": "Yes"},
    )
