"""Answers and refusals every REST file uses."""

import json
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from ingestion.simulator.venue import Venue

Handler = Callable[[Venue, web.Request], Awaitable[web.Response]]
Route = tuple[str, str, Handler]


class Refused(Exception):
    """The exchange's own error answer."""

    def __init__(self, text: str, *, status: int = 400, headers: Mapping[str, str] | None = None):
        super().__init__(text)
        self.text = text
        self.status = status
        self.headers = headers

    def response(self) -> web.Response:
        return reply(self.text, status=self.status, headers=self.headers)


def reply(
    text: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a JSON answer from finished text: numbers keep their digits."""
    return web.Response(
        body=text.encode(), status=status, headers=headers, content_type="application/json"
    )


def dumped(value: object) -> str:
    """Return compact JSON, for whatever holds no decimal."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def listed(texts: list[str]) -> str:
    """Return a JSON array of finished texts."""
    return f"[{','.join(texts)}]"


def whole_number(text: str | None) -> int | None:
    """Return a non-negative integer; None when absent, ValueError when it is anything else."""
    if text is None or text == "":
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 20:
        raise ValueError(f"not a whole number: {text[:40]!r}")
    return int(text)
