import json
from decimal import Decimal

import pytest

from oracle import keys, rate_board
from oracle.connection import redis_client
from oracle.rate_board import FxLeg, Rate, Unsaved, Waiting
from oracle.values import Source

D = Decimal
NOW = 1_800_000_000_000
T1, T2 = (f"{n:016d}" for n in (1, 2))


def rate(value="100", *, symbol="BTC/USDT", at_ms=NOW, **other):
    fields = {
        "symbol": symbol,
        "price": D(value),
        "method": "vwap",
        "status": "fresh",
        "timestamp_ms": at_ms,
        "as_of_ms": at_ms - 400,
        "window_ms": 30_000,
        "volume": D("1.5"),
        "quote_volume": D("150"),
        "trade_count": 3,
        "source_count": 1,
        "outliers_removed": 1,
        "sources": tuple(
            Source(
                exchange=name,
                exchange_symbol="x",
                price=D(value),
                native_price=D(value),
                weight=D(150),
                volume=D("1.5"),
                as_of_ms=at_ms - 400,
                kept=kept,
            )
            for name, kept in (("okx", True), ("binance", False))
        ),
    }
    return Rate(**{**fields, **other})


def publish(*rates, tick_ms=NOW, token=T1):
    return rate_board.publish(rates, tick_ms=tick_ms, token=token)


def test_a_rate_is_read_as_it_was_published():
    leg = FxLeg(name="USD→RUB", factor=D("81.25"), as_of_ms=NOW, source="cbr")
    one = rate("0.00000123", derived_from="BTC/USD", legs=(leg,))
    assert publish(one) == 0
    assert rate_board.read(["BTC/USDT", "ETH/USDT"]) == {"BTC/USDT": one}
    assert rate_board.read([]) == {}
    assert 0 < redis_client().ttl(keys.rate("BTC/USDT")) <= rate_board.KEEP_SECONDS


def test_each_rate_is_announced():
    with redis_client().pubsub(ignore_subscribe_messages=True) as inbox:
        inbox.subscribe(keys.channel("rates"))
        inbox.get_message(timeout=1)
        publish(rate())
        while (message := inbox.get_message(timeout=1)) is None:
            pass
    assert json.loads(message["data"])["symbol"] == "BTC/USDT"


def test_an_older_token_publishes_nothing():
    publish(rate("1"), token=T2)
    assert publish(rate("2"), tick_ms=NOW + 10_000, token=T1) is None
    assert rate_board.read(["BTC/USDT"])["BTC/USDT"].price == 1
    assert len(rate_board.unsaved(ticks=9).members) == 1


def test_a_rate_of_the_other_world_is_not_there(settings):
    publish(rate(simulated=True))
    assert rate_board.read(["BTC/USDT"]) == {}
    settings.SIMULATED = True
    assert list(rate_board.read(["BTC/USDT"])) == ["BTC/USDT"]


@pytest.mark.parametrize(("after_ms", "status"), [(30_000, "fresh"), (30_001, "stale")])
def test_a_rate_that_is_not_made_anew_grows_stale(after_ms, status):
    found = rate_board.freshness(rate(), now_ms=NOW + after_ms)
    assert (found.status, found.age_ms) == (status, after_ms + 400)


def test_what_is_published_waits_to_be_saved_and_is_forgotten_after():
    publish(rate("2"), tick_ms=NOW + 10_000)
    publish(rate("1"), rate("3", symbol="ETH/USDT"))
    waiting = rate_board.unsaved(ticks=1)
    assert waiting.rows == tuple(
        Unsaved(
            symbol=symbol,
            time_ms=NOW,
            price=D(price),
            method="vwap",
            sources=("okx",),
            volume=D("1.5"),
        )
        for symbol, price in (("BTC/USDT", "1"), ("ETH/USDT", "3"))
    )
    rate_board.forget(waiting)
    rate_board.forget(waiting)
    assert [row.price for row in rate_board.unsaved(ticks=9).rows] == [D(2)]
    rate_board.forget(Waiting((), ()))


def test_too_many_waiting_drop_the_oldest_and_say_so(monkeypatch):
    monkeypatch.setattr(rate_board, "UNSAVED_TICKS", 2)
    dropped = [publish(rate(str(n)), tick_ms=NOW + n * 10_000) for n in range(1, 5)]
    assert dropped == [0, 0, 1, 1]
    assert [row.price for row in rate_board.unsaved(ticks=9).rows] == [D(3), D(4)]


def test_rates_of_the_other_world_are_dropped_not_saved(settings):
    settings.SIMULATED = True
    publish(rate(simulated=True))
    settings.SIMULATED = False
    waiting = rate_board.unsaved(ticks=9)
    assert (waiting.rows, len(waiting.members)) == ((), 1)


def test_nothing_to_publish_is_nothing():
    assert publish() == 0
