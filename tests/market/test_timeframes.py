import pytest

from market.timeframes import UnknownTimeframeError, normalise


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *((name, name) for name in ("1m", "5m", "15m", "1h", "4h", "1d")),
        ("1min", "1m"),
        ("5min", "5m"),
        ("15min", "15m"),
        ("15 minutes", "15m"),
        ("60m", "1h"),
        ("60min", "1h"),
        ("1hour", "1h"),
        ("240m", "4h"),
        ("4H", "4h"),
        ("24h", "1d"),
        ("1day", "1d"),
        (" 1D ", "1d"),
        ("1440min", "1d"),
    ],
)
def test_normalise_takes_every_usual_spelling(text, name):
    assert normalise(text) == name


@pytest.mark.parametrize("text", ["", "1M", "2m", "1w", "m", "0m", "1.5h", "-1h", "١h", "1x"])
def test_normalise_refuses_what_we_do_not_keep(text):
    with pytest.raises(UnknownTimeframeError, match="there are 1m 5m 15m 1h 4h 1d"):
        normalise(text)
