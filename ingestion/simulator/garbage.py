"""Answers no parser should trust: what proxies, crashes and half-written bodies look like."""

import json

from aiohttp import web

from ingestion.simulator.faults import GARBAGE_CYCLE, Fault

CDN_PAGE = (
    "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>"
    "\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"
)
_TITLES = {500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Temporarily Unavailable",
           504: "Gateway Time-out"}  # fmt: skip
NOISE = bytes(range(255, 0, -3)) + b"\x00\xfe\x1f\x8b"


def error_page(status: int) -> web.Response:
    """Return a CDN's page for a 5xx."""
    title = f"{status} {_TITLES.get(status, 'Server Error')}"
    return web.Response(status=status, text=CDN_PAGE.format(title=title), content_type="text/html")


def next_shape(fault: Fault, exchange: str) -> str:
    """Return the shape of an exchange's next bad answer: the one asked for, or each in turn."""
    if fault.value is not None:
        return str(fault.value)
    shape = GARBAGE_CYCLE[fault.used[exchange] % len(GARBAGE_CYCLE)]
    fault.used[exchange] += 1
    return shape


def garbled(body: bytes, *, shape: str) -> bytes:
    """Return a body ruined in one way; shapes a lens makes (nan, negative, ...) are left alone."""
    if shape == "html":
        return CDN_PAGE.format(title="Just a moment...").encode()
    if shape == "half":
        return body[: len(body) // 2]
    if shape == "bytes":
        return NOISE
    if shape == "empty":
        return b""
    if shape == "null":
        return b"null"
    if shape == "types":
        return mistyped(body)
    return body


def mistyped(body: bytes) -> bytes:
    """Return the same JSON, each leaf of a wrong type: texts as objects, numbers as texts."""
    try:
        value = json.loads(body)
    except ValueError:
        return body
    return json.dumps(_mistyped(value)).encode()


def _mistyped(value: object) -> object:
    if isinstance(value, dict):
        return {key: _mistyped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_mistyped(item) for item in value]
    if isinstance(value, str):
        return {"value": value}
    if value is None or isinstance(value, bool):
        return [value]
    return "not a number"
