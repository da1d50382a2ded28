"""Times as the exchanges write them."""

from datetime import UTC, datetime, timedelta, timezone

KST = timezone(timedelta(hours=9))


def utc(ms: int) -> datetime:
    """Return an aware datetime; out of range is the caller's mistake."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)


def iso_seconds(ms: int) -> str:
    """Return 2026-09-02T07:46:20, without a zone."""
    return utc(ms).strftime("%Y-%m-%dT%H:%M:%S")


def iso_micros(ms: int, *, micros: int) -> str:
    """Return 2026-07-07T22:58:16.156605Z."""
    return f"{iso_seconds(ms)}.{ms % 1000:03d}{micros:03d}Z"


def parsed_iso(text: str) -> int:
    """Return the ms of an ISO 8601 text, UTC when it names no zone; ValueError otherwise."""
    moment = datetime.fromisoformat(text.strip().replace(" ", "+"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def trade_micros(number: int) -> int:
    """Return the microseconds of a trade beyond its millisecond: 0..999, the same each time."""
    return number * 7919 % 1000
