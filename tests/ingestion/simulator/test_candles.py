"""Candles over REST equal the fold of /control/tape, whatever the exchange's columns."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    open_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote: Decimal | None = None
    count: int | None = None


def row(open_ms: int, prices: list[Any], volume: Any, **more: Any) -> Row:
    first, high, low, last = (Decimal(price) for price in prices)
    return Row(
        open_ms=open_ms,
        open=first,
        high=high,
        low=low,
        close=last,
        volume=Decimal(volume),
        **more,
    )


def binance(ask, minutes, start_ms, end_ms) -> list[Row]:
    interval = {1: "1m", 5: "5m", 60: "1h"}[minutes]
    rows = ask(
        "binance/api/v3/klines",
        symbol="BTCUSDT",
        interval=interval,
        startTime=start_ms,
        endTime=end_ms - 1,
    ).json
    return [row(r[0], r[1:5], r[5], quote=Decimal(r[7]), count=r[8]) for r in rows]


def upbit(ask, minutes, start_ms, end_ms) -> list[Row]:
    seconds = end_ms // 1000

    rows = ask(
        f"upbit/v1/candles/minutes/{minutes}",
        market="KRW-BTC",
        count=(end_ms - start_ms) // minutes // MINUTE_MS,
        to=datetime.fromtimestamp(seconds, UTC).isoformat(),
    ).json
    return [
        row(
            int(datetime.fromisoformat(r["candle_date_time_utc"] + "+00:00").timestamp()) * 1000,
            [r["opening_price"], r["high_price"], r["low_price"], r["trade_price"]],
            r["candle_acc_trade_volume"],
            quote=r["candle_acc_trade_price"],
        )
        for r in reversed(rows)
    ]


def kraken(ask, minutes, start_ms, end_ms) -> list[Row]:
    rows = ask(
        "kraken/0/public/OHLC", pair="BTC/USD", interval=minutes, since=start_ms // 1000 - 1
    ).json["result"]["BTC/USD"]
    return [row(r[0] * 1000, r[1:5], r[6], count=r[7]) for r in rows if r[0] * 1000 < end_ms]


def coinbase(ask, minutes, start_ms, end_ms) -> list[Row]:
    rows = ask(
        "coinbase/products/BTC-USD/candles",
        granularity=minutes * 60,
        start=start_ms // 1000,
        end=end_ms // 1000 - 1,
    ).json
    return [row(r[0] * 1000, [r[3], r[2], r[1], r[4]], r[5]) for r in reversed(rows)]


def okx(ask, minutes, start_ms, end_ms) -> list[Row]:
    bar = {1: "1m", 5: "5m", 60: "1H"}[minutes]
    rows = ask(
        "okx/api/v5/market/history-candles",
        instId="BTC-USDT",
        bar=bar,
        before=start_ms - 1,
        after=end_ms,
    ).json["data"]
    return [row(int(r[0]), r[1:5], r[5], quote=Decimal(r[7])) for r in reversed(rows)]


def bybit(ask, minutes, start_ms, end_ms) -> list[Row]:
    rows = ask(
        "bybit/v5/market/kline",
        category="spot",
        symbol="BTCUSDT",
        interval=minutes,
        start=start_ms,
        end=end_ms - 1,
    ).json["result"]["list"]
    return [row(int(r[0]), r[1:5], r[5], quote=Decimal(r[6])) for r in reversed(rows)]


def kucoin(ask, minutes, start_ms, end_ms) -> list[Row]:
    kind = {1: "1min", 5: "5min", 60: "1hour"}[minutes]
    rows = ask(
        "kucoin/api/v1/market/candles",
        symbol="BTC-USDT",
        type=kind,
        startAt=start_ms // 1000,
        endAt=end_ms // 1000,
    ).json["data"]
    return [
        row(int(r[0]) * 1000, [r[1], r[3], r[4], r[2]], r[5], quote=Decimal(r[6]))
        for r in reversed(rows)
    ]


READERS: dict[str, tuple[str, Callable[..., list[Row]]]] = {
    "binance": ("BTC/USDT", binance),
    "upbit": ("BTC/KRW", upbit),
    "kraken": ("BTC/USD", kraken),
    "coinbase": ("BTC/USD", coinbase),
    "okx": ("BTC/USDT", okx),
    "bybit": ("BTC/USDT", bybit),
    "kucoin": ("BTC/USDT", kucoin),
}


def fold(trades: list[dict[str, Any]], *, minutes: int, like: Row) -> list[Row]:
    """Return the candles of a tape, with the optional columns the exchange has."""
    buckets: dict[int, list[dict[str, Any]]] = {}
    for trade in trades:
        span = minutes * MINUTE_MS
        buckets.setdefault(trade["event_ms"] // span * span, []).append(trade)
    rows = []
    for open_ms, inside in sorted(buckets.items()):
        prices = [Decimal(trade["price"]) for trade in inside]
        sizes = [Decimal(trade["size"]) for trade in inside]
        quote = sum((p * s for p, s in zip(prices, sizes, strict=True)), Decimal(0))
        rows.append(
            Row(
                open_ms=open_ms,
                open=prices[0],
                high=max(prices),
                low=min(prices),
                close=prices[-1],
                volume=sum(sizes, Decimal(0)),
                quote=None if like.quote is None else quote,
                count=None if like.count is None else len(inside),
            )
        )
    return rows


@pytest.mark.parametrize("minutes", [1, 5, 60])
@pytest.mark.parametrize("exchange", READERS)
def test_candles_equal_the_fold_of_the_tape(ask, now_ms, exchange, minutes):
    symbol, read = READERS[exchange]
    span = minutes * MINUTE_MS
    end_ms = now_ms // span * span
    start_ms = end_ms - {1: 60, 5: 36, 60: 6}[minutes] * span
    rows = read(ask, minutes, start_ms, end_ms)
    trades = ask(
        "control/tape", exchange=exchange, symbol=symbol, from_ms=start_ms, to_ms=end_ms
    ).json
    assert rows == fold(trades, minutes=minutes, like=rows[0])


def test_forming_candle_is_the_fold_of_the_trades_so_far(ask, now_ms):
    start_ms = now_ms // MINUTE_MS * MINUTE_MS
    rows = binance(ask, 1, start_ms, start_ms + MINUTE_MS)
    trades = ask(
        "control/tape", exchange="binance", symbol="BTCUSDT", from_ms=start_ms, to_ms=now_ms + 1
    ).json
    assert len(trades) > 3
    assert rows == fold(trades, minutes=1, like=rows[0])


def test_empty_minutes_are_present_with_the_close_before_where_the_exchange_shows_them(ask):
    rows = ask("binance/api/v3/klines", symbol="MANAUSDT", interval="1m", limit=200).json
    assert [r[0] for r in rows] == list(range(rows[0][0], rows[0][0] + 200 * 60_000, 60_000))
    empty = [(before, r) for before, r in itertools.pairwise(rows) if r[8] == 0]
    assert len(empty) > 50
    for before, r in empty:
        assert r[1:5] == [before[4]] * 4 and r[5] == "0.00000000" == r[7]


def test_empty_minutes_are_absent_where_the_exchange_omits_them(ask, now_ms):
    rows = ask("upbit/v1/candles/minutes/1", market="KRW-MANA", count=200).json
    assert len(rows) == 200
    assert rows[0]["candle_date_time_utc"] > rows[-1]["candle_date_time_utc"]
    assert all(r["candle_acc_trade_volume"] > 0 for r in rows)
    window = {"startAt": now_ms // 1000 - 12_000, "endAt": now_ms // 1000}
    fewer = ask("kucoin/api/v1/market/candles", symbol="MANA-USDT", type="1min", **window).json
    assert 0 < len(fewer["data"]) < 150
    few = ask("coinbase/products/MANA-USD/candles", granularity=60).json
    assert 0 < len(few) < 200


def test_kraken_shows_empty_minutes_with_no_vwap(ask):
    rows = ask("kraken/0/public/OHLC", pair="MANAUSD", interval=1).json["result"]["MANAUSD"]
    empty = [r for r in rows if r[7] == 0]
    assert len(rows) == 721 and len(empty) > 100
    assert all(Decimal(r[5]) == 0 and Decimal(r[6]) == 0 for r in empty)


def test_daily_candle_opens_at_midnight_utc_and_okx_1d_at_sixteen(ask):
    utc = ask("okx/api/v5/market/candles", instId="BTC-USDT", bar="1Dutc", limit=2).json["data"]
    hong_kong = ask("okx/api/v5/market/candles", instId="BTC-USDT", bar="1D", limit=2).json["data"]
    assert [int(r[0]) % 86_400_000 for r in utc] == [0, 0]
    assert [int(r[0]) % 86_400_000 for r in hong_kong] == [57_600_000] * 2
    assert [r[8] for r in utc] == ["0", "1"]
