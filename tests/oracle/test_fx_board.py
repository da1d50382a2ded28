from decimal import Decimal

from oracle import fx_board
from oracle.fx_board import FxQuote

NOW = 1_800_000_000_000


def quote(base="USD", rate="81.25", *, source="cbr", as_of_ms=NOW, **other):
    fields = {
        "base": base,
        "quote": "RUB",
        "rate": Decimal(rate),
        "nominal": 1,
        "date": "2027-01-15",
        "as_of_ms": as_of_ms,
        "fetched_ms": NOW,
        "source": source,
        "simulated": False,
    }
    return FxQuote(**{**fields, **other})


def test_quotes_are_read_as_they_were_published():
    fx_board.publish("cbr", [quote(), quote("EUR", "0.00000123")])
    assert sorted(fx_board.read(), key=lambda each: each.base) == [
        quote("EUR", "0.00000123"),
        quote(),
    ]
    assert quote().symbol == "USD/RUB"


def test_what_a_source_no_longer_names_is_gone_and_others_stay():
    fx_board.publish("cbr", [quote(), quote("EUR")])
    fx_board.publish("ecb", [quote("EUR", source="ecb")])
    fx_board.publish("cbr", [quote(rate="82")])
    found = {(each.source, each.base): each.rate for each in fx_board.read()}
    assert found == {("cbr", "USD"): Decimal(82), ("ecb", "EUR"): Decimal("81.25")}


def test_publishing_nothing_takes_nothing_away():
    fx_board.publish("cbr", [quote()])
    fx_board.publish("cbr", [])
    assert fx_board.read() == [quote()]


def test_quotes_of_the_other_world_are_not_there(settings):
    fx_board.publish("cbr", [quote(simulated=True)])
    assert fx_board.read() == []
    settings.SIMULATED = True
    assert len(fx_board.read()) == 1
