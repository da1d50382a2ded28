import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from django.db import OperationalError

from ingestion import fx, http
from ingestion.adapter import Answer, UnreadableError
from ingestion.fx import Outcome, Row, daily_request, parse_daily
from ingestion.http import FetchError
from ingestion.models import FxRate
from oracle import fx_board, heartbeat, metrics
from oracle.fx_board import FxQuote
from oracle.values import ErrorCode

D = Decimal
HOUR = 3_600_000
# Saturday 2026-11-21 09:30 in Moscow.
NOW = int(datetime(2026, 11, 21, 6, 30, tzinfo=UTC).timestamp()) * 1_000
SATURDAY = date(2026, 11, 21)


def valute(code="USD", nominal="1", value="81,2503", **others):
    fields = {"NumCode": "840", "CharCode": code, "Nominal": nominal, "Name": "Доллар США"}
    fields |= {"Value": value, **others}
    inner = "".join(f"<{name}>{text}</{name}>" for name, text in fields.items() if text is not None)
    return f'<Valute ID="R01235">{inner}</Valute>'


def body(*rows, day="21.11.2026", head='<?xml version="1.0" encoding="windows-1251"?>'):
    text = f'{head}<ValCurs Date="{day}" name="Foreign Currency Market">{"".join(rows)}</ValCurs>'
    return text.encode("windows-1251")


def parse(text, status=200):
    return parse_daily(Answer(body=text, received_ms=NOW, status=status), now_ms=NOW)


# --- reading ---


def test_a_rate_is_the_value_of_one_unit():
    parsed = parse(
        body(valute(), valute("JPY", "100", "51,7733"), valute("KRW", "1000", "57,6119"))
    )
    assert parsed.values == (
        Row(base="USD", nominal=1, value=D("81.2503"), day=SATURDAY),
        Row(base="JPY", nominal=100, value=D("51.7733"), day=SATURDAY),
        Row(base="KRW", nominal=1000, value=D("57.6119"), day=SATURDAY),
    )
    assert [row.rate for row in parsed.values] == [D("81.2503"), D("0.517733"), D("0.0576119")]
    assert parsed.unresolved == ()


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (valute(value=None), ErrorCode.MISSING_FIELD),
        (valute(nominal=None), ErrorCode.MISSING_FIELD),
        (valute(value=""), ErrorCode.BAD_PRICE),
        (valute(value="81.2503"), ErrorCode.BAD_PRICE),
        (valute(value="1 081,25"), ErrorCode.BAD_PRICE),
        (valute(value="-81,25"), ErrorCode.BAD_PRICE),
        (valute(value="NaN"), ErrorCode.BAD_PRICE),
        (valute(value="0,0000"), ErrorCode.BAD_PRICE),
        (valute(nominal="0"), ErrorCode.BAD_PRICE),
        (valute(nominal="1,5"), ErrorCode.BAD_PRICE),
        (valute(nominal="1" * 20), ErrorCode.BAD_PRICE),
        (valute(code="usd"), ErrorCode.BAD_ROW),
        (valute(code="RUB"), ErrorCode.BAD_ROW),
        (valute(code=""), ErrorCode.BAD_ROW),
        ("<Valute/>", ErrorCode.BAD_ROW),
        (valute("EUR", value="1,0"), ErrorCode.BAD_ROW),  # named a second time
    ],
)
def test_a_bad_row_is_named_and_costs_only_itself(row, code):
    parsed = parse(body(valute("EUR"), row, valute("CNY")))
    assert [row.base for row in parsed.values] == ["EUR", "CNY"]
    assert [row.code for row in parsed.unresolved] == [code]


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html>maintenance</html>",
        b"{}",
        "<ValCurs>Error in parameters</ValCurs>".encode("windows-1251"),
        body(valute())[:-20],
        body(valute(), day="31.02.2026"),
        body(valute(), day="2026-11-21"),
        body(valute(), head=BOMB),
        body(valute(), head='<?xml version="1.0"?><!DOCTYPE a SYSTEM "file:///etc/passwd">'),
        body(valute()).decode("windows-1251").encode("utf-16"),
        b"\x98" + body(valute()),
        body(valute(Name="x" * 1_000_000)),
    ],
    ids=range(12),
)
def test_what_is_no_table_is_unreadable(text):
    with pytest.raises(UnreadableError):
        parse(text)


@pytest.mark.parametrize(
    ("status", "code"), [(503, ErrorCode.BUSY), (500, ErrorCode.EXCHANGE_ERROR)]
)
def test_an_error_status_is_a_refusal(status, code):
    assert parse(body(valute()), status=status).refusal.code == code


def test_rates_of_a_day_to_come_are_refused():
    assert parse(body(valute(), day="22.11.2026")).refusal.code == ErrorCode.BAD_TIME


def test_the_rates_in_force_today_in_moscow_are_asked_for():
    late = int(datetime(2026, 11, 21, 21, 30, tzinfo=UTC).timestamp()) * 1_000
    assert daily_request(now_ms=NOW).params == (("date_req", "21/11/2026"),)
    assert daily_request(now_ms=late).params == (("date_req", "22/11/2026"),)


# --- fetching ---


@pytest.fixture
def bank(monkeypatch):
    """What stands in for the HTTP client: answers ``replies`` in turn, then again the last."""
    asked, replies = [], [body(valute(), valute("JPY", "100", "51,7733"))]

    def send(source, base_url, request, *, now_ms):
        asked.append(base_url + request.path)
        reply = replies[0] if len(replies) == 1 else replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return Answer(body=reply, received_ms=now_ms + 80)

    monkeypatch.setattr(http, "send", send)
    return asked, replies


@pytest.mark.django_db
def test_rates_are_published_and_stored(bank):
    assert fx.fetch(now_ms=NOW) == Outcome(stored_count=2)
    assert bank[0] == ["https://www.cbr.ru/scripts/XML_daily.asp"]
    begins = int(datetime(2026, 11, 20, 21, tzinfo=UTC).timestamp()) * 1_000
    assert {quote.symbol: quote for quote in fx_board.read()} == {
        f"{base}/RUB": FxQuote(
            base=base,
            quote="RUB",
            rate=D(rate),
            nominal=nominal,
            date="2026-11-21",
            as_of_ms=begins,
            fetched_ms=NOW + 80,
            source="cbr",
            simulated=False,
        )
        for base, rate, nominal in (("USD", "81.2503", 1), ("JPY", "0.517733", 100))
    }
    stored = FxRate.objects.get(base="JPY")
    assert (stored.rate, stored.nominal, stored.date) == (D("0.517733"), 100, SATURDAY)
    assert (stored.source, stored.quote) == ("cbr", "RUB")
    assert str(stored) == "JPY/RUB 2026-11-21"
    assert heartbeat.last(["fx"])["fx"] == {"at_ms": NOW, "rates": 2, "date": "2026-11-21"}


@pytest.mark.django_db
def test_once_an_hour_and_the_same_day_is_brought_up_to_date(bank):
    asked, replies = bank
    fx.fetch(now_ms=NOW)
    assert fx.fetch(now_ms=NOW + 60_000).skipped
    replies[:] = [body(valute(value="90,5"))]
    assert fx.fetch(now_ms=NOW + HOUR).stored_count == 1
    assert len(asked) == 2
    assert FxRate.objects.get(base="USD").rate == D("90.5")
    assert [quote.symbol for quote in fx_board.read()] == ["USD/RUB"]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (FetchError(ErrorCode.TIMEOUT, "slow"), ErrorCode.TIMEOUT),
        (b"<html>", ErrorCode.UNREADABLE),
        (body(), ErrorCode.UNREADABLE),
        (body(valute(value="?")), ErrorCode.UNREADABLE),
        (body(valute(), day="22.11.2026"), ErrorCode.BAD_TIME),
    ],
)
def test_each_failure_has_a_code_and_makes_no_rate_and_is_tried_again(bank, reply, code):
    asked, replies = bank
    replies[:] = [reply]
    before = metrics.INGESTION_ERRORS.labels("cbr", code.value)._value.get()
    assert fx.fetch(now_ms=NOW).code == code
    assert metrics.INGESTION_ERRORS.labels("cbr", code.value)._value.get() == before + 1
    assert fx_board.read() == []
    fx.fetch(now_ms=NOW + 60_000)
    assert len(asked) == 2


def test_a_database_that_is_away_does_not_stop_a_rate(bank, monkeypatch):
    def away(*args, **options):
        raise OperationalError("away")

    monkeypatch.setattr(fx, "store", away)
    assert fx.fetch(now_ms=NOW) == Outcome(stored_count=2)
    assert len(fx_board.read()) == 2


@pytest.mark.django_db
def test_the_simulated_bank_is_read(settings):
    command = [sys.executable, "-m", "ingestion.simulator", "--port", "0", "--seed", "7"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=settings.BASE_DIR) as run:
        assert run.stdout is not None
        settings.SIMULATOR_URL = run.stdout.readline().split()[-1]
        settings.SIMULATED = True
        settings.HTTP_TOTAL_TIMEOUT_MS = 5_000
        now_ms = int(datetime.now(UTC).timestamp() * 1_000)
        outcome = fx.fetch(now_ms=now_ms)
        run.terminate()
    assert (outcome.stored_count, outcome.code) == (8, None)
    rates = {quote.base: quote.rate for quote in fx_board.read()}
    assert 50 < rates["USD"] < 150
    assert D("0.01") < rates["KRW"] < 1
