from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.blend import Blender, ListedCandles
from market.candles import BackfilledCandle
from oracle.aggregation import aggregate
from oracle.values import Candle

AT = 1_700_000_040_000
MINUTE_MS = 60_000
D = Decimal


def candle(close: str, *, at: int = AT, volume: str | None = "1", **fields: Any) -> Candle:
    price = D(close)
    given = {"open": price, "high": price, "low": price, "close": price, **fields}
    return Candle(open_ms=at, volume=None if volume is None else D(volume), **given)


def listed(exchange: str, *candles: Candle, **fields: Any) -> ListedCandles:
    return ListedCandles(exchange=exchange, candles={c.open_ms: c for c in candles}, **fields)


def blend(*listings: ListedCandles, factor: str = "3") -> list[BackfilledCandle]:
    return list(Blender(symbol="BTC/USDT", factor=D(factor)).blend(listings))


def test_blend_two_exchanges_are_weighted_by_quote_volume_per_field() -> None:
    one = candle(
        "100",
        open=D(90),
        high=D(110),
        low=D(80),
        volume="3",
        quote_volume=D(300),
        trade_count=5,
    )
    two = candle(
        "104", open=D(94), high=D(114), low=D(84), volume="1", quote_volume=D(100), trade_count=2
    )
    assert blend(listed("okx", one), listed("binance", two)) == [
        BackfilledCandle(
            symbol="BTC/USDT",
            open_ms=AT,
            open=D(91),
            high=D(111),
            low=D(81),
            close=D(101),
            volume=D(4),
            quote_volume=D(400),
            vwap=D(100),
            trade_count=7,
            sources=("binance", "okx"),
        )
    ]


def test_blend_one_exchange_is_its_candle_to_the_digit() -> None:
    own = candle("0.000012345678901234", volume="0", quote_volume=D(0), trade_count=0)
    (made,) = blend(listed("kucoin", own))
    assert (made.close, made.volume, made.quote_volume, made.vwap, made.trade_count) == (
        D("0.000012345678901234"),
        D(0),
        D(0),
        None,
        0,
    )


def test_blend_outlier_is_out_by_the_rule_of_the_index() -> None:
    closes = ["100", "101", "102", "103", "104", "100.5", "500"]
    listings = [listed(f"e{n}", candle(close)) for n, close in enumerate(closes)]
    (made,) = blend(*listings, factor="1000")
    prices = [D(close) for close in closes]
    expected = aggregate(prices, prices)  # a base volume of 1 each
    assert expected.rejected
    assert (made.close, len(made.sources)) == (expected.price, 6)
    assert "e6" not in made.sources
    assert made.volume == D(7)  # it traded, whatever at


def test_blend_disagreeing_two_are_told_apart_by_the_minute_before() -> None:
    later = AT + MINUTE_MS
    made = blend(
        listed("okx", candle("100"), candle("101", at=later)),
        listed("bybit", candle("100"), candle("900", at=later)),
    )
    assert [(c.close, c.sources, c.volume) for c in made] == [
        (D(100), ("bybit", "okx"), D(2)),
        (D(101), ("okx",), D(1)),
    ]


def test_blend_disagreeing_two_with_nothing_before_make_no_candle() -> None:
    assert blend(listed("okx", candle("100")), listed("bybit", candle("900"))) == []


@pytest.mark.parametrize(("minutes", "kept"), [(10, False), (11, True)])
def test_blend_lone_jump_is_believed_only_after_ten_minutes(minutes: int, kept: bool) -> None:
    later = AT + minutes * MINUTE_MS
    made = blend(listed("okx", candle("100"), candle("900", at=later)))
    assert [c.open_ms for c in made] == ([AT, later] if kept else [AT])


def test_blend_nobody_has_volume_is_the_median() -> None:
    made = blend(*(listed(f"e{p}", candle(p, volume="0")) for p in ("100", "102", "109")))
    assert made[0].close == D(102)


def test_blend_two_listings_of_an_exchange_are_one_source() -> None:
    made = blend(
        listed("kraken", candle("100", volume="1")),
        listed("kraken", candle("102", volume="1", quote_volume=D(100))),
        listed("okx", candle("101", volume="2")),
    )
    assert made[0].sources == ("kraken", "okx")
    assert made[0].volume == D(4)


@pytest.mark.parametrize("field", ["quote_volume", "trade_count", "volume"])
def test_blend_what_one_does_not_say_is_not_known(field: str) -> None:
    full: dict[str, Any] = {"quote_volume": D(100), "trade_count": 3}
    one = candle("100", **full)
    lacking = {**full, field: None} if field != "volume" else full
    two = candle("100", volume=None if field == "volume" else "1", **lacking)
    (made,) = blend(listed("okx", one), listed("bybit", two))
    assert getattr(made, field) is None
    assert made.sources == ("bybit", "okx")


def test_blend_converted_listing_counts_for_the_price_and_not_for_volumes() -> None:
    own = candle("100", volume="1", quote_volume=D(100), trade_count=3)
    won = candle("150000", volume="1", quote_volume=D(150000), trade_count=9)
    (made,) = blend(listed("okx", own), listed("upbit", won, factors={AT: D(1) / D(1000)}))
    assert made.close == D(130)  # (100·100 + 150·150) / 250
    assert (made.volume, made.quote_volume, made.trade_count) == (D(1), D(100), 3)
    assert made.sources == ("okx", "upbit")


def test_blend_minute_without_a_rate_leaves_the_listing_out_and_counts_it() -> None:
    blender = Blender(symbol="BTC/USDT", factor=D(3))
    later = AT + MINUTE_MS
    own = listed("okx", candle("100"), candle("100", at=later))
    won = listed("upbit", candle("1000"), candle("1000", at=later), factors={later: D("0.1")})
    made = list(blender.blend([own, won]))
    assert [c.sources for c in made] == [("okx",), ("okx", "upbit")]
    assert blender.without_rate == {"upbit": 1}


def test_blend_volume_too_large_to_store_is_not_known() -> None:
    made = blend(*(listed(n, candle("1", volume="9e19")) for n in ("okx", "bybit")))
    assert (made[0].volume, made[0].close) == (None, D(1))


prices = st.decimals("0.00001", "100000", places=5)


@st.composite
def candles(draw: st.DrawFn) -> Candle:
    low, *inner, high = sorted(draw(st.lists(prices, min_size=4, max_size=4)))
    opened, close = draw(st.permutations(inner))
    return Candle(
        open_ms=AT,
        open=opened,
        high=high,
        low=low,
        close=close,
        volume=draw(st.decimals("0", "1000", places=3)),
    )


@given(st.lists(candles(), min_size=1, max_size=7), st.permutations(range(7)))
def test_blend_is_ordered_within_its_sources_and_blind_to_their_order(
    given: list[Candle], order: list[int]
) -> None:
    listings = [listed(f"e{n}", each) for n, each in enumerate(given)]
    made = blend(*listings, factor="1e12")
    shuffled = [listings[n] for n in order if n < len(listings)]
    assert blend(*shuffled, factor="1e12") == made
    (one,) = made
    assert one.low <= one.open <= one.high
    assert one.low <= one.close <= one.high
    for field in ("open", "high", "low", "close"):
        values = [getattr(each, field) for each in given]
        assert min(values) <= getattr(one, field) <= max(values)
