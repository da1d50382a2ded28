"""The tape: deterministic, contiguous, and folding into exactly its own candles."""

import itertools

import pytest

from ingestion.simulator.candles import Candle, CandleBook, CandleCache
from ingestion.simulator.markets import default_markets
from ingestion.simulator.noise import mix, mix_each
from ingestion.simulator.tape import GENESIS_MINUTE, MINUTE_MS, Trade
from ingestion.simulator.venue import Market, Universe

MINUTE = 29_920_860
PAIRS = [
    ("binance", "BTC/USDT"),
    ("upbit", "BTC/KRW"),
    ("kucoin", "PEPE/USDT"),
    ("okx", "MANA/USDT"),
    ("kraken", "USDT/USD"),
    ("coinbase", "GRT/USD"),
]
PAIR_IDS = [f"{exchange}-{symbol}" for exchange, symbol in PAIRS]


def market_of(universe: Universe, pair: tuple[str, str]) -> Market:
    market = universe.market(exchange=pair[0], spelling=pair[1])
    assert market is not None
    return market


def folded(trades: list[Trade]) -> Candle | None:
    """Return the candle of trades in the plainest way there is."""
    if not trades:
        return None
    prices = [trade.price for trade in trades]
    bought = [trade for trade in trades if trade.taker_buys]
    return Candle(
        open=prices[0],
        high=max(prices),
        low=min(prices),
        close=prices[-1],
        lots=sum(trade.lots for trade in trades),
        quote=sum(trade.price * trade.lots for trade in trades),
        trade_count=len(trades),
        buy_lots=sum(trade.lots for trade in bought),
        buy_quote=sum(trade.price * trade.lots for trade in bought),
    )


@pytest.mark.parametrize("pair", PAIRS, ids=PAIR_IDS)
@pytest.mark.parametrize("minutes", [1, 5, 60, 240])
def test_candle_is_the_fold_of_its_trades(
    universe: Universe, pair: tuple[str, str], minutes: int
) -> None:
    market = market_of(universe, pair)
    first = MINUTE // minutes * minutes - 3 * minutes
    for start in range(first, first + (90 if minutes == 1 else 3 * minutes), minutes):
        trades = list(
            market.tape.trades(from_ms=start * MINUTE_MS, to_ms=(start + minutes) * MINUTE_MS)
        )
        now_ms = (start + minutes) * MINUTE_MS
        assert market.candles.bucket(start, minutes=minutes, now_ms=now_ms) == folded(trades)


@pytest.mark.parametrize("pair", PAIRS, ids=PAIR_IDS)
def test_forming_candle_holds_only_the_trades_until_now(
    universe: Universe, pair: tuple[str, str]
) -> None:
    market = market_of(universe, pair)
    start_ms = MINUTE * MINUTE_MS
    for now_ms in range(start_ms, start_ms + MINUTE_MS, 1_777):
        trades = list(market.tape.trades(from_ms=start_ms, to_ms=now_ms + 1))
        assert market.candles.bucket(MINUTE, minutes=1, now_ms=now_ms) == folded(trades)
        assert market.tape.number_at(now_ms + 1) == market.tape.count_before(MINUTE) + len(trades)


@pytest.mark.parametrize("pair", PAIRS, ids=PAIR_IDS)
def test_extremes_equal_those_of_the_candle(universe: Universe, pair: tuple[str, str]) -> None:
    market = market_of(universe, pair)
    for minute in range(MINUTE - 300, MINUTE):
        candle = market.candles.minute(minute)
        expected = None if candle is None else (candle.low, candle.high)
        assert market.tape.extremes(minute) == expected


@pytest.mark.parametrize("pair", PAIRS, ids=PAIR_IDS)
def test_trades_are_ordered_positive_and_numbered_without_a_hole(
    universe: Universe, pair: tuple[str, str]
) -> None:
    tape = market_of(universe, pair).tape
    start_ms = MINUTE * MINUTE_MS
    trades = list(tape.trades(from_ms=start_ms, to_ms=start_ms + 180 * MINUTE_MS))
    numbers = [trade.number for trade in trades]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert all(a.event_ms <= b.event_ms for a, b in itertools.pairwise(trades))
    assert all(trade.price > 0 and trade.lots > 0 for trade in trades)
    assert all(
        start_ms <= trade.event_ms < start_ms + 180 * MINUTE_MS
        and tape.trade(trade.number) == trade
        for trade in trades
    )


def test_any_cut_of_a_range_is_half_open(universe: Universe) -> None:
    tape = market_of(universe, ("binance", "BTC/USDT")).tape
    start_ms = MINUTE * MINUTE_MS
    whole = list(tape.trades(from_ms=start_ms, to_ms=start_ms + 2 * MINUTE_MS))
    for cut_ms in {trade.event_ms for trade in whole}:
        left = list(tape.trades(from_ms=start_ms, to_ms=cut_ms))
        right = list(tape.trades(from_ms=cut_ms, to_ms=start_ms + 2 * MINUTE_MS))
        assert left + right == whole
        assert left == [trade for trade in whole if trade.event_ms < cut_ms]


def test_several_trades_share_a_millisecond(universe: Universe) -> None:
    tape = market_of(universe, ("kraken", "BTC/USD")).tape
    start_ms = MINUTE * MINUTE_MS
    times = [trade.event_ms for trade in tape.trades(from_ms=start_ms, to_ms=start_ms + 600_000)]
    assert len(set(times)) < len(times)


def test_quiet_market_has_empty_minutes_and_a_busy_one_none(universe: Universe) -> None:
    quiet = market_of(universe, ("okx", "MANA/USDT")).tape
    busy = market_of(universe, ("okx", "BTC/USDT")).tape
    minutes = range(MINUTE - 600, MINUTE)
    assert sum(quiet.minute(minute).trade_count == 0 for minute in minutes) > 100
    assert all(busy.minute(minute).trade_count > 0 for minute in minutes)


def test_neighbouring_minutes_connect(universe: Universe) -> None:
    candles = market_of(universe, ("binance", "BTC/USDT")).candles
    row = [candles.minute(minute) for minute in range(MINUTE - 300, MINUTE)]
    for before, after in itertools.pairwise(row):
        assert before is not None and after is not None
        assert abs(after.open - before.close) <= 1


def test_volume_of_a_span_is_the_difference_of_two_counters(universe: Universe) -> None:
    tape = market_of(universe, ("kucoin", "PEPE/USDT")).tape
    trades = list(tape.trades(from_ms=MINUTE * MINUTE_MS, to_ms=(MINUTE + 30) * MINUTE_MS))
    first, last = tape.count_before(MINUTE), tape.count_before(MINUTE + 30)
    assert tape.lots_before(last) - tape.lots_before(first) == sum(t.lots for t in trades)


def test_same_seed_gives_the_same_tape_and_another_seed_another(universe: Universe) -> None:
    def prices(seed: int) -> list[Trade]:
        world = Universe(markets=default_markets(), seed=seed, rate_per_minute=12)
        tape = market_of(world, ("binance", "ETH/USDT")).tape
        return list(tape.trades(from_ms=MINUTE * MINUTE_MS, to_ms=(MINUTE + 5) * MINUTE_MS))

    assert prices(7) == prices(7)
    assert prices(7) != prices(8)


@pytest.mark.parametrize("rate", [1, 12, 600])
def test_rate_scales_the_number_of_trades(rate: int) -> None:
    world = Universe(markets=default_markets(), seed=7, rate_per_minute=rate)
    tape = market_of(world, ("binance", "ADA/USDT")).tape
    per_minute = (tape.count_before(MINUTE) - tape.count_before(MINUTE - 1_000)) / 1_000
    assert 0.6 * rate <= per_minute <= 1.4 * rate


def test_nothing_was_traded_before_the_first_day(universe: Universe) -> None:
    tape = market_of(universe, ("binance", "BTC/USDT")).tape
    genesis_ms = GENESIS_MINUTE * MINUTE_MS
    assert list(tape.trades(from_ms=0, to_ms=genesis_ms)) == []
    first = next(tape.by_number(first=0, last=10**9))
    assert first.event_ms >= genesis_ms and first.number == tape.first_number


@pytest.mark.parametrize("minutes_ago", [0, 60, 43_200, 525_600])
def test_exchanges_agree_within_a_few_basis_points(universe: Universe, minutes_ago: int) -> None:
    def price(exchange: str, symbol: str) -> float:
        market = market_of(universe, (exchange, symbol))
        ticks = market.tape.close_before(MINUTE - minutes_ago)
        return float(ticks) * 10.0**-market.listing.price_scale

    usdt_usd, usdt_krw = price("kraken", "USDT/USD"), price("upbit", "USDT/KRW")
    assert 0.995 < usdt_usd < 1.005 and 1_350 < usdt_krw < 1_430
    for coin in ("BTC", "ETH", "DOGE", "PEPE", "MANA"):
        in_usdt = [price(name, f"{coin}/USDT") for name in ("binance", "okx", "bybit", "kucoin")]
        in_usdt += [price(name, f"{coin}/USD") / usdt_usd for name in ("kraken", "coinbase")]
        in_usdt.append(price("upbit", f"{coin}/KRW") / usdt_krw)
        # A quiet coin's last trade may be many minutes old.
        allowed = 1.02 if coin == "MANA" else 1.0025
        assert max(in_usdt) / min(in_usdt) < allowed, (coin, in_usdt)


def test_a_cross_agrees_with_its_two_legs(universe: Universe) -> None:
    def price(symbol: str) -> float:
        market = market_of(universe, ("binance", symbol))
        return float(market.tape.close_before(MINUTE)) * 10.0**-market.listing.price_scale

    assert price("ETH/BTC") == pytest.approx(price("ETH/USDT") / price("BTC/USDT"), rel=0.002)


def test_closed_hours_are_remembered_and_equal(universe: Universe) -> None:
    market = market_of(universe, ("binance", "XRP/USDT"))
    cache = CandleCache()
    book = CandleBook(tape=market.tape, cache=cache)
    day, now_ms = MINUTE // 1_440 * 1_440 - 1_440, MINUTE * MINUTE_MS
    first = book.bucket(day, minutes=1_440, now_ms=now_ms)
    assert book.bucket(day, minutes=1_440, now_ms=now_ms) is first
    minutes = [book.minute(minute) for minute in range(day, day + 1_440)]
    assert first is not None
    assert first.quote == sum(candle.quote for candle in minutes if candle)
    assert first.high == max(candle.high for candle in minutes if candle)


@pytest.mark.parametrize("pair", PAIRS, ids=PAIR_IDS)
def test_no_trade_is_outside_the_bounds_of_its_hour(
    universe: Universe, pair: tuple[str, str]
) -> None:
    tape = market_of(universe, pair).tape
    for hour in range(MINUTE // 60 - 30, MINUTE // 60):
        low, high = tape.hour_bounds(hour)
        found = [tape.extremes(minute) for minute in range(hour * 60, hour * 60 + 60)]
        assert all(low <= least and most <= high for least, most in filter(None, found))


@pytest.mark.parametrize("count", [0, 1, 2, 97, 1_001])
def test_mix_each_is_mix_of_each(count):
    numbers = [7 * number**3 for number in range(count)]
    for key in (0, 1, 0xDEADBEEFCAFEBABE, 2**64 - 1):
        assert mix_each(key, numbers) == [mix(key, number) for number in numbers]


@pytest.mark.parametrize("pair", PAIRS, ids=PAIR_IDS)
def test_minutes_together_are_those_one_by_one(universe, pair):
    market = market_of(universe, pair)
    span = range(MINUTE - 95, MINUTE)
    tape, candles = market.tape, market.candles
    assert tape.minutes(span.start, span.stop) == [tape.minute(minute) for minute in span]
    assert candles.minutes(span.start, span.stop) == [candles.minute(minute) for minute in span]
    assert candles.minutes(MINUTE, MINUTE) == []
