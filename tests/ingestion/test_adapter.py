"""What holds for every adapter alike."""

from __future__ import annotations

import ast
import inspect
import sys
from types import ModuleType

import pytest

from ingestion.registry import ADAPTERS
from market.seeds import LISTINGS
from oracle.values import RESOLUTIONS
from tests.ingestion.fixtures import RECEIVED_MS

every_adapter = pytest.mark.parametrize("exchange", ADAPTERS)
PURE = {"ingestion", "ingestion.adapter", "ingestion.answers", "ingestion.wire"} | {
    "ingestion.spelling",
    "oracle.values",
}
IMPURE = {"time", "random", "socket", "os", "logging", "threading", "urllib", "http", "asyncio"}


def imports(module: ModuleType) -> set[str]:
    """Return the modules that a module's source imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@every_adapter
def test_adapter_imports_nothing_but_pure_modules(exchange: str) -> None:
    module = ADAPTERS[exchange]
    assert isinstance(module, ModuleType)

    for name in imports(module):
        top = name.partition(".")[0]
        assert name in PURE or (top in sys.stdlib_module_names and top not in IMPURE), name


@every_adapter
def test_spelling_of_seeded_listings_comes_back(exchange: str) -> None:
    adapter = ADAPTERS[exchange]
    natives = [each.exchange_symbol for each in LISTINGS if each.exchange == exchange]

    assert natives
    assert [adapter.to_native(adapter.from_native(name) or "") for name in natives] == natives


@every_adapter
@pytest.mark.parametrize("symbol", ["", "BTC", "BTC/", "/USDT", "btc/usdt", "A/B/C", "BTC USDT"])
def test_to_native_of_no_symbol_raises(exchange: str, symbol: str) -> None:
    with pytest.raises(ValueError, match="a symbol is written BTC/USDT"):
        ADAPTERS[exchange].to_native(symbol)


@every_adapter
def test_requests_fit_their_budgets(exchange: str) -> None:
    adapter = ADAPTERS[exchange]
    tickers = [adapter.tickers_request(["A"] * number) for number in (0, 1, 50, 500)]
    candles = [
        adapter.candles_request(
            "A", resolution_ms=60_000, from_ms=start, to_ms=start + 60_000, now_ms=RECEIVED_MS
        )
        for start in (RECEIVED_MS - 600_000, RECEIVED_MS - 10**10)
    ]

    for request in (*tickers, *candles):
        assert 0 < request.weight <= adapter.BUDGETS[request.budget].units
        assert request.path.startswith("/")


@every_adapter
@pytest.mark.parametrize("name", RESOLUTIONS)
def test_candles_request_largest_window_is_asked_a_wider_one_refused(
    exchange: str, name: str
) -> None:
    adapter, resolution_ms = ADAPTERS[exchange], RESOLUTIONS[name]
    if (exchange, name) == ("coinbase", "4h"):
        pytest.skip("Coinbase has no candles of four hours")
    from_ms = RECEIVED_MS // 86_400_000 * 86_400_000
    to_ms = from_ms + adapter.MAX_CANDLES_PER_CALL * resolution_ms

    request = adapter.candles_request(
        "A", resolution_ms=resolution_ms, from_ms=from_ms, to_ms=to_ms, now_ms=to_ms
    )

    assert request.symbols == ("A",)
    with pytest.raises(ValueError, match="one call gives 1 to"):
        adapter.candles_request(
            "A", resolution_ms=resolution_ms, from_ms=from_ms, to_ms=to_ms + 1, now_ms=to_ms
        )


@every_adapter
def test_candles_request_unaligned_window_is_the_aligned_one_inside(exchange: str) -> None:
    adapter = ADAPTERS[exchange]
    at = RECEIVED_MS // 60_000 * 60_000

    [unaligned, aligned] = [
        adapter.candles_request(
            "A", resolution_ms=60_000, from_ms=from_ms, to_ms=to_ms, now_ms=RECEIVED_MS
        )
        for from_ms, to_ms in ((at - 1, at + 60_001), (at, at + 120_000))
    ]

    assert unaligned == aligned


@every_adapter
@pytest.mark.parametrize("resolution_ms", [0, 1, 59_999, 604_800_000])
def test_candles_request_unknown_resolution_raises(exchange: str, resolution_ms: int) -> None:
    with pytest.raises(ValueError, match=f"{exchange} has .* not of {resolution_ms} ms$"):
        ADAPTERS[exchange].candles_request(
            "A", resolution_ms=resolution_ms, from_ms=0, to_ms=1, now_ms=RECEIVED_MS
        )


@every_adapter
def test_subscribe_messages_of_nothing_is_nothing(exchange: str) -> None:
    assert ADAPTERS[exchange].subscribe_messages([]) == ()


@every_adapter
@pytest.mark.parametrize("name", ["parse_tickers", "parse_candles", "parse_message"])
def test_parse_docstring_holds_a_sample_and_an_address(exchange: str, name: str) -> None:
    text = inspect.getdoc(getattr(ADAPTERS[exchange], name)) or ""

    assert "https://" in text
    assert "[" in text or "{" in text


def test_registry_names_each_adapter_as_it_names_itself() -> None:
    assert {name: adapter.NAME for name, adapter in ADAPTERS.items()} == {
        name: name for name in ADAPTERS
    }
