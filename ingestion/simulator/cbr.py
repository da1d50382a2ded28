"""The Central Bank of Russia's daily rates: windows-1251, decimal commas, nominals.

https://www.cbr.ru/scripts/XML_daily.asp, format described at https://www.cbr.ru/development/sxml/
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone

from aiohttp import web

from ingestion.simulator.decimals import fixed
from ingestion.simulator.noise import key_of, mix

MOSCOW = timezone(timedelta(hours=3))
SATURDAY = 5
# code: (id, number, nominal, name, roubles for the nominal in 1/10000)
CURRENCIES = {
    "USD": ("R01235", "840", 1, "Доллар США", 801_234),
    "EUR": ("R01239", "978", 1, "Евро", 869_350),
    "CNY": ("R01375", "156", 1, "Юань", 112_345),
    "GBP": ("R01035", "826", 1, "Фунт стерлингов", 1_050_211),
    "TRY": ("R01700J", "949", 10, "Турецких лир", 189_412),
    "KZT": ("R01335", "398", 100, "Тенге", 153_028),
    "JPY": ("R01820", "392", 100, "Иен", 517_733),
    "KRW": ("R01815", "410", 1000, "Вон", 576_119),
}
_SWING_PPM = 12_000


async def daily(request: web.Request) -> web.Response:
    """GET /cbr/scripts/XML_daily.asp[?date_req=dd/mm/yyyy]."""
    asked = request.query.get("date_req")
    seed, now_ms = request.app[SEED], request.app[CLOCK]()
    if asked:
        try:
            day = datetime.strptime(asked, "%d/%m/%Y").replace(tzinfo=UTC).date()
        except ValueError:
            return xml("<ValCurs>Error in parameters</ValCurs>")
    else:
        day = datetime.fromtimestamp(now_ms / 1000, MOSCOW).date()
    return xml(day_text(fixing_day(day), seed=seed))


SEED = web.AppKey("cbr_seed", int)
CLOCK: web.AppKey[Callable[[], int]] = web.AppKey("cbr_clock")


def fixing_day(day: date) -> date:
    """Return the day whose rates hold: Sunday and Monday live on Saturday's."""
    behind = (day.weekday() - SATURDAY) % 7
    return day - timedelta(days=behind) if behind in (1, 2) else day


def day_text(day: date, *, seed: int) -> str:
    rows = "".join(currency_row(code, day=day, seed=seed) for code in CURRENCIES)
    return f'<ValCurs Date="{day:%d.%m.%Y}" name="Foreign Currency Market">{rows}</ValCurs>'


def currency_row(code: str, *, day: date, seed: int) -> str:
    identity, number, nominal, name, reference = CURRENCIES[code]
    value = rate(code, day=day, seed=seed, reference=reference)
    per_unit = fixed(value * 10_000 // nominal, 8).rstrip("0").replace(".", ",")
    return (
        f'<Valute ID="{identity}"><NumCode>{number}</NumCode><CharCode>{code}</CharCode>'
        f"<Nominal>{nominal}</Nominal><Name>{name}</Name>"
        f"<Value>{fixed(value, 4).replace('.', ',')}</Value><VunitRate>{per_unit}</VunitRate>"
        "</Valute>"
    )


def rate(code: str, *, day: date, seed: int, reference: int) -> int:
    """Return the roubles of a nominal in 1/10000, moving a little from day to day."""
    noise = mix(key_of(seed, "cbr", code), day.toordinal()) % (2 * _SWING_PPM) - _SWING_PPM
    return reference * (1_000_000 + noise) // 1_000_000


def xml(body: str) -> web.Response:
    text = f'<?xml version="1.0" encoding="windows-1251"?>{body}'
    return web.Response(
        body=text.encode("cp1251"),
        headers={"Content-Type": "application/xml; charset=windows-1251"},
    )
