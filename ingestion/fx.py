"""Currency rates of the Central Bank of Russia: fetched each hour, kept, and shared.

Anything converted with them is worth no more than they are, so one that is malformed is no rate.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError

from ingestion import http
from ingestion.adapter import Answer, Parsed, Refusal, Request, UnreadableError, Unresolved
from ingestion.models import FxRate
from oracle import fx_board, heartbeat, metrics
from oracle.aggregation import EXACT, publishable
from oracle.fx_board import FxQuote
from oracle.values import MAX_PRICE, MIN_PRICE, ErrorCode

SOURCE = "cbr"
QUOTE = "RUB"
HOUR_MS = 3_600_000
MAX_BODY_BYTES = 1_000_000  # the real one has 10 kB
MOSCOW = timezone(timedelta(hours=3))  # without summer time since 2014

_DATE = re.compile(r"(\d{2})[./](\d{2})[./](\d{4})", re.ASCII)
_CODE = re.compile(r"[A-Z]{3}")
_NOMINAL = re.compile(r"[1-9][0-9]{0,8}")
_VALUE = re.compile(r"[0-9]{1,12}(?:,[0-9]{1,12})?")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the daily table: ``nominal`` units of ``base`` are ``value`` roubles."""

    base: str
    nominal: int
    value: Decimal
    day: date

    @property
    def rate(self) -> Decimal:
        """What one unit is worth."""
        return publishable(EXACT.divide(self.value, Decimal(self.nominal)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a fetch went: how many rates it stored, or why it did not."""

    stored_count: int = 0
    skipped: bool = False
    code: ErrorCode | None = None
    detail: str = ""


def is_due(*, now_ms: int) -> bool:
    """Was nothing fetched yet in this hour of the clock?"""
    fetched = [quote.fetched_ms for quote in fx_board.read() if quote.source == SOURCE]
    return not fetched or max(fetched) // HOUR_MS < now_ms // HOUR_MS


def fetch(*, now_ms: int) -> Outcome:
    """Fetch, publish and store the rates of today, once an hour however often it is called.

    Published before they are stored: a database that is away does not stop a price.
    """
    if not is_due(now_ms=now_ms):
        return Outcome(skipped=True)
    try:
        answer = http.send(SOURCE, _base_url(), daily_request(now_ms=now_ms), now_ms=now_ms)
        parsed = parse_daily(answer, now_ms=now_ms)
    except (http.FetchError, UnreadableError) as error:
        return _failed(error.code, str(error))
    if parsed.refusal is not None:
        return _failed(parsed.refusal.code, parsed.refusal.detail)
    for row in parsed.unresolved:
        metrics.INGESTION_ERRORS.labels(SOURCE, row.code.value).inc()
        log.warning("fx.bad_row", source=SOURCE, code=row.code.value, detail=row.detail)
    if not parsed.values:
        return _failed(ErrorCode.UNREADABLE, "not one rate in the answer")
    quotes = [_quote(row, answer.received_ms) for row in parsed.values]
    fx_board.publish(SOURCE, quotes)
    try:
        store(quotes)
    except (
        DatabaseError,
        InterfaceError,
    ) as error:  # the next hour's fetch writes the same day again
        log.error("fx.not_stored", source=SOURCE, error=str(error))
    heartbeat.beat("fx", now_ms=now_ms, rates=len(quotes), date=quotes[0].date)
    return Outcome(stored_count=len(quotes))


def daily_request(*, now_ms: int) -> Request:
    """What to ask for the rates in force today, in Moscow.

    Without a day the bank answers with tomorrow's from the afternoon on.
    """
    today = datetime.fromtimestamp(now_ms / 1_000, MOSCOW)
    return Request(path="/scripts/XML_daily.asp", params=(("date_req", f"{today:%d/%m/%Y}"),))


def parse_daily(answer: Answer, *, now_ms: int) -> Parsed[Row]:
    """Read the daily table, whose day is the last working day's on days off.

    <?xml version="1.0" encoding="windows-1251"?><ValCurs Date="21.11.2026" name="Foreign Currency
    Market"><Valute ID="R01820"><NumCode>392</NumCode><CharCode>JPY</CharCode><Nominal>100</Nominal>
    <Name>Иен</Name><Value>51,7733</Value><VunitRate>0,517733</VunitRate></Valute></ValCurs>

    https://www.cbr.ru/development/sxml/. Raises UnreadableError.
    """
    if answer.status != 200:
        busy = answer.status in (429, 503)
        code = ErrorCode.BUSY if busy else ErrorCode.EXCHANGE_ERROR
        return Parsed(refusal=Refusal(code=code, detail=f"HTTP {answer.status}"))
    root = _root(answer.body)
    day = _day(root.get("Date"))
    if day > datetime.fromtimestamp(now_ms / 1_000, MOSCOW).date():
        return Parsed(refusal=Refusal(code=ErrorCode.BAD_TIME, detail=f"rates of {day}: not yet"))
    values: dict[str, Row] = {}
    unresolved: list[Unresolved] = []
    for element in root.iterfind("Valute"):
        row = _row(element, day)
        if isinstance(row, Row) and row.base in values:
            row = _bad(ErrorCode.BAD_ROW, "named twice", row.base)
        if isinstance(row, Row):
            values[row.base] = row
        else:
            unresolved.append(row)
    return Parsed(values=tuple(values.values()), unresolved=tuple(unresolved))


def _root(body: bytes) -> Element:
    if len(body) > MAX_BODY_BYTES:
        raise UnreadableError(f"the table has {len(body)} bytes")
    try:
        text = body.decode("windows-1251")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"not windows-1251: {error}") from error
    # Without a document type there are no entities to expand, and so no entity bombs.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UnreadableError("the table has a document type")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise UnreadableError(f"not XML: {error}") from error
    if root.tag != "ValCurs":
        raise UnreadableError(f"the root is {root.tag[:40]}, not ValCurs")
    return root


def _day(text: str | None) -> date:
    found = _DATE.fullmatch(text or "")
    if found is None:
        raise UnreadableError(f"the table is of no day: {(text or '')[:40]!r}")
    day, month, year = map(int, found.groups())
    try:
        return date(year, month, day)
    except ValueError as error:
        raise UnreadableError(f"the table is of no day: {text!r}") from error


def _row(element: Element, day: date) -> Row | Unresolved:
    texts = {child.tag: (child.text or "").strip() for child in element}
    code = texts.get("CharCode", "")
    if not _CODE.fullmatch(code) or code == QUOTE:
        return _bad(ErrorCode.BAD_ROW, f"CharCode {code[:40]!r}", None)
    for name, pattern in (("Nominal", _NOMINAL), ("Value", _VALUE)):
        if not pattern.fullmatch(texts.get(name, "")):
            problem = ErrorCode.BAD_PRICE if name in texts else ErrorCode.MISSING_FIELD
            return _bad(problem, f"{code} {name} {texts.get(name, '')[:40]!r}", code)
    value = Decimal(texts["Value"].replace(",", "."))
    row = Row(base=code, nominal=int(texts["Nominal"]), value=value, day=day)
    if not MIN_PRICE <= row.rate < MAX_PRICE:
        return _bad(ErrorCode.BAD_PRICE, f"{code} Value {texts['Value']!r}", code)
    return row


def _bad(code: ErrorCode, detail: str, base: str | None) -> Unresolved:
    return Unresolved(code=code, detail=detail, exchange_symbol=base)


def _quote(row: Row, received_ms: int) -> FxQuote:
    begins = datetime(row.day.year, row.day.month, row.day.day, tzinfo=MOSCOW)
    return FxQuote(
        base=row.base,
        quote=QUOTE,
        rate=row.rate,
        nominal=row.nominal,
        date=row.day.isoformat(),
        as_of_ms=int(begins.timestamp()) * 1_000,
        fetched_ms=received_ms,
        source=SOURCE,
        simulated=settings.SIMULATED,
    )


def store(quotes: Sequence[FxQuote]) -> None:
    """Write rates to the database; those of a day that is there already are brought up to date."""
    FxRate.objects.bulk_create(
        (
            FxRate(
                source=quote.source,
                base=quote.base,
                quote=quote.quote,
                date=date.fromisoformat(quote.date),
                rate=quote.rate,
                nominal=quote.nominal,
                fetched_at=datetime.fromtimestamp(quote.fetched_ms / 1_000, UTC),
            )
            for quote in quotes
        ),
        update_conflicts=True,
        unique_fields=("source", "base", "quote", "date"),
        update_fields=("rate", "nominal", "fetched_at"),
    )


def _base_url() -> str:
    if settings.SIMULATOR_URL:
        return f"{settings.SIMULATOR_URL.rstrip('/')}/cbr"
    configured: str = settings.CBR_URL
    return configured.rstrip("/")


def _failed(code: ErrorCode, detail: str) -> Outcome:
    metrics.INGESTION_ERRORS.labels(SOURCE, code.value).inc()
    log.warning("fx.failed", source=SOURCE, code=code.value, detail=detail)
    return Outcome(code=code, detail=detail)
