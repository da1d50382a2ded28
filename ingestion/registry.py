"""Every exchange there is, by name. A new one is its module and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ingestion.adapter import Adapter
from ingestion.exchanges import binance, bybit, coinbase, kraken, kucoin, okx, upbit

ADAPTERS: Mapping[str, Adapter] = MappingProxyType(
    {
        binance.NAME: binance,
        upbit.NAME: upbit,
        kraken.NAME: kraken,
        coinbase.NAME: coinbase,
        okx.NAME: okx,
        bybit.NAME: bybit,
        kucoin.NAME: kucoin,
    }
)
