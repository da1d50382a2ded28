from types import SimpleNamespace

from oracle import catalog, heartbeat, ticker_book
from oracle.catalog import Catalog, CatalogListing, CatalogSymbol
from prices import tasks
from tests.oracle.test_ticker_book import NOW, ticker


def test_one_tick_a_second_for_all_workers(monkeypatch):
    catalog.publish(
        Catalog(
            exchanges=("binance",),
            symbols=(CatalogSymbol(name="BTC/USDT", base="BTC", quote="USDT", min_sources=1),),
            listings=(
                CatalogListing(
                    exchange="binance", exchange_symbol="BTCUSDT", symbol="BTC/USDT", quote="USDT"
                ),
            ),
        )
    )
    ticker_book.store("binance", [ticker()], digest="a", received_ms=NOW, token="0" * 16)
    ticked = []
    for at_ms in (NOW + 500, NOW + 900, NOW + 1_100):
        clock = SimpleNamespace(time_ns=lambda at_ms=at_ms: at_ms * 1_000_000)
        monkeypatch.setattr(tasks, "time", clock)
        tasks.update_index()
        ticked.append(heartbeat.last(["index"])["index"]["at_ms"])
    assert ticked == [NOW + 500, NOW + 500, NOW + 1_100]
