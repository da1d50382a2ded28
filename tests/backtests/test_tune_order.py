"""What a tune and a walk-forward may be asked to do, and how what may not be is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backtests.fields import OrderError
from backtests.tune_order import TuneOrder
from backtests.wfo_order import WfoOrder
from tests.backtests.stored import tune_payload
from tests.factories import SymbolFactory

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).parents[2]
DATA = tune_payload()["data_config"]
WFO = {"train_days": 10, "test_days": 5}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in tune_payload().items() if key != name}


def wfo(**config: Any) -> dict[str, Any]:
    return tune_payload(wfo_config=WFO | config)


def test_payload_is_parsed_to_the_same_order():
    order = TuneOrder.parse(tune_payload(engine_config={"sides": "both", "stop_loss_ratio": 0.1}))
    assert TuneOrder.parse(order.payload()) == order


def test_payload_spells_out_every_default():
    assert TuneOrder.parse(tune_payload()).payload() == {
        **tune_payload(),
        "workspace_id": "default",
        "objective": "sharpe",
        "gates": {"max_drawdown_ratio": 0.9, "min_trade_count": 1},
        "engine_id": "kernel",
        "engine_config": {
            "initial_cash": 10_000.0,
            "taker_ratio": 0.001,
            "maker_ratio": 0.001,
            "slippage_bps": 1.0,
            "size_ratio": 1.0,
            "sides": "long",
            "stop_loss_ratio": None,
            "take_profit_ratio": None,
        },
        "oos_ratio": 0.3,
        "seed": 0,
        "max_trials": 1_000,
        "sampling": "latin_hypercube",
    }


@pytest.mark.parametrize(
    "start", [1704067200, "2024-01-01", "2024-01-01T00:00Z", "2024-01-01T03:00+03:00"]
)
def test_parse_takes_moments_in_every_usual_spelling(start: object):
    data = DATA | {"start_ts": start, "end_ts": 1706745600}
    assert TuneOrder.parse(tune_payload(data_config=data)).wanted.start_ms == 1704067200_000


def test_parse_normalises_symbol_timeframe_and_exchange():
    data = DATA | {"exchange": "Index", "symbol": "btc-usdt", "timeframe": "60min"}
    assert TuneOrder.parse(tune_payload(data_config=data)) == TuneOrder.parse(tune_payload())


@pytest.mark.parametrize("written", ["BTCUSDT", "btcusdt", "btc_usdt", " BTC-USDT "])
def test_parse_takes_symbols_in_every_usual_spelling(written: str):
    SymbolFactory(name="BTC/USDT")
    data = DATA | {"symbol": written}
    assert TuneOrder.parse(tune_payload(data_config=data)).series.symbol == "BTC/USDT"


def test_parse_refuses_a_spelling_that_two_symbols_have():
    for name in ("BTC/USDT", "BTCU/SDT"):
        SymbolFactory(name=name)
    with pytest.raises(OrderError, match=r"BTC/USDT or BTCU/SDT") as caught:
        TuneOrder.parse(tune_payload(data_config=DATA | {"symbol": "BTCUSDT"}))
    assert caught.value.field == "data_config.symbol"


def test_parse_takes_a_symbol_that_nobody_has_heard_of_where_its_parts_are_told_apart():
    data = DATA | {"symbol": "new-coin"}
    assert TuneOrder.parse(tune_payload(data_config=data)).series.symbol == "NEW/COIN"


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"strategy_id": "astrology"}, "strategy_id", "there are sma_cross"),
        ({"strategy_id": 7}, "strategy_id", "must be a text, got 7"),
        ({"param_space": {"fats": [1]}}, "param_space", "no parameter 'fats'; it has fast, slow"),
        ({"param_space": {}}, "param_space", "name at least one of fast, slow"),
        ({"param_space": [1]}, "param_space", "must be an object"),
        ({"param_space": {"fast": []}}, "param_space", "fast must have 1 to"),
        ({"objective": "luck"}, "objective", "one of sharpe, sharpe_dd_penalty"),
        ({"gates": {"max_drawdown": 2}}, "gates", "above 0 and at most 1"),
        ({"gates": {"luck": 1}}, "gates.luck", "there are max_drawdown_ratio, min_trade_count"),
        (
            {"gates": {"max_drawdown": 0.1, "max_drawdown_ratio": 0.2}},
            "gates",
            "stands there twice",
        ),
        ({"engine_id": "abacus"}, "engine_id", "one of kernel, backtesting.py"),
        ({"engine_config": {"sides": "up"}}, "engine_config", "long, short or both, got 'up'"),
        ({"engine_config": {"taker_ratio": "free"}}, "engine_config", "finite number, got 'free'"),
        ({"engine_config": {"timeframe": "1m"}}, "engine_config.timeframe", "unknown"),
        ({"oos_ratio": 1}, "oos_ratio", "above 0 and below 1, got 1"),
        ({"oos_ratio": 10**400}, "oos_ratio", "above 0 and below 1, got 1000"),
        ({"oos_ratio": float("nan")}, "oos_ratio", "above 0 and below 1, got nan"),
        ({"seed": 1.5}, "seed", "whole number"),
        ({"max_trials": 0}, "max_trials", "from 1 to 100000, got 0"),
        ({"max_trials": True}, "max_trials", "got True"),
        ({"sampling": "best"}, "sampling", "latin_hypercube, random"),
        ({"workspace_id": "a b"}, "workspace_id", "1 to 64 letters"),
        ({"fold": {}}, "fold", "unknown"),
        ({"trials": 9}, "trials", "unknown; there are data_config"),
        ({"data_config": "all"}, "data_config", "an object, got 'all'"),
        (
            {"data_config": DATA | {"exchange": "nasdaq"}},
            "data_config.exchange",
            "unknown exchange",
        ),
        ({"data_config": DATA | {"symbol": "BITCOIN"}}, "data_config.symbol", "it as BTC/USDT"),
        ({"data_config": DATA | {"symbol": "BTC/BTC"}}, "data_config.symbol", "BTC in itself"),
        ({"data_config": DATA | {"timeframe": "7m"}}, "data_config.timeframe", "1m 5m 15m 1h"),
        ({"data_config": DATA | {"start_ts": DATA["end_ts"]}}, "data_config.start_ts", "before"),
        ({"data_config": DATA | {"start_ts": 1704067200000}}, "data_config.start_ts", "seconds"),
        ({"data_config": DATA | {"end_ts": "soon"}}, "data_config.end_ts", "ISO 8601"),
        ({"data_config": DATA | {"start_ts": None}}, "data_config.start_ts", "is missing"),
        (
            {"data_config": DATA | {"timeframe": "1m", "start_ts": "2010-01-01"}},
            "data_config",
            "at most 5000000 are taken",
        ),
    ],
)
def test_parse_refuses_by_the_fields_name(changes: dict[str, Any], field: str, says: str):
    with pytest.raises(OrderError) as caught:
        TuneOrder.parse(tune_payload(**changes))
    assert (caught.value.field, says in str(caught.value)) == (field, True), str(caught.value)


@pytest.mark.parametrize("name", ["strategy_id", "param_space", "data_config"])
def test_parse_refuses_what_is_missing(name: str):
    with pytest.raises(OrderError) as caught:
        TuneOrder.parse(without(name))
    assert caught.value.field == name


def test_parse_repeats_only_the_beginning_of_what_is_long():
    with pytest.raises(OrderError) as caught:
        TuneOrder.parse(tune_payload(objective="x" * 10_000))
    assert len(str(caught.value)) < 300


def test_wfo_payload_is_parsed_to_the_same_order():
    order = WfoOrder.parse(wfo(step_days=4, allow_partial=True))
    assert WfoOrder.parse(order.payload()) == order


def test_wfo_steps_by_its_test_window_unless_told():
    assert WfoOrder.parse(wfo()).windows.step_days == 5


@pytest.mark.parametrize(
    ("config", "field", "says"),
    [
        ({"train_days": 0}, "wfo_config.train_days", "from 1 to"),
        ({"train_days": 8}, "wfo_config.train_days", "192 candles of 1h, and 200 are needed: 9 d"),
        ({"test_days": None}, "wfo_config.test_days", "is missing"),
        ({"train_days": 20}, "wfo_config", "holds 1 fold, and min_folds is 3: 35 days would do"),
        ({"min_folds": 1}, "wfo_config.min_folds", "from 2 to"),
        ({"allow_partial": "yes"}, "wfo_config.allow_partial", "true or false"),
        ({"start_ts": "2020-01-01"}, "wfo_config", "must lie in those of data_config"),
        ({"start_ts": 1800000000}, "wfo_config.start_ts", "before end_ts"),
        ({"days": 3}, "wfo_config.days", "unknown"),
        (
            {"test_days": 1, "leaderboard_top_k": 1_000},
            "wfo_config.leaderboard_top_k",
            "1000 of each of 15 folds are 15000 candidates, and at most 10000 are tested: 666",
        ),
    ],
)
def test_wfo_refuses_by_the_fields_name(config: dict[str, Any], field: str, says: str):
    with pytest.raises(OrderError) as caught:
        WfoOrder.parse(wfo(**config))
    assert (caught.value.field, says in str(caught.value)) == (field, True), str(caught.value)


def test_wfo_has_no_out_of_sample_ratio():
    with pytest.raises(OrderError, match="folds have test windows"):
        WfoOrder.parse(wfo() | {"oos_ratio": 0.2})


def test_nothing_that_a_worker_or_the_web_imports_loads_numpy():
    code = (
        "import django, os; os.environ['DJANGO_SETTINGS_MODULE'] = 'config.settings'\n"
        "django.setup()\n"
        "from config.celery import app; app.loader.import_default_modules()\n"
        "import backtests.wfo_order, backtests.tasks, backtests.leaderboard, sys\n"
        "print([name for name in ('numpy', 'numba', 'rich', 'ccxt') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
