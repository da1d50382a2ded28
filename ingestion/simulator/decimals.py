"""Integers of a known scale as decimal text: nothing on the wire was ever a float."""


def fixed(units: int, scale: int, *, places: int = 0) -> str:
    """Return units·10^-scale with at least ``places`` digits after the point.

    A negative scale counts whole thousands and the like (Upbit's KRW-BTC moves by 1000).
    """
    if scale < 0:
        units, scale = units * 10**-scale, 0
    if places > scale:
        units, scale = units * 10 ** (places - scale), places
    if scale == 0:
        return str(units)
    digits = str(abs(units)).zfill(scale + 1)
    sign = "-" if units < 0 else ""
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}"


def trimmed(units: int, scale: int) -> str:
    """Return units·10^-scale without trailing zeros: 95000.10 becomes 95000.1."""
    text = fixed(units, scale)
    return text.rstrip("0").rstrip(".") if "." in text else text


def ratio(numerator: int, denominator: int, *, places: int) -> str:
    """Return numerator/denominator cut to ``places`` digits; 0 for an empty denominator."""
    if denominator == 0:
        return fixed(0, places)
    sign = -1 if (numerator < 0) != (denominator < 0) else 1
    return fixed(sign * (abs(numerator) * 10**places // abs(denominator)), places)
