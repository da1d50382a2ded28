"""The counters and timers of all processes (Prometheus). Label values come from closed lists.

Each process writes to files of its own under PROMETHEUS_MULTIPROC_DIR; `/metrics` adds them up.
What can be read from Redis when it is asked for (ages, health, leaders) is a gauge made by the
endpoint instead: it is true however many processes there are.
"""

from __future__ import annotations

from prometheus_client import Counter, Histogram

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)

PRICE_UPDATES = Counter("oracle_price_updates", "Prices published.", ("symbol", "method"))
INGESTION_DURATION = Histogram(
    "oracle_ingestion_duration_seconds", "One fetch of an exchange.", ("exchange",), buckets=_FAST
)
INGESTION_ERRORS = Counter(
    "oracle_ingestion_errors",
    "What an exchange's answers lacked or why there was none, by code.",
    ("exchange", "code"),
)
INGESTION_SKIPPED = Counter(
    "oracle_ingestion_skipped",
    "Fetches not made: breaker open, budget spent, the previous one still running.",
    ("exchange", "why"),
)
INDEX_DURATION = Histogram("oracle_index_duration_seconds", "One index tick.", buckets=_FAST)
OUTLIERS = Counter("oracle_outliers", "Sources left out as outliers.", ("exchange",))
FLUSH_DURATION = Histogram(
    "oracle_flush_duration_seconds", "One flush of candles to the database.", buckets=_FAST
)
FLUSH_ERRORS = Counter("oracle_flush_errors", "Flushes that failed.")
ROLLUP_ERRORS = Counter("oracle_rollup_errors", "Roll-ups that failed: the next one does them.")
POLICY_ERRORS = Counter(
    "oracle_policy_errors",
    "Policies of TimescaleDB that its scheduler failed to run: the oracle did.",
    ("policy",),
)
CANDLE_REVISIONS = Counter(
    "oracle_candle_revisions", "Candles that changed after they were first stored."
)
DATA_FETCHES = Counter(
    "oracle_data_fetches", "Fetches of exchange candles, by how they went.", ("outcome",)
)
LEADER_CHANGES = Counter("oracle_leader_changes", "Roles taken over.", ("role",))
API_DURATION = Histogram(
    "oracle_api_duration_seconds", "One API request.", ("view", "status"), buckets=_FAST
)
TRADES = Counter("oracle_trades", "Trades logged, each once.", ("exchange",))
TRADE_DUPLICATES = Counter(
    "oracle_trade_duplicates", "Trades that came again and were left out.", ("exchange",)
)
TRADE_HOLES = Counter(
    "oracle_trade_holes", "Holes in the trade log that could not be filled.", ("exchange",)
)
TRADES_DROPPED = Counter(
    "oracle_trades_dropped", "Trades given up because a queue or the log was full.", ("exchange",)
)
TRADE_ERRORS = Counter(
    "oracle_trade_errors", "What a socket said that is no trade, by code.", ("exchange", "code")
)
SOCKET_RECONNECTS = Counter(
    "oracle_socket_reconnects", "Sockets opened again, by why.", ("exchange", "why")
)
