"""The demo must not ask the simulated exchanges for what they do not list."""

from ingestion.registry import ADAPTERS
from ingestion.simulator import markets
from market import seeds


def test_every_seeded_listing_is_traded_on_the_simulated_exchange():
    traded = {(each.exchange, each.symbol) for each in markets.default_markets()}
    missing = [
        (listing.exchange, listing.exchange_symbol)
        for listing in seeds.LISTINGS
        if (listing.exchange, ADAPTERS[listing.exchange].from_native(listing.exchange_symbol))
        not in traded
    ]
    assert missing == []
