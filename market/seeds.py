"""What a new installation starts with: seven exchanges, the pairs to price, where they are listed.

Plain data without a database: `manage.py seed` writes it, `manage.py parse` looks names up in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

EXCHANGES = {
    "binance": "Binance",
    "bybit": "Bybit",
    "coinbase": "Coinbase",
    "kraken": "Kraken",
    "kucoin": "KuCoin",
    "okx": "OKX",
    "upbit": "Upbit",
}

_ASSETS = (
    "BTC ETH SOL XRP BNB ADA DOGE TRX AVAX LINK DOT LTC BCH XLM UNI ATOM NEAR APT ARB OP FIL ETC "
    "AAVE SHIB PEPE SUI TON XMR HBAR ICP ALGO INJ SEI TIA STX CRV BONK"
)
ASSETS = tuple(_ASSETS.split(" "))

_NOT_IN_WON = ("BNB", "LTC", "OP", "FIL", "TON", "XMR", "ICP", "INJ", "TIA", "CRV")

# Where each asset trades, by exchange and the currency it is quoted in there.
_LISTED = {
    ("binance", "USDT"): set(ASSETS) - {"XMR"},
    ("okx", "USDT"): set(ASSETS) - {"BNB", "XMR"},
    ("bybit", "USDT"): set(ASSETS) - {"XMR"},
    ("kucoin", "USDT"): set(ASSETS),
    ("kraken", "USDT"): {"BTC", "ETH", "SOL", "XRP", "ADA", "DOGE", "LTC", "LINK", "DOT", "BCH"},
    ("kraken", "USD"): set(ASSETS),
    ("coinbase", "USD"): set(ASSETS) - {"BNB", "TRX", "TON", "XMR"},
    ("upbit", "KRW"): set(ASSETS) - set(_NOT_IN_WON),
}
_SPELLING = {
    "binance": "{base}{quote}",
    "bybit": "{base}{quote}",
    "coinbase": "{base}-{quote}",
    "kraken": "{base}/{quote}",
    "kucoin": "{base}-{quote}",
    "okx": "{base}-{quote}",
    "upbit": "{quote}-{base}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedSymbol:
    """A symbol to price."""

    base: str
    quote: str
    min_sources: int = 2
    is_rate: bool = False
    derived_from: str | None = None

    @property
    def name(self) -> str:
        return f"{self.base}/{self.quote}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedListing:
    """A symbol on an exchange; ``quote`` is the currency its price comes in there."""

    exchange: str
    exchange_symbol: str
    symbol: str
    quote: str


RATES = (
    SeedSymbol(base="USDT", quote="USD", is_rate=True),
    SeedSymbol(base="USDT", quote="KRW", min_sources=1, is_rate=True),
)
_RATE_LISTED = (("kraken", "USD"), ("coinbase", "USD"), ("upbit", "KRW"))
# Pairs in won are Upbit's own: nobody else quotes them.
_WON = ("BTC", "ETH", "XRP")
# Nobody of ours quotes roubles: these follow the dollar pairs, by the central bank's rate.
_ROUBLES = ("BTC", "ETH", "XMR")

SYMBOLS = (
    *RATES,
    *(SeedSymbol(base=base, quote=quote) for base in ASSETS for quote in ("USDT", "USD")),
    *(SeedSymbol(base=base, quote="KRW", min_sources=1) for base in _WON),
    *(
        SeedSymbol(base=base, quote="RUB", min_sources=1, derived_from=f"{base}/USD")
        for base in _ROUBLES
    ),
)


def _spell(exchange: str, base: str, quote: str) -> str:
    return _SPELLING[exchange].format(base=base, quote=quote)


def _listings() -> tuple[SeedListing, ...]:
    made = []
    for symbol in SYMBOLS:
        if symbol.derived_from:
            venues = []
        elif symbol.is_rate:
            venues = [(name, quote) for name, quote in _RATE_LISTED if quote == symbol.quote]
        elif symbol.quote == "KRW":
            venues = [("upbit", "KRW")]
        else:
            venues = [venue for venue, assets in _LISTED.items() if symbol.base in assets]
        made += [
            SeedListing(
                exchange=exchange,
                exchange_symbol=_spell(exchange, symbol.base, quote),
                symbol=symbol.name,
                quote=quote,
            )
            for exchange, quote in venues
        ]
    return tuple(made)


LISTINGS = _listings()


@cache
def _spellings() -> frozenset[tuple[str, str]]:
    return frozenset((listing.exchange, listing.exchange_symbol) for listing in LISTINGS)


def is_listed(exchange: str, exchange_symbol: str) -> bool:
    """Is this exchange symbol, in the spelling of our listings, one of ours?"""
    return (exchange, exchange_symbol) in _spellings()
