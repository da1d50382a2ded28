"""The central bank's daily page: its encoding, commas, nominals and dates."""

from xml.etree import ElementTree


def rates(body: bytes) -> dict[str, dict[str, str]]:
    root = ElementTree.fromstring(body)
    return {
        row.findtext("CharCode", ""): {field.tag: field.text or "" for field in row}
        for row in root.findall("Valute")
    }


def test_page_is_windows_1251_with_comma_decimals_and_nominals(ask):
    answer = ask("cbr/scripts/XML_daily.asp")
    assert answer.headers["content-type"] == "application/xml; charset=windows-1251"
    assert "Доллар США".encode("cp1251") in answer.body
    found = rates(answer.body)
    assert set(found) >= {"USD", "EUR", "CNY", "KZT", "JPY", "KRW"}
    assert {row["Nominal"] for row in found.values()} >= {"1", "10", "100"}
    for row in found.values():
        value, unit = (float(row[name].replace(",", ".")) for name in ("Value", "VunitRate"))
        assert abs(unit * int(row["Nominal"]) - value) < 1e-4
        assert "," in row["Value"] and "." not in row["Value"]
    assert 70 < float(found["USD"]["Value"].replace(",", ".")) < 90


def test_page_is_dated_today_and_the_day_asked_for(ask):
    def date(**query) -> str:
        return ElementTree.fromstring(ask("cbr/scripts/XML_daily.asp", **query).body).attrib["Date"]

    assert date() == "21.11.2026"
    assert date(date_req="19/11/2026") == "19.11.2026"
    # Sunday and Monday live on Saturday's rates.
    assert date(date_req="22/11/2026") == "21.11.2026"
    assert date(date_req="23/11/2026") == "21.11.2026"


def test_rates_differ_by_day_and_repeat_for_the_same_day(ask):
    def dollar(day: str) -> str:
        return rates(ask("cbr/scripts/XML_daily.asp", date_req=day).body)["USD"]["Value"]

    assert dollar("19/11/2026") == dollar("19/11/2026") != dollar("20/11/2026")


def test_unreadable_date_is_refused_as_the_bank_does(ask):
    answer = ask("cbr/scripts/XML_daily.asp", date_req="2026-11-19")
    assert ElementTree.fromstring(answer.body).text == "Error in parameters"
