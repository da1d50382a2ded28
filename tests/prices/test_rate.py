from decimal import Decimal

import pytest
from structlog.testing import capture_logs

from oracle import catalog, fx_board, heartbeat, rate_board
from oracle.agreement import FAR_FROM_MEDIAN
from oracle.catalog import Catalog, CatalogListing, CatalogSymbol
from oracle.rate_board import FxLeg
from oracle.trade_totals import SecondTotals, Sums
from prices import rate
from prices.rate import NO_TRADES, WINDOW_MS, RateWriter, Rules, gather, make_rates
from tests.oracle.test_fx_board import quote
from tests.oracle.test_price_board import price, publish
from tests.oracle.test_trade_totals import commit, delivered, sums

D = Decimal
NOW = 1_800_000_000_000 - 1_800_000_000_000 % 60_000
DAY = 86_400_000
RULES = Rules(max_deviation_factor=D(3), fx_max_age_ms=4 * DAY)
T1 = "1".zfill(16)


def symbol(name, derived_from=None, min_sources=2, is_rate=False):
    base, quote_currency = name.split("/")
    return CatalogSymbol(
        name=name,
        base=base,
        quote=quote_currency,
        min_sources=min_sources,
        derived_from=derived_from,
        is_rate=is_rate,
    )


def listing(exchange, native, name, quote_currency):
    return CatalogListing(
        exchange=exchange, exchange_symbol=native, symbol=name, quote=quote_currency
    )


CATALOG = Catalog(
    exchanges=("binance", "bybit", "kraken", "okx"),
    symbols=(
        symbol("BTC/USDT"),
        symbol("BTC/USD", min_sources=1),
        symbol("BTC/RUB", derived_from="BTC/USD", min_sources=1),
        symbol("USDT/USD", is_rate=True),
    ),
    listings=(
        listing("binance", "BTCUSDT", "BTC/USDT", "USDT"),
        listing("bybit", "BTCUSDT", "BTC/USDT", "USDT"),
        listing("okx", "BTC-USDT", "BTC/USDT", "USDT"),
        listing("kraken", "BTC/USD", "BTC/USDT", "USD"),
        listing("kraken", "BTC/USD", "BTC/USD", "USD"),
    ),
)


def traded(volume, quote_volume, count=1, *, ago=1):
    total = Sums(volume=D(volume), quote_volume=D(quote_volume), trade_count=count)
    return SecondTotals(sums=total, last_second=NOW // 1_000 - ago)


def made(window, quotes=(), stable=None, **changes):
    currencies = gather(quotes, stable or {}, RULES, now_ms=NOW)
    found = make_rates(CATALOG, window, currencies, RULES, tick_ms=NOW)
    return {each.symbol: each for each in found}


# --- from trades ---


def test_a_rate_is_the_vwap_of_the_exchanges_vwaps_by_quote_volume():
    window = {"BTC/USDT": {"binance": traded("2", "200", 5), "okx": traded("1", "103", ago=4)}}
    one = made(window)["BTC/USDT"]
    assert one.price == D("101.019801980198")  # (100·200 + 103·103) / 303
    assert (one.method, one.status, one.source_count) == ("vwap", "fresh", 2)
    assert (one.volume, one.quote_volume, one.trade_count) == (D(3), D(303), 6)
    assert (one.timestamp_ms, one.as_of_ms, one.window_ms) == (NOW, NOW - 3_000, WINDOW_MS)


def test_the_receipt_names_each_exchange_and_why_it_is_not_in():
    window = {
        "BTC/USDT": {
            "binance": traded("1", "100"),
            "bybit": traded("1", "1000"),
            "okx": traded("1", "101"),
        }
    }
    one = made(window)["BTC/USDT"]
    receipt = {each.exchange: (each.kept, each.reason) for each in one.sources}
    assert receipt == {
        "binance": (True, None),
        "bybit": (False, FAR_FROM_MEDIAN),
        "okx": (True, None),
    }
    assert (one.outliers_removed, one.source_count, one.volume) == (1, 2, D(2))
    assert one.price < 102


def test_an_exchange_nobody_traded_on_is_no_source():
    one = made({"BTC/USDT": {"okx": traded("1", "100")}})["BTC/USDT"]
    assert {each.exchange: each.reason for each in one.sources} == {
        "binance": NO_TRADES,
        "bybit": NO_TRADES,
        "okx": None,
    }
    assert one.status == "degraded"


def test_a_symbol_nobody_traded_has_no_new_rate():
    assert made({}) == {}


def test_trades_of_an_exchange_that_is_no_longer_listed_are_no_source():
    assert made({"BTC/USDT": {"upbit": traded("1", "100")}}) == {}


# --- derived ---

BTC_USD = {"BTC/USD": {"kraken": traded("2", "200.5", 3)}}


def test_a_derived_rate_is_its_origin_times_the_currency_rate():
    one = made(BTC_USD, [quote(as_of_ms=NOW - DAY)])["BTC/RUB"]
    day = quote().date
    assert one.price == D("8145.3125")  # 100.25 · 81.25
    assert (one.derived_from, one.method, one.status) == ("BTC/USD", "vwap", "fresh")
    assert one.legs == (
        FxLeg(name="USD→RUB", factor=D("81.25"), as_of_ms=NOW - DAY, source="cbr", date=day),
    )
    assert one.as_of_ms == NOW - DAY
    assert (one.volume, one.quote_volume, one.trade_count) == (D(2), D("16290.625"), 3)
    [source] = one.sources
    assert (source.price, source.native_price) == (D("8145.3125"), D("100.25"))
    assert source.path == ("USD→RUB",)


@pytest.mark.parametrize("as_of_ms", [NOW - 4 * DAY - 1, NOW + 1])
def test_without_a_currency_rate_in_force_there_is_no_derived_one(as_of_ms):
    assert "BTC/RUB" not in made(BTC_USD, [quote(as_of_ms=as_of_ms)])
    assert "BTC/RUB" not in made(BTC_USD)


def test_a_currency_rate_as_old_as_allowed_is_used():
    assert "BTC/RUB" in made(BTC_USD, [quote(as_of_ms=NOW - 4 * DAY)])


USDT = {"BTC/USDT": {"okx": traded("1", "100")}}


def test_without_its_origin_it_follows_another_pair_of_its_base():
    stable = {"USDT/USD": price("0.999", symbol="USDT/USD", now_ms=NOW)}
    one = made(USDT, [quote()], stable)["BTC/RUB"]
    assert one.price == D("8116.875")  # 100 · 0.999 · 81.25
    assert one.derived_from == "BTC/USDT"
    assert [(leg.name, leg.source) for leg in one.legs] == [
        ("USDT→USD", "index"),
        ("USD→RUB", "cbr"),
    ]


def test_a_stale_rate_of_the_index_is_not_converted_with():
    stable = {"USDT/USD": price("0.999", symbol="USDT/USD", now_ms=NOW - 60_000)}
    assert "BTC/RUB" not in made(USDT, [quote()], stable)


def test_any_fiat_follows_by_the_same_rule():
    derived = Catalog(
        exchanges=("kraken",),
        symbols=(symbol("BTC/USD"), symbol("BTC/TRY", derived_from="BTC/USD")),
        listings=(listing("kraken", "BTC/USD", "BTC/USD", "USD"),),
    )
    quotes = [quote("USD", "80"), quote("TRY", "2")]
    currencies = gather(quotes, {}, RULES, now_ms=NOW)
    found = make_rates(derived, BTC_USD, currencies, RULES, tick_ms=NOW)
    one = {each.symbol: each for each in found}["BTC/TRY"]
    assert one.price == D(4010)
    assert [leg.name for leg in one.legs] == ["USD→RUB", "RUB→TRY"]


# --- one tick ---


def trade_at(second, volume="1", quote_volume="100"):
    commit([delivered()], seconds={("binance", "BTC/USDT", second): sums(volume, quote_volume)})


def test_a_tick_publishes_the_window_of_the_last_whole_ten_seconds():
    catalog.publish(CATALOG)
    end = NOW // 1_000
    for second, value in ((end - 31, "1"), (end - 30, "100"), (end - 1, "102"), (end, "999")):
        trade_at(second, quote_volume=value)
    RateWriter().tick(now_ms=NOW + 700, token=T1)
    one = rate_board.read(["BTC/USDT"])["BTC/USDT"]
    assert (one.timestamp_ms, one.price, one.trade_count) == (NOW, D(101), 2)
    assert heartbeat.last(["rates"])["rates"] == {"at_ms": NOW + 700, "published": 1}


def test_a_tick_converts_with_what_is_on_the_boards(settings):
    catalog.publish(CATALOG)
    fx_board.publish("cbr", [quote(as_of_ms=NOW)])
    publish(price("1", symbol="USDT/USD", now_ms=NOW))
    trade_at(NOW // 1_000 - 1)
    RateWriter().tick(now_ms=NOW, token=T1)
    assert rate_board.read(["BTC/RUB"])["BTC/RUB"].price == D(8125)


def test_a_rate_says_which_world_it_is_of(settings):
    settings.SIMULATED = True
    catalog.publish(CATALOG)
    trade_at(NOW // 1_000 - 1)
    [one] = RateWriter().tick(now_ms=NOW, token=T1)
    assert one.simulated


def test_a_writer_that_was_paused_publishes_nothing():
    catalog.publish(CATALOG)
    trade_at(NOW // 1_000 - 1)
    RateWriter().tick(now_ms=NOW, token="2".zfill(16))
    assert RateWriter().tick(now_ms=NOW, token=T1) == ()


def test_ticks_that_were_never_saved_are_counted_when_dropped(monkeypatch):
    monkeypatch.setattr(rate_board, "UNSAVED_TICKS", 1)
    catalog.publish(CATALOG)
    before = rate.UNSAVED_DROPPED._value.get()
    with capture_logs() as logs:
        for tick in range(2):
            trade_at(NOW // 1_000 - 1 + 10 * tick)
            RateWriter().tick(now_ms=NOW + 10_000 * tick, token=T1)
    assert rate.UNSAVED_DROPPED._value.get() == before + 1
    assert logs[-1]["event"] == "rates.dropped_unsaved"
