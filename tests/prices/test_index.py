from decimal import Decimal

import msgspec
import pytest

from oracle import catalog, heartbeat, price_board, ticker_book
from oracle.catalog import Catalog, CatalogListing, CatalogSymbol
from oracle.ticker_book import Quote
from oracle.values import Ticker
from prices.index import IndexWriter, Rules, make_plans, price_symbols

D = Decimal
NOW = 1_800_000_000_000
RULES = Rules(max_age_ms=10_000, max_deviation_factor=D(3), max_rate_factor=D("1.02"))


def symbol(name, **options):
    base, quote = name.split("/")
    return CatalogSymbol(name=name, base=base, quote=quote, **{"min_sources": 2, **options})


def listing(exchange, exchange_symbol, name, quote):
    return CatalogListing(
        exchange=exchange, exchange_symbol=exchange_symbol, symbol=name, quote=quote
    )


RATES = (
    symbol("USDT/USD", is_rate=True, min_sources=1),
    symbol("USDT/KRW", is_rate=True, min_sources=1),
)
RATE_LISTINGS = (
    listing("kraken", "USDT/USD", "USDT/USD", "USD"),
    listing("upbit", "KRW-USDT", "USDT/KRW", "KRW"),
)


BTC_USDT = symbol("BTC/USDT")


def plans(*listings, symbols=(BTC_USDT,)):
    return make_plans(
        Catalog(
            exchanges=("binance", "kraken", "okx", "upbit"),
            symbols=(*symbols, *RATES),
            listings=(*listings, *RATE_LISTINGS),
        )
    )


def quote(price, *, volume=None, quote_volume="1000", as_of_ms=NOW - 100):
    return Quote(
        D(price),
        None if volume is None else D(volume),
        None if quote_volume is None else D(quote_volume),
        as_of_ms,
    )


def run(made_plans, book, last=None):
    prices, without = price_symbols(made_plans, book, RULES, now_ms=NOW, last=last)
    return {price.symbol: price for price in prices}, without


BINANCE = listing("binance", "BTCUSDT", "BTC/USDT", "USDT")
OKX = listing("okx", "BTC-USDT", "BTC/USDT", "USDT")
UPBIT = listing("upbit", "KRW-BTC", "BTC/USDT", "KRW")
KRAKEN_USDT = listing("kraken", "BTC/USDT", "BTC/USDT", "USDT")
KRAKEN_USD = listing("kraken", "BTC/USD", "BTC/USDT", "USD")


def test_direct_quotes_weigh_by_quote_volume():
    found, _ = run(
        plans(BINANCE, OKX),
        {
            "binance": {"BTCUSDT": quote("100", quote_volume="3")},
            "okx": {"BTC-USDT": quote("104", quote_volume="1")},
        },
    )
    price = found["BTC/USDT"]
    assert (price.price, price.method, price.status) == (D(101), "vwap", "fresh")
    assert (price.timestamp_ms, price.as_of_ms) == (NOW, NOW - 100)


def test_won_are_converted_with_this_ticks_rate_and_the_path_is_on_the_receipt():
    found, _ = run(
        plans(UPBIT),
        {
            "upbit": {
                "KRW-BTC": quote("125000", quote_volume="2500", as_of_ms=NOW - 50),
                "KRW-USDT": quote("1250", as_of_ms=NOW - 900),
            }
        },
    )
    price = found["BTC/USDT"]
    source = price.sources[0]
    assert (source.price, source.native_price, source.weight) == (D(100), D(125000), D(2))
    assert source.path == ("KRW→USDT",)
    # the rate is the oldest leg: the price is no younger than it
    assert (source.as_of_ms, price.as_of_ms) == (NOW - 900, NOW - 900)
    assert price.status == "degraded"


def test_two_legs_where_the_symbol_is_in_dollars():
    found, _ = run(
        plans(listing("upbit", "KRW-BTC", "BTC/USD", "KRW"), symbols=(symbol("BTC/USD"),)),
        {
            "upbit": {"KRW-BTC": quote("125000"), "KRW-USDT": quote("1250")},
            "kraken": {"USDT/USD": quote("0.5")},
        },
    )
    assert found["BTC/USD"].price == D(50)
    assert found["BTC/USD"].sources[0].path == ("KRW→USDT", "USDT→USD")


def test_without_a_rate_there_is_no_converted_price():
    found, without = run(
        plans(UPBIT, BINANCE),
        {"upbit": {"KRW-BTC": quote("125000")}, "binance": {"BTCUSDT": quote("100")}},
    )
    upbit = next(s for s in found["BTC/USDT"].sources if s.exchange == "upbit")
    assert (upbit.kept, upbit.reason, upbit.price) == (False, "no rate USDT/KRW", None)
    assert set(without) == {"USDT/USD", "USDT/KRW"}


def test_a_stale_rate_is_no_rate():
    found, _ = run(
        plans(UPBIT),
        {
            "upbit": {
                "KRW-BTC": quote("125000"),
                "KRW-USDT": quote("1250", as_of_ms=NOW - 10_001),
            }
        },
    )
    assert "BTC/USDT" not in found


def test_a_source_stuck_for_eleven_seconds_is_out():
    found, _ = run(
        plans(BINANCE, OKX),
        {
            "binance": {"BTCUSDT": quote("100", as_of_ms=NOW - 11_000)},
            "okx": {"BTC-USDT": quote("104")},
        },
    )
    price = found["BTC/USDT"]
    assert price.price == 104
    assert price.status == "degraded"
    binance = price.sources[0]
    assert (binance.kept, binance.reason, binance.as_of_ms) == (False, "stale", NOW - 11_000)


def test_ten_seconds_old_is_still_in():
    found, _ = run(plans(BINANCE), {"binance": {"BTCUSDT": quote("100", as_of_ms=NOW - 10_000)}})
    assert found["BTC/USDT"].price == 100


def test_one_exchange_through_two_listings_is_one_source_for_the_quorum():
    found, _ = run(
        plans(KRAKEN_USDT, KRAKEN_USD),
        {
            "kraken": {
                "BTC/USDT": quote("100"),
                "BTC/USD": quote("100"),
                "USDT/USD": quote("1"),
            }
        },
    )
    price = found["BTC/USDT"]
    assert (price.source_count, len(price.sources), price.status) == (1, 2, "degraded")


def test_an_outlier_is_on_the_receipt_with_its_reason_and_counts_for_nothing():
    book = {
        name: {native: quote(value)}
        for name, native, value in (
            ("binance", "BTCUSDT", "100"),
            ("okx", "BTC-USDT", "101"),
            ("kraken", "BTC/USDT", "1000"),
        )
    }
    found, _ = run(plans(BINANCE, OKX, KRAKEN_USDT), book)
    price = found["BTC/USDT"]
    assert (price.price, price.outliers_removed, price.source_count) == (D("100.5"), 1, 2)
    mad = next(s for s in price.sources if s.exchange == "kraken")
    assert (mad.kept, mad.reason, mad.price) == (False, "far from the median", D(1000))


def test_an_old_outlier_does_not_age_the_price():
    book = {
        "binance": {"BTCUSDT": quote("100", as_of_ms=NOW - 10)},
        "okx": {"BTC-USDT": quote("101", as_of_ms=NOW - 20)},
        "kraken": {"BTC/USDT": quote("1000", as_of_ms=NOW - 9_000)},
    }
    found, _ = run(plans(BINANCE, OKX, KRAKEN_USDT), book)
    assert found["BTC/USDT"].as_of_ms == NOW - 20


def test_base_volume_makes_the_weight_where_quote_volume_is_not_stated():
    found, _ = run(
        plans(BINANCE),
        {"binance": {"BTCUSDT": quote("100", volume="3", quote_volume=None)}},
    )
    assert found["BTC/USDT"].sources[0].weight == 300


def test_no_volume_anywhere_gives_the_median():
    found, _ = run(
        plans(BINANCE, OKX),
        {
            "binance": {"BTCUSDT": quote("100", quote_volume=None)},
            "okx": {"BTC-USDT": quote("102", quote_volume="0")},
        },
    )
    assert (found["BTC/USDT"].price, found["BTC/USDT"].method) == (D(101), "median")


def test_an_exchange_that_says_nothing_is_named():
    found, _ = run(plans(BINANCE, OKX), {"binance": {"BTCUSDT": quote("100")}})
    okx = next(s for s in found["BTC/USDT"].sources if s.exchange == "okx")
    assert (okx.kept, okx.reason, okx.native_price) == (False, "no ticker", None)


def test_a_price_of_thirty_decimals_is_published_as_it_can_be_stored():
    found, _ = run(
        plans(BINANCE), {"binance": {"BTCUSDT": quote("0.000000000123456789012345678901")}}
    )
    assert str(found["BTC/USDT"].price) == "1.23456789E-10"


def test_a_converted_price_that_no_column_can_hold_is_left_out():
    found, _ = run(
        plans(UPBIT, BINANCE),
        {
            "binance": {"BTCUSDT": quote("100")},
            "upbit": {"KRW-BTC": quote("0.000000000000000002"), "KRW-USDT": quote("1250")},
        },
    )
    upbit = next(s for s in found["BTC/USDT"].sources if s.exchange == "upbit")
    assert (upbit.kept, upbit.reason) == (False, "out of range")


def test_a_rate_is_never_converted_itself():
    made = make_plans(
        Catalog(
            exchanges=("upbit",),
            symbols=RATES,
            listings=(*RATE_LISTINGS, listing("upbit", "KRW-USDT", "USDT/USD", "KRW")),
        )
    )
    found, _ = run(
        made,
        {
            "upbit": {"KRW-USDT": quote("1250")},
            "kraken": {"USDT/USD": quote("1")},
        },
    )
    assert [s.reason for s in found["USDT/USD"].sources] == [None, "no conversion"]


def test_the_receipt_lets_anyone_recompute_the_price():
    found, _ = run(
        plans(BINANCE, OKX, UPBIT),
        {
            "binance": {"BTCUSDT": quote("67012.34", quote_volume="1234567.891")},
            "okx": {"BTC-USDT": quote("67013.1", quote_volume="345678.12")},
            "upbit": {
                "KRW-BTC": quote("93456000.00000000", quote_volume="98765432101.123456789"),
                "KRW-USDT": quote("1394.5"),
            },
        },
    )
    price = found["BTC/USDT"]
    total = sum(s.weight for s in price.sources)
    again = sum(s.price * s.weight for s in price.sources) / total
    assert abs(again - price.price) < D("1e-9")


# --- one exchange goes mad: every price stays where the others are, the converted ones too ---

EVERYWHERE = {
    "binance": {"BTCUSDT": "90000"},
    "okx": {"BTC-USDT": "90010"},
    "kraken": {"BTC/USDT": "90020", "BTC/USD": "89930", "USDT/USD": "0.9990"},
    "coinbase": {"BTC-USD": "89940", "USDT-USD": "0.9991"},
    "upbit": {"KRW-BTC": "125100000", "KRW-USDT": "1390"},
}
USDT_LISTINGS = (BINANCE, OKX, KRAKEN_USDT, KRAKEN_USD, UPBIT)
COINBASE = ("coinbase", "BTC-USD")


def world(mad=None, factor="10"):
    return {
        exchange: {
            native: quote(D(price) * D(factor) if exchange == mad else price)
            for native, price in quotes.items()
        }
        for exchange, quotes in EVERYWHERE.items()
    }


def all_plans():
    usdt = (*USDT_LISTINGS, listing(*COINBASE, "BTC/USDT", "USD"))
    usd = (listing(each.exchange, each.exchange_symbol, "BTC/USD", each.quote) for each in usdt)
    return make_plans(
        Catalog(
            exchanges=tuple(EVERYWHERE),
            symbols=(symbol("BTC/USDT"), symbol("BTC/USD"), *RATES),
            listings=(
                *usdt,
                *usd,
                *RATE_LISTINGS,
                listing("coinbase", "USDT-USD", "USDT/USD", "USD"),
            ),
        )
    )


@pytest.mark.parametrize("factor", ["10", "0.1", "1.5"])
@pytest.mark.parametrize("mad", EVERYWHERE)
def test_no_price_moves_when_one_exchange_goes_mad(mad, factor):
    before, _ = run(all_plans(), world())
    after, _ = run(all_plans(), world(mad, factor), last=before)
    for name in ("BTC/USDT", "BTC/USD", "USDT/USD"):
        assert abs(after[name].price / before[name].price - 1) < D("0.002")
    assert mad in {s.exchange for s in after["BTC/USD"].sources if not s.kept}


def test_a_disputed_rate_converts_nothing_and_nothing_is_made_up():
    """From a standing start, with Kraken and Coinbase a factor of ten apart, nobody can tell."""
    found, without = run(all_plans(), world("kraken"))
    assert "USDT/USD" in without
    assert D(89_000) < found["BTC/USDT"].price < D(91_000)
    assert {s.reason for s in found["BTC/USDT"].sources if s.path == ("USD→USDT",)} == {
        "no rate USDT/USD"
    }
    assert "BTC/USD" in without


def test_a_source_alone_that_jumps_is_not_followed_for_ten_minutes():
    before, _ = run(plans(BINANCE), {"binance": {"BTCUSDT": quote("100")}})
    mad = {"binance": {"BTCUSDT": quote("1000")}}
    assert run(plans(BINANCE), mad, last=before)[0] == {}
    old = {
        name: msgspec.structs.replace(price, timestamp_ms=NOW - 600_001)
        for name, price in before.items()
    }
    assert run(plans(BINANCE), mad, last=old)[0]["BTC/USDT"].price == 1000


# --- through Redis ---


@pytest.fixture
def writer():
    catalog.publish(
        Catalog(
            exchanges=("binance", "okx"), symbols=(symbol("BTC/USDT"),), listings=(BINANCE, OKX)
        )
    )
    return IndexWriter()


def tell(exchange, native, price, *, at_ms):
    ticker_book.store(
        exchange,
        [
            Ticker(
                exchange_symbol=native,
                price=D(price),
                volume=D(1),
                quote_volume=D(1),
                event_ms=at_ms,
                received_ms=at_ms,
            )
        ],
        digest=f"{at_ms}",
        received_ms=at_ms,
        token=f"{at_ms:016d}",
    )


def tick(writer, at_ms):
    return writer.tick(now_ms=at_ms, token=f"{at_ms:016d}")


def test_a_tick_publishes_and_beats(writer):
    tell("binance", "BTCUSDT", "0.00000123", at_ms=NOW)
    assert tick(writer, NOW + 500).published == 1
    price = price_board.read(["BTC/USDT"])["BTC/USDT"]
    assert str(price.price) == "0.00000123"
    assert heartbeat.last(["index"])["index"] == {"at_ms": NOW + 500, "published": 1}


def test_when_all_sources_are_gone_the_last_price_goes_stale_and_ages(writer):
    tell("binance", "BTCUSDT", "100", at_ms=NOW)
    tick(writer, NOW + 500)
    assert tick(writer, NOW + 11_000).turned_stale == 1
    price = price_board.read(["BTC/USDT"])["BTC/USDT"]
    assert (price.price, price.status, price.timestamp_ms) == (D(100), "stale", NOW + 500)
    assert price_board.freshness(price, now_ms=NOW + 60_000).age_ms == 60_000
    assert tick(writer, NOW + 12_000).turned_stale == 0


def test_the_source_comes_back_and_the_price_is_fresh_again(writer):
    tell("binance", "BTCUSDT", "100", at_ms=NOW)
    tell("okx", "BTC-USDT", "100", at_ms=NOW)
    tick(writer, NOW + 500)
    tick(writer, NOW + 11_000)
    tell("binance", "BTCUSDT", "101", at_ms=NOW + 12_000)
    tell("okx", "BTC-USDT", "101", at_ms=NOW + 12_000)
    tick(writer, NOW + 12_500)
    price = price_board.read(["BTC/USDT"])["BTC/USDT"]
    assert (price.price, price.status) == (D(101), "fresh")


def test_the_index_follows_the_catalogue(writer):
    tell("binance", "BTCUSDT", "100", at_ms=NOW)
    tick(writer, NOW + 500)
    catalog.publish(Catalog(exchanges=("binance",), symbols=(), listings=()))
    assert tick(writer, NOW + 1_500).published == 0


def test_an_older_tick_that_wakes_up_late_publishes_nothing(writer):
    tell("binance", "BTCUSDT", "100", at_ms=NOW)
    tick(writer, NOW + 1_500)
    assert tick(writer, NOW + 500).published == 0


def test_a_standby_judges_by_what_the_others_published_meanwhile():
    """Its own last price may be minutes old, and one alone that moved since would be refused."""
    catalog.publish(
        Catalog(exchanges=("binance",), symbols=(symbol("BTC/USDT"),), listings=(BINANCE,))
    )
    standby, active = IndexWriter(), IndexWriter()
    tell("binance", "BTCUSDT", "100", at_ms=NOW)
    tick(standby, NOW + 500)
    for number, value in enumerate(["250", "600"], 1):
        at_ms = NOW + number * 100_000
        tell("binance", "BTCUSDT", value, at_ms=at_ms)
        assert tick(active, at_ms + 500).published == 1
    tell("binance", "BTCUSDT", "610", at_ms=NOW + 201_000)
    assert tick(standby, NOW + 201_500).published == 1
