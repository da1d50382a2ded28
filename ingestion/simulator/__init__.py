"""Seven simulated exchanges in one process: REST, WebSocket, faults, and the tape they traded.

Nothing here imports the adapters it is there to check: both sides were written from the
exchanges' documentation and recordings, so that they cannot share a mistake.
Start it with ``python -m ingestion.simulator --port 8001 --seed 7``. An exchange answers under its
own prefix, ``/binance/api/v3/...``; ``/control/...`` is the simulator's own, ``/cbr/...`` the
Central Bank of Russia's daily rates.

Liberties taken: all exchanges move a pair in steps of the same power of ten, and Binance shows
more than eight places for coins too cheap for them; the 24 h quote volume is volume times the
middle of the day's prices (a candle's is exact); Upbit's 52 week fields are only plausible; there
are no intervals longer than a day; request budgets are stated in headers and enforced only by the
rate_limit fault.
"""
