"""What a call may be answered instead: a code that clients know, an HTTP status, a message.

Business codes are texts such as PRICE_1001, repeated in ``details.errorCode`` for the client that
reads ``code`` as a number. What is no business of ours has its HTTP status for a code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PAIR_NOT_FOUND = "PRICE_1001"
PRICE_UNAVAILABLE = "PRICE_1002"
PRICE_STALE = "PRICE_1003"
CHART_NO_DATA = "CHART_2001"
CHART_BAD_RANGE = "CHART_2002"
CHART_BAD_INTERVAL = "CHART_2003"
BAD_PAIR = "VALIDATION_4001"
BAD_PERIOD = "VALIDATION_4002"
BAD_DATE = "VALIDATION_4003"
BAD_NUMBER = "VALIDATION_4004"
DATABASE_AWAY = "SYSTEM_5001"
REDIS_AWAY = "SYSTEM_5002"
INTERNAL = "SYSTEM_5003"

_STATUSES = {
    PAIR_NOT_FOUND: 404,
    PRICE_UNAVAILABLE: 503,
    PRICE_STALE: 503,
    CHART_NO_DATA: 404,
    DATABASE_AWAY: 503,
    REDIS_AWAY: 503,
    INTERNAL: 500,
}
_INVALID = 422  # everything else that has a code


class RpcError(Exception):
    """An answer that is an error."""

    retryable = False

    def __init__(
        self, status: int, code: str, message: str, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = dict(details or {})

    @classmethod
    def of(cls, code: str, message: str, **details: Any) -> RpcError:
        """A business error."""
        status = _STATUSES.get(code, _INVALID)
        return cls(status, code, message, {"errorCode": code, **details})

    @classmethod
    def bad_request(cls, message: str, **details: Any) -> RpcError:
        """The envelope cannot be understood."""
        return cls(400, "400", message, details)

    @classmethod
    def not_found(cls, message: str, **details: Any) -> RpcError:
        """No such service, version or method."""
        return cls(404, "404", message, details)

    def body(self) -> dict[str, Any]:
        """As it stands in an answer."""
        return {"code": self.code, "message": self.message, "details": self.details}
