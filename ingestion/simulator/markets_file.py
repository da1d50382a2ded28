"""``--markets FILE.json``: more markets, or other ones.

::

    {
      "replace": false,
      "assets": {"AAA": {"usd": "1.25", "volatility_percent": 150, "activity_permille": 800}},
      "listings": [{"exchange": "binance", "base": "AAA", "quote": "USDT",
                    "exchange_symbol": "AAAUSDT"}],
      "generate": {"count": 2000, "exchanges": ["binance", "okx"], "quote": "USDT",
                   "activity_permille": 1000}
    }

All keys are optional. ``replace`` drops the default listings (the default assets stay known).
``exchange_symbol`` defaults to the exchange's usual spelling. ``generate`` adds ``count`` assets
T0001, T0002, ... against ``quote`` on each exchange named, for load tests.
"""

import json
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from ingestion.simulator.assets import EXCHANGES
from ingestion.simulator.markets import Asset, Listing, Markets, default_markets, make_listing
from ingestion.simulator.noise import key_of

MAX_GENERATED = 20_000
_KEYS = {"replace", "assets", "listings", "generate"}
_ASSET_KEYS = {"usd", "volatility_percent", "activity_permille"}
_LISTING_KEYS = {"exchange", "base", "quote", "exchange_symbol"}
_GENERATE_KEYS = {"count", "exchanges", "quote", "activity_permille"}


def load_markets(path: Path) -> Markets:
    """Return the default markets changed by a file; ValueError says what is wrong in it."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise ValueError(f"cannot read {path}: {problem.strerror}") from problem
    except ValueError as problem:
        raise ValueError(f"{path} is not JSON: {problem}") from problem
    return changed_markets(body)


def changed_markets(body: object) -> Markets:
    """Return the default markets changed by a parsed file."""
    fields = checked(body, allowed=_KEYS, where="the file")
    defaults = default_markets()
    assets = dict(defaults.assets)
    for name, row in checked(fields.get("assets", {}), allowed=None, where="assets").items():
        assets[name] = read_asset(name, row)
    listings = [] if fields.get("replace", False) else list(defaults)
    for index, row in enumerate(fields.get("listings", [])):
        listings.append(read_listing(row, assets=assets, where=f"listings[{index}]"))
    if "generate" in fields:
        listings += generated(fields["generate"], assets=assets)
    return Markets(assets=assets, listings=listings)


def checked(value: object, *, allowed: set[str] | None, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a JSON object")
    unknown = set(value) - allowed if allowed is not None else set()
    if unknown:
        raise ValueError(f"{where}: unknown key {sorted(unknown)[0]!r}")
    return value


def read_asset(name: str, row: object) -> Asset:
    fields = checked(row, allowed=_ASSET_KEYS, where=f"assets.{name}")
    try:
        usd = Decimal(str(fields["usd"]))
    except (KeyError, InvalidOperation) as problem:
        raise ValueError(f"assets.{name}: usd must be a decimal number") from problem
    return Asset(
        name=name,
        usd=usd,
        volatility_percent=int(fields.get("volatility_percent", 150)),
        activity_permille=int(fields.get("activity_permille", 1000)),
    )


def read_listing(row: object, *, assets: dict[str, Asset], where: str) -> Listing:
    fields = checked(row, allowed=_LISTING_KEYS, where=where)
    if fields.get("exchange") not in EXCHANGES:
        raise ValueError(f"{where}: exchange must be one of {', '.join(EXCHANGES)}")
    for side in ("base", "quote"):
        if fields.get(side) not in assets:
            raise ValueError(f"{where}: {side} {fields.get(side)!r} is not an asset")
    return make_listing(
        exchange=fields["exchange"],
        base=assets[fields["base"]],
        quote=assets[fields["quote"]],
        exchange_symbol=fields.get("exchange_symbol"),
    )


def generated(row: object, *, assets: dict[str, Asset]) -> list[Listing]:
    """Return T0001... listings, adding their assets."""
    fields = checked(row, allowed=_GENERATE_KEYS, where="generate")
    count, quote = int(fields.get("count", 0)), fields.get("quote", "USDT")
    exchanges = fields.get("exchanges", list(EXCHANGES))
    if not 1 <= count <= MAX_GENERATED:
        raise ValueError(f"generate: count must be within 1..{MAX_GENERATED}")
    if quote not in assets:
        raise ValueError(f"generate: quote {quote!r} is not an asset")
    if not isinstance(exchanges, list) or not set(exchanges) <= set(EXCHANGES):
        raise ValueError(f"generate: exchanges must be among {', '.join(EXCHANGES)}")
    for index in range(1, count + 1):
        name = f"T{index:04d}"
        assets[name] = Asset(
            name=name,
            usd=Decimal(key_of("price", name) % 9_000 + 1_000).scaleb(-(index % 6)),
            volatility_percent=150,
            activity_permille=int(fields.get("activity_permille", 1000)),
        )
    return [
        make_listing(exchange=exchange, base=assets[f"T{index:04d}"], quote=assets[quote])
        for exchange in exchanges
        for index in range(1, count + 1)
    ]
