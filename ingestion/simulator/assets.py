"""What there is to trade: reference values, temperaments, and who lists what."""

# asset: (reference value in USD, volatility in percent of an ordinary coin, activity in permille)
ASSETS: dict[str, tuple[str, int, int]] = {
    "USD": ("1", 0, 1000),
    "EUR": ("1.0850", 4, 1000),
    # 1390 KRW to the USDT below.
    "KRW": ("0.000719064748", 3, 1000),
    "USDT": ("0.9995", 1, 1000),
    "USDC": ("1.0000", 1, 900),
    "DAI": ("0.9998", 1, 300),
    "BTC": ("95000", 100, 2500),
    "ETH": ("3300", 120, 2000),
    "SOL": ("185", 150, 1500),
    "XRP": ("2.15", 140, 1400),
    "BNB": ("650", 100, 1000),
    "ADA": ("0.72", 150, 1000),
    "DOGE": ("0.21", 160, 1200),
    "TRX": ("0.27", 90, 800),
    "AVAX": ("28", 150, 900),
    "LINK": ("15.5", 150, 900),
    "DOT": ("4.8", 140, 800),
    "LTC": ("95", 110, 800),
    "BCH": ("420", 120, 700),
    "XLM": ("0.28", 150, 700),
    "UNI": ("8.2", 150, 700),
    "ATOM": ("4.9", 140, 600),
    "NEAR": ("3.1", 160, 700),
    "APT": ("6.1", 160, 600),
    "ARB": ("0.42", 160, 600),
    "OP": ("0.85", 160, 600),
    "FIL": ("3.6", 140, 500),
    "ETC": ("19.5", 130, 500),
    "AAVE": ("210", 150, 500),
    "SHIB": ("0.0000091", 170, 700),
    "PEPE": ("0.00000123", 190, 900),
    "XMR": ("235", 90, 500),
    "SUI": ("2.9", 170, 900),
    "TON": ("3.4", 130, 600),
    "HBAR": ("0.18", 150, 400),
    "ICP": ("5.4", 150, 300),
    "ALGO": ("0.21", 150, 300),
    "INJ": ("11.2", 160, 300),
    "SEI": ("0.23", 160, 250),
    "TIA": ("3.3", 160, 250),
    "STX": ("0.81", 160, 200),
    "CRV": ("0.52", 160, 200),
    "WIF": ("0.62", 190, 300),
    "BONK": ("0.000017", 190, 300),
    # Quiet markets: minutes without a trade, sometimes ten in a row.
    "GRT": ("0.101", 140, 60),
    "SAND": ("0.29", 140, 50),
    "MANA": ("0.31", 140, 40),
    "AXS": ("3.5", 140, 40),
    "ZRX": ("0.33", 130, 25),
    "BAT": ("0.19", 130, 20),
}

EXCHANGES = ("binance", "upbit", "kraken", "coinbase", "okx", "bybit", "kucoin")

_FIAT = ("USD", "EUR", "KRW")
COINS = tuple(asset for asset in ASSETS if asset not in _FIAT and asset != "USDT")

ABSENT: dict[str, frozenset[str]] = {
    "binance": frozenset({"XMR"}),
    "upbit": frozenset({"XMR", "BNB", "LTC", "TON", "FIL", "ICP", "DAI", "OP", "WIF"}),
    "kraken": frozenset(),
    "coinbase": frozenset({"XMR", "BNB", "TRX", "TON", "USDC"}),
    "okx": frozenset({"XMR", "BNB", "ZRX", "DAI"}),
    "bybit": frozenset({"XMR", "ZRX"}),
    "kucoin": frozenset(),
}

MAIN_QUOTE = {
    "binance": "USDT",
    "upbit": "KRW",
    "kraken": "USD",
    "coinbase": "USD",
    "okx": "USDT",
    "bybit": "USDT",
    "kucoin": "USDT",
}

# Pairs besides coin/main quote: stable coins, fiat, crosses.
EXTRA_PAIRS: dict[str, str] = {
    "binance": "BTC/USDC ETH/USDC SOL/USDC BTC/EUR ETH/EUR EUR/USDT "
    "ETH/BTC SOL/BTC XRP/BTC LTC/BTC",
    "upbit": "USDT/KRW BTC/USDT ETH/USDT XRP/USDT SOL/USDT DOGE/USDT ETH/BTC XRP/BTC SOL/BTC",
    "kraken": "USDT/USD BTC/USDT ETH/USDT SOL/USDT XRP/USDT DOGE/USDT XMR/USDT ADA/USDT LTC/USDT "
    "BCH/USDT DOT/USDT LINK/USDT "
    "BTC/EUR ETH/EUR XMR/EUR USDT/EUR ETH/BTC XMR/BTC",
    "coinbase": "USDT/USD BTC/EUR ETH/EUR BTC/USDT ETH/USDT ETH/BTC",
    "okx": "BTC/USDC ETH/USDC ETH/BTC SOL/BTC",
    "bybit": "BTC/USDC ETH/USDC SOL/USDC ETH/BTC",
    "kucoin": "BTC/USDC ETH/USDC ETH/BTC XMR/BTC",
}

# A cross trades less than its coin does against the main quote.
CROSS_ACTIVITY_PERMILLE = 300
