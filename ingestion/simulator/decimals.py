"""Integers of a known scale as decimal text: nothing on the wire was ever a float."""

from collections.abc import Callable
from functools import lru_cache


def fixed(units: int, scale: int, *, places: int = 0) -> str:
    """Return units·10^-scale with at least ``places`` digits after the point.

    A negative scale counts whole thousands and the like (Upbit's KRW-BTC moves by 1000).
    """
    return writer(scale, places=places)(units)


@lru_cache(maxsize=256)
def writer(scale: int, *, places: int = 0) -> Callable[[int], str]:
    """Return `fixed` of one scale: who writes thousands asks for it once."""
    if scale <= 0:
        times, point = 10**-scale, "." + "0" * places if places > 0 else ""
        return lambda units: f"{units * times}{point}"
    one, text = 10**scale, f"%d.%0{scale}d" + "0" * (places - scale)

    def write(units: int) -> str:
        return text % divmod(units, one) if units >= 0 else f"-{text % divmod(-units, one)}"

    return write


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
