"""POST /netron/authenticate: a user's name and password for the token of the REST API."""

from __future__ import annotations

from typing import Any, TypeGuard

from django.contrib.auth import authenticate
from rest_framework.authtoken.models import Token

from prices.rpc.errors import RpcError

MAX_LENGTH = 256


def read_credentials(given: dict[str, Any]) -> tuple[str, str]:
    """Name and password, wherever a client puts them. Raises RpcError."""
    found: Any = given.get("credentials", given.get("input", given))
    if isinstance(found, list):
        found = found[0] if found else None
    if isinstance(found, dict):
        name, password = found.get("username"), found.get("password")
        if _is_given(name) and _is_given(password):
            return name, password
    raise RpcError.bad_request('credentials must be {"username": …, "password": …}')


def _is_given(value: Any) -> TypeGuard[str]:
    # PostgreSQL takes no NUL in a text.
    return isinstance(value, str) and 0 < len(value) <= MAX_LENGTH and "\0" not in value


def token_of(name: str, password: str) -> dict[str, Any]:
    """The token of a user. Raises RpcError, 401. Waits for the database."""
    user = authenticate(username=name, password=password)
    if user is None:
        raise RpcError(401, "401", "there is no such user with this password")
    token, _ = Token.objects.get_or_create(user=user)
    return {
        "token": token.key,
        "tokenType": "Bearer",
        "user": {"username": user.get_username(), "isStaff": user.is_staff},
    }
